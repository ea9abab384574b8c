"""Readers of known depth and static masks, frame by frame: an array, an `.npz`, or a folder with a file per frame."""

import importlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from st4rtrack.io.images import IMAGE_SUFFIXES, decode_stored
from st4rtrack.io.installation import install_extra
from st4rtrack.io.known.cameras import LAYOUTS, MONST3R_DEPTH, MONST3R_POSES, layout_of
from st4rtrack.io.known.matching import SourceSize, at_network_size, described, rows_by_count
from st4rtrack.io.npz import npz_keys, npz_shape, read_npy, read_npz, read_npz_rows
from st4rtrack.types import UserError, Video

logger = logging.getLogger(__name__)

DEPTH_ARRAYS = tuple(dict.fromkeys(layout.depth for layout in LAYOUTS))
MASK_ARRAYS = ("static", "static_mask", "mask")
PNG_PER_UNIT = 1000.0
"""Default values per unit of integer depth: millimetres, as written by most RGB-D cameras."""
UNKNOWN_DEPTH = 65535
"""Value for unknown depth in 16-bit images, besides 0: many cameras and tools store the largest value."""
ROWS_AT_ONCE = 32
DEPTH_KINDS = "an .npz with depth [frames, height, width], or a folder with a 16-bit .png, .tif, .npy, .npz or .exr per frame"
MASK_KINDS = "an image, a folder of an image per frame, or an .npz with static [frames, height, width]"
DEPTH_SUFFIXES = frozenset({".npy", ".npz", ".png", ".tif", ".tiff", ".exr"})


@dataclass(frozen=True)
class FrameMaps:
    """Maps of the frames of a video, read on demand."""

    count: int  # number of maps
    read: Callable[[int], np.ndarray]  # reads the map [h, w] of a row
    label: str  # name of the file, for messages
    digest: str  # name and digest of the content
    cropped: bool = False  # the maps are centre crops of the source images

    def of_video(self, video: Video, source: SourceSize, network: tuple[int, int]) -> Callable[[int], np.ndarray]:
        """Function that reads the map of a frame at network size (height, width); nearest pixels, 0 outside the map."""
        one = self.count == 1 and len(video) > 1  # one map for all frames
        rows = np.zeros(len(video), int) if one else rows_by_count(self.count, video, self.label)
        return lambda index: at_network_size(self.read(int(rows[index])), network, source, self.label, cropped=self.cropped)


def frame_files(folder: Path, suffixes: frozenset[str]) -> list[Path]:
    """Files of a folder with one of the suffixes, sorted by name, without hidden files."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in suffixes and not path.name.startswith("."))


def open_depth(
    word: str | Path | np.ndarray, *, per_unit: float | None = None, arrays: tuple[str, ...] = DEPTH_ARRAYS
) -> FrameMaps:
    """Open known z-depth, 0 where unknown, in the unit of the file.

    Args:
        word: path, or an array [frames, h, w].
        per_unit: integer values per unit, for example 5000 per metre; default 1000.
        arrays: accepted names of the array in an `.npz`.
    Raises:
        UserError: the path is missing or not supported; invalid frames raise on reading.
    """
    if per_unit is not None and not (np.isfinite(per_unit) and per_unit > 0):
        raise UserError(f"the integer values of depth per unit must be positive (--depth-per-unit), got {per_unit}")
    found = _open(word, arrays, "depth", DEPTH_KINDS, DEPTH_SUFFIXES)
    scale = 1 / (per_unit or PNG_PER_UNIT)
    digest = found.digest if per_unit is None else f"{found.digest}, {per_unit:g} per unit"

    warned: list[int] = []  # warn once, not per frame

    def read(row: int) -> np.ndarray:
        depth = found.read(row)
        if depth.ndim != 2 or depth.dtype.kind not in "fiu":
            raise UserError(
                f"depth of frame {row} in {found.label} must be numbers [height, width], not {depth.dtype} {list(depth.shape)}"
            )
        saturated = depth == UNKNOWN_DEPTH if depth.dtype == np.uint16 else np.zeros(1, bool)
        if saturated.any():
            depth = np.where(saturated, np.uint16(0), depth)
            if not warned:
                warned.append(row)
                logger.warning(
                    "%s has pixels of depth %d, the largest value: they are treated as unknown", found.label, UNKNOWN_DEPTH
                )
        depth = depth.astype(np.float32) * np.float32(scale if depth.dtype.kind in "iu" or per_unit is not None else 1.0)
        return np.where(np.isfinite(depth) & (depth > 0), depth, np.float32(0))

    return FrameMaps(found.count, read, found.label, digest, found.cropped)


def open_mask(word: str | Path | np.ndarray) -> FrameMaps:
    """Open masks of the static scene (white, or not 0), one per frame or one for all frames.

    Args:
        word: path, or an array [h, w] or [frames, h, w].
    Raises:
        UserError: the path is missing or not supported; invalid frames raise on reading.
    """
    found = _open(word, MASK_ARRAYS, "a static mask", MASK_KINDS, IMAGE_SUFFIXES | {".npy", ".npz"})

    def read(row: int) -> np.ndarray:
        mask = found.read(row)
        mask = mask[..., :3].max(axis=-1) if mask.ndim == 3 else mask
        if mask.ndim != 2 or mask.dtype.kind not in "buif":
            raise UserError(
                f"the mask of frame {row} in {found.label} must be [height, width], not {mask.dtype} {list(mask.shape)}"
            )
        return mask > (127 if mask.dtype == np.uint8 and mask.max() > 1 else 0)

    return FrameMaps(found.count, read, found.label, found.digest)


def read_map(path: Path, arrays: tuple[str, ...]) -> np.ndarray:
    """Read a map: an `.npy`, an `.npz` (first of `arrays` in it), an OpenEXR depth channel, or an image as stored."""
    if path.suffix.lower() == ".npz":
        return read_npz(path, key := _array_among(path, arrays))[key]
    if path.suffix.lower() == ".npy":
        return read_npy(path)
    if path.suffix.lower() == ".exr":
        return read_exr_depth(path)
    return decode_stored(path.read_bytes(), str(path))


def _open(word: str | Path | np.ndarray, arrays: tuple[str, ...], what: str, kinds: str, suffixes: frozenset[str]) -> FrameMaps:
    if isinstance(word, np.ndarray):
        maps = word[None] if word.ndim == 2 else word
        if maps.ndim != 3 or 0 in maps.shape:
            raise UserError(f"{what} must be [frames, height, width], it is {list(word.shape)}")
        return FrameMaps(len(maps), lambda row: maps[row], f"the array of {what}", f"array {list(maps.shape)}")
    path = Path(word)
    if not path.exists():
        raise UserError(f"there is no {what.removeprefix('a ')} at {path}; give {kinds}")
    if path.is_dir():
        monst3r = (path / MONST3R_POSES).is_file() and what == "depth"
        files = [each for each in frame_files(path, suffixes) if not monst3r or each.match(MONST3R_DEPTH)]
        if not files:
            raise UserError(f"{path} holds no file of {what}; give {kinds}")
        return FrameMaps(len(files), lambda row: read_map(files[row], arrays), str(path), described(path), monst3r)
    if path.suffix.lower() not in suffixes:
        raise UserError(f"{path} is not a file of {what} in a supported format; give {kinds}")
    if path.suffix.lower() != ".npz":
        maps = read_map(path, arrays)
        maps = maps if path.suffix.lower() == ".npy" and maps.ndim == 3 else maps[None]
        return FrameMaps(len(maps), lambda row: maps[row], str(path), described(path))
    key = _array_among(path, arrays)
    shape, layout = npz_shape(path, key), layout_of(npz_keys(path))
    if len(shape) == 4 and shape[3] == 1:
        shape = shape[:3]
    if len(shape) not in (2, 3) or 0 in shape:
        raise UserError(f"{key} of {path} must be [frames, height, width], it is {list(shape)}")
    if len(shape) == 2:
        return FrameMaps(1, lambda row: read_npz(path, key)[key], str(path), described(path))

    @lru_cache(maxsize=2)  # reading a row decompresses the archive from its start
    def block(start: int) -> np.ndarray:
        return read_npz_rows(path, key, start, min(start + ROWS_AT_ONCE, shape[0]))

    def read(row: int) -> np.ndarray:
        return block(row - row % ROWS_AT_ONCE)[row % ROWS_AT_ONCE].reshape(shape[1:])

    cropped = layout is not None and key == layout.depth and layout.cropped(*shape[1:])
    return FrameMaps(shape[0], read, str(path), described(path), cropped)


def _array_among(path: Path, arrays: tuple[str, ...]) -> str:
    keys = npz_keys(path)
    found = next((key for key in arrays if key in keys), None)
    if found is None:
        raise UserError(f"{path} has no array {arrays[0]!r}; it has {', '.join(keys) or 'none'}")
    return found


def read_exr_depth(path: Path) -> np.ndarray:
    """Read the depth channel (or the only channel) of an OpenEXR image, [height, width] float32."""
    try:
        openexr: Any = importlib.import_module("OpenEXR")
    except ImportError:
        fix = f"install it with: {install_extra('images')}; or convert the depth to .npy or 16-bit PNG"
        raise UserError(f"{path} is an OpenEXR image, which needs the package OpenEXR; {fix}") from None
    try:
        channels = openexr.File(str(path), separate_channels=True).channels()
    except Exception as error:  # OpenEXR documents no exception types
        raise UserError(f"{path} cannot be read as an OpenEXR image; write it again") from error
    by_name = {name.rsplit(".", 1)[-1]: channel for name, channel in channels.items()}
    known = [name for name in ("Z", "Depth", "depth", "Y", "R", "V") if name in by_name] or list(by_name)[: len(by_name) == 1]
    if not known:
        raise UserError(f"{path} has no depth channel (Z); it has {', '.join(channels)}")
    return np.asarray(by_name[known[0]].pixels, np.float32)
