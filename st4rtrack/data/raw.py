"""Raw data sets as they are published, brought to our conventions: a list of names, and sequences whose frames are read when
they are asked for. No sampling: what a benchmark or a training takes of them is decided there.
"""

import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from st4rtrack.io.images import decode_stored
from st4rtrack.types import UserError


class TrackReader(Protocol):
    """`read(start, stop, step)` are points [time, points, 3] in the world and visible [time, points] bool in frames start,
    start + step, ... before stop. The points are the same in all frames.
    """

    def __call__(self, start: int, stop: int, step: int = 1) -> tuple[np.ndarray, np.ndarray]: ...


@dataclass(frozen=True)
class RigidParts:
    """What every pixel belongs to, and how that moves: enough to follow each pixel of any frame through all others.

    Attributes:
        read_index: `read_index(frame)` is [height, width] uint8, the part that each pixel shows; 0 is all that never moves.
        world_from_part: [time, parts, 4, 4] rigid; of part 0 always the identity.
    """

    read_index: Callable[[int], np.ndarray] = field(repr=False)
    world_from_part: np.ndarray = field(repr=False)


@dataclass(frozen=True)
class RawSequence:
    """One camera's frames with the truth that comes with them.

    Attributes:
        name: of the sequence in its data set.
        intrinsics: [time, 3, 3] pixels, as stored: where the first pixel's centre is, the data sets do not say.
        world_from_camera: [time, 4, 4] OpenCV axes; None where the data set gives no cameras because the camera is fixed, and
            its frame is the world.
        read_rgb: `read_rgb(index)` is [height, width, 3] uint8.
        read_depth: `read_depth(index)` is [height, width] float32, z in metres, 0 where it is unknown; None: no depth.
        read_tracks: points that are followed through all frames; None: no tracks.
        parts: for scenes of rigid objects, in which every pixel can be followed; None: no such thing is known.
        read_jpeg: `read_jpeg(index)` is the frame as it is stored, where a sequence file holds JPEG images.
    """

    name: str
    intrinsics: np.ndarray = field(repr=False)
    world_from_camera: np.ndarray | None = field(repr=False)
    read_rgb: Callable[[int], np.ndarray] = field(repr=False)
    read_depth: Callable[[int], np.ndarray] | None = field(default=None, repr=False)
    read_tracks: TrackReader | None = field(default=None, repr=False)
    parts: RigidParts | None = field(default=None, repr=False)
    read_jpeg: Callable[[int], bytes] | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.intrinsics)


class RawDataset(Protocol):
    """A data set on disk."""

    @property
    def names(self) -> Sequence[str]:
        """Names of its sequences, sorted."""
        ...

    def open(self, name: str) -> RawSequence:
        """A sequence; cameras are read, frames are not.

        Raises:
            UserError: a file is absent or damaged; it is named.
        """
        ...


def split_folder(root: str | Path, split: str) -> Path:
    """The folder of a split, whether `root` holds it or is it.

    Raises:
        UserError: neither.
    """
    root = Path(root)
    if (root / split).is_dir():
        return root / split
    if root.is_dir() and root.resolve().name == split:
        return root
    raise UserError(f"{root} has no folder {split!r}; name the folder into which the data set was unpacked")


def sub_folders(folder: Path) -> list[str]:
    """Names of the folders in a folder, sorted, without hidden ones.

    Raises:
        UserError: it is absent, or holds none.
    """
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; check the path")
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not names:
        raise UserError(f"{folder} holds no folder, and so no sequence; name the folder into which the data set was unpacked")
    return names


def decode_rgb(data: bytes, label: str) -> np.ndarray:
    """An encoded image as [height, width, 3] uint8; transparency is left out.

    Raises:
        UserError: it is none; `label` names it.
    """
    return cv2.cvtColor(decode_stored(data, label, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def read_rgb(path: Path) -> np.ndarray:
    """An image file as [height, width, 3] uint8.

    Raises:
        UserError: it is absent or damaged.
    """
    return decode_rgb(read_bytes(path), str(path))


def read_16bit(path: Path) -> np.ndarray:
    """A PNG of one channel of 16 bits, in which raw data sets keep depth: [height, width] uint16.

    Raises:
        UserError: it is absent, damaged or of another kind.
    """
    image = decode_stored(read_bytes(path), str(path))
    if image.ndim != 2 or image.dtype != np.uint16:
        raise UserError(f"{path} must be a grey image of 16 bits, it is {image.dtype} {list(image.shape)}")
    return image


def read_float(path: Path) -> np.ndarray:
    """A TIFF of one channel of floating-point numbers: [height, width] float32.

    Raises:
        UserError: it is absent, damaged or of another kind.
    """
    image = decode_stored(read_bytes(path), str(path))
    if image.ndim != 2 or image.dtype not in (np.float32, np.float64):
        raise UserError(f"{path} must be a grey image of floating-point numbers, it is {image.dtype} {list(image.shape)}")
    return image.astype(np.float32)


def read_labels(path: Path) -> np.ndarray:
    """A PNG whose pixels are numbers, with or without a palette that shows them in colour: [height, width] uint8.

    Raises:
        UserError: it is absent, damaged or of another kind.
    """
    data = read_bytes(path)
    palette = data.find(b"PLTE", 8, 1024)  # before the pixels by the format's rules, and after little else
    if palette >= 0:
        # OpenCV gives a palette's colours and not the numbers; so it gets a palette in which the two are the same.
        length = int.from_bytes(data[palette - 4 : palette], "big")
        levels = np.repeat(np.arange(1 << min(data[24], 8), dtype=np.uint8), 3).tobytes()  # byte 24: bits per pixel
        chunk = b"PLTE" + levels
        checked = chunk + zlib.crc32(chunk).to_bytes(4, "big")
        data = data[: palette - 4] + len(levels).to_bytes(4, "big") + checked + data[palette + length + 8 :]
    image = decode_stored(data, str(path))
    if palette >= 0 and image.ndim == 3:
        image = image[..., 0]
    if image.ndim != 2 or image.dtype != np.uint8:
        raise UserError(f"{path} must be an image of numbers of 8 bits, it is {image.dtype} {list(image.shape)}")
    return image


def read_bytes(path: Path) -> bytes:
    """Content of a file of a raw data set.

    Raises:
        UserError: it is absent or cannot be read.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); the data set is incomplete, fetch it again") from None


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        UserError: it is absent or damaged.
    """
    try:
        return json.loads(read_bytes(path))
    except ValueError as error:  # also text that is no UTF-8
        raise UserError(f"{path} is not JSON, or is damaged ({error}); fetch it again") from error


def invert_cameras(camera_from_world: np.ndarray, label: str) -> np.ndarray:
    """[time, 4, 4] world_from_camera float64 of stored world-to-camera matrices.

    Raises:
        UserError: they are no rigid transforms; `label` names where they are from.
    """
    matrices = np.asarray(camera_from_world, np.float64)
    if matrices.ndim != 3 or matrices.shape[1:] != (4, 4) or not np.isfinite(matrices).all():
        raise UserError(f"{label}: cameras must be finite matrices [time, 4, 4], they are {list(matrices.shape)}")
    rotation = matrices[:, :3, :3]
    off = np.abs(rotation @ rotation.swapaxes(1, 2) - np.eye(3)).max(axis=(1, 2), initial=0.0)
    wrong = np.flatnonzero((off > 1e-2) | (np.linalg.det(rotation) < 0))  # files keep few digits; a scale or a mirror is worse
    if len(wrong):
        raise UserError(f"{label}: the camera of frame {wrong[0]} is not a rotation and a translation")
    return np.linalg.inv(matrices)


def require_intrinsics(intrinsics: np.ndarray, label: str) -> np.ndarray:
    """[time, 3, 3] float64.

    Raises:
        UserError: the shape is another, or a focal length is not positive.
    """
    intrinsics = np.asarray(intrinsics, np.float64)
    if intrinsics.ndim != 3 or intrinsics.shape[1:] != (3, 3):
        raise UserError(f"{label}: intrinsics must be [time, 3, 3], they are {list(intrinsics.shape)}")
    if not np.isfinite(intrinsics).all() or not (intrinsics[:, (0, 1), (0, 1)] > 0).all():
        raise UserError(f"{label}: intrinsics must be finite, with positive focal lengths")
    return intrinsics
