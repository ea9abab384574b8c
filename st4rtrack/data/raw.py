"""Common interface to raw data sets: sequence names, and sequences whose frames are read on demand.

Readers convert to the conventions of this package; what is sampled is decided by benchmarks and training. A file that is missing,
damaged or of another kind raises a `UserError` that names it, here and in all readers.
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
    """Reader of tracks: points [time, points, 3] in the world and visible [time, points] bool.
    `read(start, stop, step)` reads the frames start, start + step, ... before stop. The points are the same in all frames.
    """

    def __call__(self, start: int, stop: int, step: int = 1) -> tuple[np.ndarray, np.ndarray]: ...


@dataclass(frozen=True)
class RigidParts:
    """Rigid parts of a scene and their motion: enough to track every pixel of any frame through all others."""

    # `read_index(frame)` returns [height, width] uint8, the part that each pixel shows; 0 is everything static
    read_index: Callable[[int], np.ndarray] = field(repr=False)
    world_from_part: np.ndarray = field(repr=False)  # [time, parts, 4, 4] rigid; always the identity for part 0


@dataclass(frozen=True)
class RawSequence:
    """Frames of one camera with the ground truth of the data set."""

    name: str  # name of the sequence in its data set
    # [time, 3, 3] pixels, as stored; the data sets do not document the centre of the first pixel
    intrinsics: np.ndarray = field(repr=False)
    # [time, 4, 4] OpenCV axes; None if the data set has no cameras because the camera is fixed and its frame is the world
    world_from_camera: np.ndarray | None = field(repr=False)
    read_rgb: Callable[[int], np.ndarray] = field(repr=False)  # `read_rgb(index)` returns [height, width, 3] uint8
    # `read_depth(index)` returns [height, width] float32, z in metres, 0 where unknown; None without depth
    read_depth: Callable[[int], np.ndarray] | None = field(default=None, repr=False)
    # reader of points tracked through all frames; None without tracks
    read_tracks: TrackReader | None = field(default=None, repr=False)
    # rigid parts, for scenes of rigid objects in which every pixel can be tracked; None if unknown
    parts: RigidParts | None = field(default=None, repr=False)
    # `read_jpeg(index)` returns the stored JPEG image, for sequence files that hold JPEG images
    read_jpeg: Callable[[int], bytes] | None = field(default=None, repr=False)

    def __len__(self) -> int:
        return len(self.intrinsics)


class RawDataset(Protocol):
    """A data set on disk."""

    @property
    def names(self) -> Sequence[str]:
        """Sorted names of the sequences."""
        ...

    def open(self, name: str) -> RawSequence:
        """Open a sequence: cameras are read, frames are not."""
        ...


def split_folder(root: str | Path, split: str) -> Path:
    """Folder of a split; `root` is that folder or its parent."""
    root = Path(root)
    if (root / split).is_dir():
        return root / split
    if root.is_dir() and root.resolve().name == split:
        return root
    raise UserError(f"{root} has no folder {split!r}; pass the folder into which the data set was unpacked")


def sub_folders(folder: Path) -> list[str]:
    """Sorted names of the sub-folders of a folder, at least one, without hidden ones."""
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; check the path")
    names = sorted(path.name for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    if not names:
        raise UserError(f"{folder} has no sub-folders, so no sequences; pass the folder into which the data set was unpacked")
    return names


def count_frames(folder: Path, prefix: str, ending: str) -> int:
    """Number of images PREFIX%05dENDING of a folder, at least one; they must be numbered from 0 without a gap."""
    present = {path.name for path in folder.glob(f"{prefix}*{ending}")}
    if not present:
        raise UserError(f"{folder} has no {prefix}*{ending}; pass the folder that holds the sequence folders, or fetch it again")
    for index in range(len(present)):
        if f"{prefix}{index:05d}{ending}" not in present:
            raise UserError(f"{folder / f'{prefix}{index:05d}{ending}'} does not exist; fetch the sequence again")
    return len(present)


def decode_rgb(data: bytes, label: str) -> np.ndarray:
    """Decode an image, named `label` in messages, to [height, width, 3] uint8; an alpha channel is dropped."""
    return cv2.cvtColor(decode_stored(data, label, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def read_rgb(path: Path) -> np.ndarray:
    """Read an image file: [height, width, 3] uint8."""
    return decode_rgb(read_bytes(path), str(path))


def read_16bit(path: Path) -> np.ndarray:
    """Read a 16-bit single-channel PNG (stored depth): [height, width] uint16."""
    return _require_grey(decode_stored(read_bytes(path), str(path)), path, "a 16-bit grey image", np.uint16)


def read_float(path: Path) -> np.ndarray:
    """Read a single-channel floating-point TIFF: [height, width] float32."""
    image = decode_stored(read_bytes(path), str(path))
    return _require_grey(image, path, "a floating-point grey image", np.float32, np.float64).astype(np.float32)


def read_labels(path: Path) -> np.ndarray:
    """Read a PNG of labels, with or without a colour palette: [height, width] uint8."""
    data = read_bytes(path)
    palette = data.find(b"PLTE", 8, 1024)  # PNG requires it before the pixels; little else precedes it
    if palette >= 0:
        # OpenCV returns palette colours instead of indices, so the palette is replaced by one whose colours equal their indices.
        length = int.from_bytes(data[palette - 4 : palette], "big")
        levels = np.repeat(np.arange(1 << min(data[24], 8), dtype=np.uint8), 3).tobytes()  # byte 24: bits per pixel
        chunk = b"PLTE" + levels
        checked = chunk + zlib.crc32(chunk).to_bytes(4, "big")
        data = data[: palette - 4] + len(levels).to_bytes(4, "big") + checked + data[palette + length + 8 :]
    image = decode_stored(data, str(path))
    return _require_grey(image[..., 0] if palette >= 0 and image.ndim == 3 else image, path, "an 8-bit label image", np.uint8)


def _require_grey(image: np.ndarray, path: Path, kind: str, *types: type) -> np.ndarray:
    if image.ndim != 2 or image.dtype not in types:
        raise UserError(f"{path} must be {kind}, got {image.dtype} {list(image.shape)}")
    return image


def read_bytes(path: Path) -> bytes:
    """Read a file of a raw data set."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); the data set is incomplete, fetch it again") from None


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    try:
        return json.loads(read_bytes(path))
    except ValueError as error:  # also raised for text that is not UTF-8
        raise UserError(f"{path} is not JSON, or is damaged ({error}); fetch it again") from error


def invert_cameras(camera_from_world: np.ndarray, label: str) -> np.ndarray:
    """Invert stored rigid world-to-camera matrices from `label`: [time, 4, 4] world_from_camera float64."""
    matrices = np.asarray(camera_from_world, np.float64)
    if matrices.ndim != 3 or matrices.shape[1:] != (4, 4) or not np.isfinite(matrices).all():
        raise UserError(f"{label}: cameras must be finite matrices [time, 4, 4], got {list(matrices.shape)}")
    rotation = matrices[:, :3, :3]
    off = np.abs(rotation @ rotation.swapaxes(1, 2) - np.eye(3)).max(axis=(1, 2), initial=0.0)
    wrong = np.flatnonzero((off > 1e-2) | (np.linalg.det(rotation) < 0))  # files store few digits; rejects scales and mirrors
    if len(wrong):
        raise UserError(f"{label}: the camera of frame {wrong[0]} is not a rotation and a translation")
    return np.linalg.inv(matrices)


def require_intrinsics(intrinsics: np.ndarray, label: str) -> np.ndarray:
    """Check that intrinsics have positive focal lengths, and return them as [time, 3, 3] float64."""
    intrinsics = np.asarray(intrinsics, np.float64)
    if intrinsics.ndim != 3 or intrinsics.shape[1:] != (3, 3):
        raise UserError(f"{label}: intrinsics must be [time, 3, 3], got {list(intrinsics.shape)}")
    if not np.isfinite(intrinsics).all() or not (intrinsics[:, (0, 1), (0, 1)] > 0).all():
        raise UserError(f"{label}: intrinsics must be finite, with positive focal lengths")
    return intrinsics
