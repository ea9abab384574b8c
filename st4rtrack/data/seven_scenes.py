"""7-Scenes reader: `{scene}/seq-NN/frame-NNNNNN.{color.png, depth.png, pose.txt}`, optionally `{scene}/TestSplit.txt`."""

import re
from pathlib import Path

import numpy as np

from st4rtrack.data.raw import RawSequence, read_16bit, read_bytes, read_rgb, sub_folders
from st4rtrack.io.known.matrices import require_cameras
from st4rtrack.types import UserError

INTRINSICS = np.array([[585.0, 0.0, 320.0], [0.0, 585.0, 240.0], [0.0, 0.0, 1.0]])
"""Of the depth camera; colour and depth are not registered to each other by the data set."""
UNKNOWN = 65535


class SevenScenes:
    """Test sequences of the scene folders in `root` (all sequences of a scene without a list), named `{scene}_seq-NN`."""

    def __init__(self, root: str | Path) -> None:
        scenes = [Path(root) / name for name in sub_folders(Path(root))]
        self._folders = {f"{scene.name}_{name}": scene / name for scene in scenes for name in _sequences(scene)}
        self.names = sorted(self._folders)
        if not self.names:
            raise UserError(f"{root} holds no scene with a folder seq-01; pass the folder with chess, fire, ... of 7-Scenes")

    def open(self, name: str) -> RawSequence:
        """Open a sequence."""
        folder = self._folders[name]
        frames = sorted(path.name.removesuffix(".color.png") for path in folder.glob("frame-*.color.png"))
        if not frames:
            raise UserError(f"{folder} holds no frame-NNNNNN.color.png; unpack the sequence again")

        def read_depth(index: int) -> np.ndarray:
            stored = read_16bit(folder / f"{frames[index]}.depth.png")
            return np.where(stored == UNKNOWN, 0, stored).astype(np.float32) / np.float32(1000)

        return RawSequence(
            name,
            np.tile(INTRINSICS, (len(frames), 1, 1)),
            np.stack([_pose(folder / f"{frame}.pose.txt") for frame in frames]),
            read_rgb=lambda index: read_rgb(folder / f"{frames[index]}.color.png"),
            read_depth=read_depth,
        )


def _sequences(scene: Path) -> list[str]:
    split = scene / "TestSplit.txt"
    if split.exists():
        return [
            f"seq-{int(number):02d}" for number in re.findall(r"sequence\s*(\d+)", read_bytes(split).decode("utf-8", "replace"))
        ]
    return [path.name for path in scene.glob("seq-*") if path.is_dir()]


def _pose(path: Path) -> np.ndarray:
    """Camera-to-world matrix [4, 4] of a text file."""
    try:
        matrix = np.array(read_bytes(path).split(), np.float64).reshape(1, 4, 4)
    except ValueError as error:
        raise UserError(f"{path} must be a matrix of 4 x 4 numbers; unpack the sequence again") from error
    return require_cameras(matrix, str(path))[0]
