"""Teachers by the words of the command line."""

from pathlib import Path

from st4rtrack.adapt.teachers.files import FileDepth, FileTracks, SourceSize
from st4rtrack.adapt.teachers.teacher import DepthTeacher, TrackTeacher
from st4rtrack.types import UserError

TRACK_WORDS = "flow, cotracker:PATH or FILE.npz"
DEPTH_WORDS = "none, triangulation, moge:PATH, transformers:FOLDER, transformers-inverse:FOLDER, FILE.npz or a folder of files"


def open_teachers(
    tracks: str, depth: str, *, device: str = "cpu", source: SourceSize | None = None
) -> tuple[TrackTeacher, DepthTeacher | None]:
    """The two teachers, by their words.

    Args:
        tracks: "flow"; "cotracker:PATH", a checkout, a hub cache or a checkpoint of CoTracker3; or the path of an .npz.
        depth: "none"; "triangulation"; "moge:PATH", weights of MoGe; "transformers:FOLDER", a depth model of Hugging Face, or
            "transformers-inverse:FOLDER" for one that predicts inverse depth; or the path of an .npz or of a folder of files.
        device: of PyTorch, for teachers that are networks.
        source: size of the source video and the way from its pixels to the network's, for files in source pixels.
    Raises:
        UserError: an unknown word, a path that does not exist, or a package that is not installed.
    """
    return _open_tracks(tracks, device, source), _open_depth(depth, device, source)


def _open_tracks(word: str, device: str, source: SourceSize | None) -> TrackTeacher:
    if word == "flow":
        from st4rtrack.adapt.teachers.flow import FlowTeacher

        return FlowTeacher()
    kind, _, path = word.partition(":")
    if kind == "cotracker":
        from st4rtrack.adapt.teachers.cotracker import CoTrackerTeacher

        return CoTrackerTeacher(_existing("--tracks", word, path), device)
    if Path(word).suffix == ".npz":
        return FileTracks(_existing("--tracks", word, word), source)
    raise UserError(f"--tracks is {TRACK_WORDS}, not {word!r}")


def _open_depth(word: str, device: str, source: SourceSize | None) -> DepthTeacher | None:
    if word == "none":
        return None
    if word == "triangulation":
        from st4rtrack.adapt.teachers.triangulation import TriangulationTeacher

        return TriangulationTeacher()
    kind, _, path = word.partition(":")
    if kind == "moge":
        from st4rtrack.adapt.teachers.moge import MoGeTeacher

        return MoGeTeacher(_existing("--depth", word, path), device)
    if kind in ("transformers", "transformers-inverse"):
        from st4rtrack.adapt.teachers.huggingface import TransformersTeacher

        return TransformersTeacher(_existing("--depth", word, path), device, inverse=kind.endswith("inverse"))
    if Path(word).suffix == ".npz" or Path(word).is_dir():
        return FileDepth(_existing("--depth", word, word), source)
    raise UserError(f"--depth is {DEPTH_WORDS}, not {word!r}")


def _existing(option: str, word: str, path: str) -> Path:
    if not path or not Path(path).exists():
        raise UserError(f"{option} {word}: {path or 'a path'} does not exist; name a file or folder that is on this machine")
    return Path(path)
