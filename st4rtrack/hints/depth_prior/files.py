"""Depth maps from files as depth prior. File contents are never executed."""

from pathlib import Path

import numpy as np

from st4rtrack.hints.depth_prior.prior import Kind, PriorDepth, digest
from st4rtrack.io.known.maps import DEPTH_ARRAYS, DEPTH_SUFFIXES, frame_files, open_depth
from st4rtrack.io.known.matching import SourceSize
from st4rtrack.io.npz import npz_keys
from st4rtrack.timing import timed
from st4rtrack.types import PixelMap, Video

INVERSE_ARRAYS = ("inverse_depth", "disparity")


class FilePrior:
    """Depth of an `.npz` with `depth` or `inverse_depth` [frames, h, w], or of a folder with a file per frame.

    The files contain all frames of the source or the processed ones, at any image size. 0 is unknown.

    Args:
        path: file or folder, in a format of `io.known.maps.open_depth`.
        video: the processed frames, at network size.
        source: size of the source video; default: the network processes the whole image.
    Raises:
        UserError: the file is damaged, or belongs to another video.
    """

    def __init__(self, path: Path, video: Video, source: SourceSize | None = None) -> None:
        kind, arrays = _kind(path)
        self._kind: Kind = kind
        maps = open_depth(path, per_unit=1.0, arrays=arrays)
        size = (video.height, video.width)
        self._read = maps.of_video(video, source or SourceSize(*size, PixelMap()), size)
        self.name = f"{path.name} ({digest(_files(path))})"

    @timed("prior", settles=True)
    def __call__(self, rgb: np.ndarray, index: int, focal_px: float | None = None) -> PriorDepth:
        """Read the depth of one frame."""
        return PriorDepth.of(self._kind, self._read(index), rgb, self.name)


def _files(path: Path) -> list[Path]:
    return frame_files(path, DEPTH_SUFFIXES) if path.is_dir() else [path]


def _kind(path: Path) -> tuple[Kind, tuple[str, ...]]:
    """Kind of the depth, and the accepted names of its array."""
    first = next(iter(_files(path)), path)
    inverse = first.suffix.lower() == ".npz" and set(npz_keys(first)) & set(INVERSE_ARRAYS)
    return ("inverse_depth", INVERSE_ARRAYS) if inverse else ("depth", DEPTH_ARRAYS)
