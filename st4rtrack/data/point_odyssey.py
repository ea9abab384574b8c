"""Point Odyssey reader: `{split}/{sequence}/` with `rgbs/rgb_%05d.jpg`, `depths/depth_%05d.png`, `info.npz` and `anno.npz`."""

from pathlib import Path

import numpy as np

from st4rtrack.data.raw import (
    RawSequence,
    count_frames,
    invert_cameras,
    read_16bit,
    read_rgb,
    require_intrinsics,
    split_folder,
    sub_folders,
)
from st4rtrack.io.npz import npz_shape, read_npz, read_npz_rows
from st4rtrack.types import UserError

FARTHEST_M = 1000.0
"""Depth of the largest 16-bit value."""

UNWANTED_PREFIXES = ("ani", "char", "r")
"""Prefixes of sequences that the paper leaves out as less semantically meaningful (released loader)."""

FEWEST_POINTS = 17
"""Minimum number of tracked points of a training sequence in the paper."""


class PointOdyssey:
    """A split (train, val, test or sample) of Point Odyssey; `root` holds it, or is the split itself."""

    def __init__(self, root: str | Path, split: str = "test") -> None:
        self.folder = split_folder(root, split)
        self.names = sub_folders(self.folder)

    def length(self, name: str) -> int:
        """Number of frames of a sequence, which must have no gap."""
        return count_frames(self.folder / name / "rgbs", "rgb_", ".jpg")

    def open(self, name: str) -> RawSequence:
        """Open a sequence; `read_tracks` reads only the rows of `anno.npz` that it needs."""
        folder = self.folder / name
        annotations = folder / "anno.npz"
        if not (folder / "info.npz").is_file():
            raise UserError(f"{folder / 'info.npz'} does not exist; the data set is incomplete, fetch it again")
        length = self.length(name)
        cameras = read_npz(annotations, "intrinsics", "extrinsics")
        intrinsics = require_intrinsics(cameras["intrinsics"], str(annotations))
        world_from_camera = invert_cameras(cameras["extrinsics"], str(annotations))
        if min(len(intrinsics), len(world_from_camera)) < length:
            raise UserError(
                f"{annotations} describes fewer frames than the {length} images in {folder / 'rgbs'}; fetch them again"
            )

        def read_depth(index: int) -> np.ndarray:
            return read_16bit(folder / "depths" / f"depth_{index:05d}.png").astype(np.float32) * np.float32(FARTHEST_M / 65535)

        def read_tracks(start: int, stop: int, step: int = 1) -> tuple[np.ndarray, np.ndarray]:
            points = read_npz_rows(annotations, "trajs_3d", start, stop)[::step]
            visible = read_npz_rows(annotations, "visibs", start, stop)[::step]
            if points.shape != (*visible.shape, 3):
                raise UserError(f"{annotations}: visibs {list(visible.shape)} does not match trajs_3d {list(points.shape)}")
            return points, visible.astype(bool)

        return RawSequence(
            name,
            intrinsics[:length],
            world_from_camera[:length],
            read_rgb=lambda index: read_rgb(folder / "rgbs" / f"rgb_{index:05d}.jpg"),
            read_depth=read_depth,
            read_tracks=read_tracks if _count_points(folder) is not None else None,
        )


def training_names(dataset: PointOdyssey) -> list[str]:
    """Names of the sequences that the paper trains on: no `UNWANTED_PREFIXES`, at least `FEWEST_POINTS` points."""
    wanted = [name for name in dataset.names if not name.startswith(UNWANTED_PREFIXES)]
    return [name for name in wanted if (_count_points(dataset.folder / name) or 0) >= FEWEST_POINTS]


def _count_points(folder: Path) -> int | None:
    """Number of tracked points; None for the few training sequences without tracks."""
    shape = npz_shape(folder / "anno.npz", "trajs_3d")
    return shape[1] if len(shape) == 3 else None
