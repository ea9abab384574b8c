"""Teachers by the words of the command line."""

from pathlib import Path

from st4rtrack.adapt.teachers.files import FileTracks
from st4rtrack.adapt.teachers.prior import PriorTeacher, read_depth_cameras
from st4rtrack.adapt.teachers.teacher import DepthTeacher, TrackTeacher
from st4rtrack.hints.depth_prior import open_depth_prior
from st4rtrack.io.files import expanded
from st4rtrack.io.known.pixels import SourceSize
from st4rtrack.types import UserError, Video

TRACK_WORDS = "flow, cotracker:PATH or FILE.npz"


def open_teachers(
    tracks: str, depth: str, video: Video, *, device: str = "cpu", source: SourceSize | None = None
) -> tuple[TrackTeacher, DepthTeacher | None]:
    """The two teachers, by their words.

    Args:
        tracks: "flow"; "cotracker:PATH", a checkout, a hub cache or a checkpoint of CoTracker3; or the path of an .npz.
        depth: "triangulation", or a depth prior (`open_depth_prior`).
        video: the frames that are adapted to, at network size.
        device: of PyTorch, for teachers that are networks.
        source: size of the source video and the way from its pixels to the network's, for files in source pixels.
    Raises:
        UserError: an unknown word, a path that does not exist, or a package that is not installed.
    """
    return _open_tracks(tracks, device, source), _open_depth(depth, video, device, source)


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


def _open_depth(word: str, video: Video, device: str, source: SourceSize | None) -> DepthTeacher | None:
    if word == "triangulation":
        from st4rtrack.adapt.teachers.triangulation import TriangulationTeacher

        return TriangulationTeacher()
    prior = open_depth_prior(word, video, source_size=source, device=device)
    return None if prior is None else PriorTeacher(prior, read_depth_cameras(expanded(word), video))


def _existing(option: str, word: str, path: str) -> Path:
    if not path or not Path(path).exists():
        raise UserError(f"{option} {word}: {path or 'a path'} does not exist; name a file or folder that is on this machine")
    return Path(path)
