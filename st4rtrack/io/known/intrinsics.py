"""Intrinsics in the words of the command line, or from a file."""

from pathlib import Path

import numpy as np

from st4rtrack.geometry.camera import scale_intrinsics
from st4rtrack.io.known.cameras import CameraFile, read_cameras
from st4rtrack.io.known.frames import rows_by_count, rows_by_number
from st4rtrack.io.known.matrices import require_intrinsics
from st4rtrack.io.known.pixels import SourceSize, network_from_file
from st4rtrack.io.npz import npz_keys, read_npz
from st4rtrack.types import UserError, Video

KINDS = (
    "fx or fx,fy or fx,fy,cx,cy in pixels of the source video, a text file with those or with a 3 x 3 matrix, an .npz, "
    "or what --cameras takes"
)
ARRAYS = ("intrinsics", "fx_fy_cx_cy", "intrinsic", "K")


def read_intrinsics(word: str | Path | np.ndarray, video: Video, source: SourceSize, network: tuple[int, int]) -> np.ndarray:
    """Intrinsics [T, 3, 3] in network pixels of the frames of a video.

    Args:
        word: numbers with commas, the path of a file, or an array [3, 3], [T, 3, 3] or fx, fy, cx, cy.
        video: the frames that are processed.
        source: the source's size and the way to network pixels.
        network: (height, width).
    Raises:
        UserError: it is none of these, or of another image or number of frames.
    """
    if isinstance(word, np.ndarray):
        return _of_frames(require_intrinsics(word, "the array"), video, source, "the array of intrinsics")
    numbers = _numbers(str(word))
    if numbers is not None:
        return _of_frames(_matrix(numbers, source, "--intrinsics"), video, source, "--intrinsics")
    path = Path(word)
    if not path.exists():
        raise UserError(f"the intrinsics {str(word)!r} are neither numbers nor a file; give {KINDS}")
    if path.suffix == ".txt" and (numbers := _numbers(path.read_text(encoding="utf-8", errors="replace"))) is not None:
        return _of_frames(_matrix(numbers, source, str(path)), video, source, str(path))
    if path.suffix == ".npz":
        return _of_npz(path, video, source, network)
    return intrinsics_of_cameras(read_cameras(path), video, source, network)


def intrinsics_of_cameras(cameras: CameraFile, video: Video, source: SourceSize, network: tuple[int, int]) -> np.ndarray:
    """Intrinsics [T, 3, 3] in network pixels from a file of cameras; a frame that it lacks has those of the nearest frame it has.

    Raises:
        UserError: the file has none, or is of another image or video.
    """
    found = cameras.intrinsics_of_image(source.height, source.width)
    if found is None:
        raise UserError(f"{cameras.label} has cameras but no intrinsics; give {KINDS}")
    intrinsics, size = found
    rows = cameras.rows(video)
    has = np.flatnonzero(rows >= 0)
    rows = rows[has[np.abs(np.arange(len(rows))[:, None] - has).argmin(axis=1)]]
    pixel_map = source.pixel_map
    if size != (source.height, source.width):
        pixel_map = network_from_file(size, network, source, cameras.label)
    return scale_intrinsics(intrinsics[rows], pixel_map.scale, pixel_map.offset_px)


def _of_npz(path: Path, video: Video, source: SourceSize, network: tuple[int, int]) -> np.ndarray:
    keys = npz_keys(path)
    if {"data", "inds"} <= set(keys) and len(read_npz(path, "data")["data"].shape) == 2:  # of ViPE
        said = read_npz(path, "data", "inds")
        found, rows = require_intrinsics(said["data"], str(path)), rows_by_number(said["inds"], video)
        if (rows < 0).any():
            raise UserError(f"{path} has no intrinsics of frame {video.frame_index[int((rows < 0).argmax())]}")
        return scale_intrinsics(found[rows], source.pixel_map.scale, source.pixel_map.offset_px)
    if any(key in keys for key in ("cam_c2w", "world_from_camera", "extrinsics_w2c")):
        return intrinsics_of_cameras(read_cameras(path), video, source, network)
    name = next((key for key in ARRAYS if key in keys), None)
    if name is None:
        raise UserError(f"{path} has none of the arrays {', '.join(ARRAYS)}; it has {', '.join(keys) or 'none'}")
    return _of_frames(require_intrinsics(read_npz(path, name)[name], str(path)), video, source, str(path))


def _of_frames(intrinsics: np.ndarray, video: Video, source: SourceSize, label: str) -> np.ndarray:
    """[T, 3, 3] in network pixels, from one [1, 3, 3] for all or one for each, in source pixels."""
    rows = np.zeros(len(video), int) if len(intrinsics) == 1 else rows_by_count(len(intrinsics), video, label)
    return scale_intrinsics(intrinsics[rows], source.pixel_map.scale, source.pixel_map.offset_px)


def _matrix(numbers: list[float], source: SourceSize, label: str) -> np.ndarray:
    """[1, 3, 3] from f; fx, fy; fx, fy, cx, cy; or the nine of a matrix. Without a principal point it is the image's middle."""
    if len(numbers) == 9:
        return require_intrinsics(np.array(numbers).reshape(3, 3), label)
    if len(numbers) not in (1, 2, 4):
        raise UserError(f"{label} has {len(numbers)} numbers; give {KINDS}")
    focal = [numbers[0], numbers[min(1, len(numbers) - 1)]]
    return require_intrinsics(np.array([*focal, *(numbers[2:] or (source.width / 2, source.height / 2))]), label)


def _numbers(text: str) -> list[float] | None:
    """The numbers of a text that is nothing but numbers."""
    try:
        return [float(word) for word in text.replace(",", " ").split()] or None
    except ValueError:
        return None
