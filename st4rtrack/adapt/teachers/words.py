"""Teachers by their option strings on the command line."""

from pathlib import Path

import numpy as np

from st4rtrack.adapt.priors import DepthTeacher, TeacherDepth, TrackTeacher
from st4rtrack.adapt.teachers.files import FileTracks
from st4rtrack.adapt.teachers.fused import FusedTeacher
from st4rtrack.hints.depth_prior import DepthPrior, PriorDepth
from st4rtrack.hints.depth_prior.open import open_depth_prior
from st4rtrack.io.files import expanded
from st4rtrack.io.known.cameras import MONST3R_POSES, layout_of, read_cameras
from st4rtrack.io.known.matching import SourceSize
from st4rtrack.io.npz import npz_keys
from st4rtrack.types import UserError, Video

FARTHEST = 0.01
"""Minimum inverse depth, relative to the image's largest; smaller values count as unknown depth."""


class PriorTeacher:
    """Depth teacher that uses a depth prior, with an independent scale per frame, and cameras [T, 4, 4] of its files.

    The unknown shift of inverse depth is assumed to be 0, so priors that predict depth are better teachers.
    """

    def __init__(self, prior: DepthPrior, world_from_camera: np.ndarray | None = None) -> None:
        self.name = prior.name
        self._prior, self._cameras = prior, world_from_camera

    def depth(self, rgb: np.ndarray, anchor_index: int) -> TeacherDepth:
        """Predict or read the depth of every frame."""
        depth = np.stack([_z_depth(self._prior(frame, index)) for index, frame in enumerate(rgb)])
        return TeacherDepth(depth, self.name, self._cameras)


def read_depth_cameras(path: Path, video: Video) -> np.ndarray | None:
    """Read the cameras [T, 4, 4] that a file or folder of depth also contains, NaN where unknown; `None` if it has none."""
    if not (path / MONST3R_POSES).is_file() and not (path.suffix == ".npz" and path.is_file() and layout_of(npz_keys(path))):
        return None
    found = read_cameras(path)
    rows = found.rows(video)
    return np.where((rows >= 0)[:, None, None], found.world_from_camera[rows], np.nan)


def _z_depth(predicted: PriorDepth) -> np.ndarray:
    """Convert the output of a prior to z-depth [H, W]; 0 where unknown or nearly infinite."""
    if predicted.kind == "depth":
        return predicted.values
    floor = max(FARTHEST * float(predicted.values.max()), 1e-12)
    return np.where(predicted.values > floor, 1 / np.maximum(predicted.values, floor), 0).astype(np.float32)


TRACK_WORDS = "fused, tapir:FILE, tapnext:FILE, cotracker:PATH or FILE.npz"


def open_teachers(
    tracks: str, depth: str, video: Video, *, fused: FusedTeacher, device: str = "cpu", source: SourceSize | None = None
) -> tuple[TrackTeacher, DepthTeacher | None]:
    """Create both teachers from their option strings.

    Args:
        tracks: "fused"; "tapir:FILE" or "tapnext:FILE", a checkpoint of BootsTAPIR or TAPNext++; "cotracker:PATH", a clone, a hub
            cache or a checkpoint of CoTracker3; or the path of an .npz.
        depth: "fused", or a depth prior (`open_depth_prior`).
        video: frames to adapt to, at network size.
        fused: the built-in teacher of the video.
        device: PyTorch device of teacher networks.
        source: size of the source video and the map from its pixels to the network's, for files in source pixels.
    Raises:
        UserError: unknown option string, a path that does not exist, or a package that is not installed.
    """
    track_teacher = fused if tracks == "fused" else _open_tracks(tracks, device, source)
    if depth == "fused":
        return track_teacher, fused
    prior = open_depth_prior(depth, video, source_size=source, device=device)
    return track_teacher, None if prior is None else PriorTeacher(prior, read_depth_cameras(expanded(depth), video))


def _open_tracks(word: str, device: str, source: SourceSize | None) -> TrackTeacher:
    kind, _, path = word.partition(":")
    if kind in ("cotracker", "tapir", "tapnext"):
        from st4rtrack.adapt.teachers.networks import open_cotracker, open_tapnet

        existing = _existing(word, path)
        return open_cotracker(existing, device) if kind == "cotracker" else open_tapnet(kind, existing, device)
    if Path(word).suffix == ".npz":
        return FileTracks(_existing(word, word), source)
    raise UserError(f"--tracks must be {TRACK_WORDS}, got {word!r}")


def _existing(word: str, path: str) -> Path:
    if not path or not Path(path).exists():
        raise UserError(f"--tracks {word}: {path or 'a path'} does not exist; pass an existing file or folder")
    return Path(path)
