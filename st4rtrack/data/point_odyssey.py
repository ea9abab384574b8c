"""Point Odyssey, raw: `{split}/{sequence}/` with `rgbs/rgb_%05d.jpg`, `depths/depth_%05d.png`, `info.npz` and `anno.npz`."""

from pathlib import Path

import numpy as np

from st4rtrack.data.raw import RawSequence, invert_cameras, read_16bit, read_rgb, require_intrinsics, split_folder, sub_folders
from st4rtrack.io.npz import read_npz
from st4rtrack.io.npz_rows import npz_shape, read_npz_rows
from st4rtrack.types import UserError

FARTHEST_M = 1000.0
"""Depth that the largest 16-bit value stands for."""


class PointOdyssey:
    """A split of Point Odyssey.

    Args:
        root: the folder that holds the split, or the split itself.
        split: train, val, test or sample.
    Raises:
        UserError: there is no such folder, or it is empty.
    """

    def __init__(self, root: str | Path, split: str = "test") -> None:
        self.folder = split_folder(root, split)
        self.names = sub_folders(self.folder)

    def open(self, name: str) -> RawSequence:
        """A sequence; `read_tracks` reads only the rows of `anno.npz` it needs.

        Raises:
            UserError: a file is absent or damaged; it is named.
        """
        folder = self.folder / name
        annotations = folder / "anno.npz"
        if not (folder / "info.npz").is_file():
            raise UserError(f"{folder / 'info.npz'} does not exist; the data set is incomplete, fetch it again")
        length = _count_frames(folder)
        cameras = read_npz(annotations, "intrinsics", "extrinsics")
        intrinsics = require_intrinsics(cameras["intrinsics"], str(annotations))
        world_from_camera = invert_cameras(cameras["extrinsics"], str(annotations))
        if min(len(intrinsics), len(world_from_camera)) < length:
            raise UserError(f"{annotations} describes fewer frames than the {length} images in {folder / 'rgbs'}")

        def read_depth(index: int) -> np.ndarray:
            return read_16bit(folder / "depths" / f"depth_{index:05d}.png").astype(np.float32) * np.float32(FARTHEST_M / 65535)

        def read_tracks(start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
            points = read_npz_rows(annotations, "trajs_3d", start, stop)
            visible = read_npz_rows(annotations, "visibs", start, stop)
            if points.shape != (*visible.shape, 3):
                raise UserError(f"{annotations}: visibs is {list(visible.shape)} and does not fit trajs_3d, {list(points.shape)}")
            return points, visible.astype(bool)

        tracked = len(npz_shape(annotations, "trajs_3d")) == 3  # a few sequences of the training split have none
        return RawSequence(
            name,
            intrinsics[:length],
            world_from_camera[:length],
            read_rgb=lambda index: read_rgb(folder / "rgbs" / f"rgb_{index:05d}.jpg"),
            read_depth=read_depth,
            read_tracks=read_tracks if tracked else None,
        )


def _count_frames(folder: Path) -> int:
    """How many images there are, numbered from 0 without a gap."""
    rgbs = folder / "rgbs"
    if not rgbs.is_dir():
        raise UserError(f"{rgbs} does not exist; the data set is incomplete, fetch it again")
    present = {path.name for path in rgbs.glob("rgb_*.jpg")}
    for index in range(len(present)):
        if f"rgb_{index:05d}.jpg" not in present:
            raise UserError(f"{rgbs / f'rgb_{index:05d}.jpg'} does not exist; the data set is incomplete, fetch it again")
    return len(present)
