"""Reader of known intrinsics: numbers on the command line, an array, or a file."""

from pathlib import Path

import numpy as np

from st4rtrack.io.known.cameras import CameraFile, read_cameras
from st4rtrack.io.known.frames import rows_by_count, rows_by_number
from st4rtrack.io.known.layouts import layout_of
from st4rtrack.io.known.matrices import require_intrinsics
from st4rtrack.io.known.pixels import SourceSize, network_from_file
from st4rtrack.io.npz import npz_keys, read_npz
from st4rtrack.types import UserError, Video

KINDS = (
    "fx or fx,fy or fx,fy,cx,cy in pixels of the source video, a text file with those or with a 3 x 3 matrix, an .npz, "
    "or a file for --cameras"
)
ARRAYS = ("intrinsics", "fx_fy_cx_cy", "intrinsic", "K")


def read_intrinsics(word: str | Path | np.ndarray, video: Video, source: SourceSize, network: tuple[int, int]) -> np.ndarray:
    """Read the intrinsics [T, 3, 3] of the frames of a video, in network pixels.

    Args:
        word: comma-separated numbers, the path of a file, or an array [3, 3], [T, 3, 3] or fx, fy, cx, cy.
        video: the processed frames.
        source: source size and map to network pixels.
        network: (height, width) of the network image.
    Raises:
        UserError: the value is not supported, or its image size or number of frames does not match the video.
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
    """Intrinsics [T, 3, 3] in network pixels from a camera file; missing frames use those of the nearest frame.

    Raises:
        UserError: the file has no intrinsics, or its image size or frames do not match the video.
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
        pixel_map = network_from_file(size, network, source, cameras.label, cropped=cameras.cropped)
    return pixel_map.network_intrinsics(intrinsics[rows])


def _of_npz(path: Path, video: Video, source: SourceSize, network: tuple[int, int]) -> np.ndarray:
    keys = npz_keys(path)
    if {"data", "inds"} <= set(keys) and len(read_npz(path, "data")["data"].shape) == 2:  # ViPE
        said = read_npz(path, "data", "inds")
        found, rows = require_intrinsics(said["data"], str(path)), rows_by_number(said["inds"], video)
        if (rows < 0).any():
            raise UserError(f"{path} has no intrinsics of frame {video.frame_index[int((rows < 0).argmax())]}")
        return source.pixel_map.network_intrinsics(found[rows])
    if layout_of(keys) is not None:
        return intrinsics_of_cameras(read_cameras(path), video, source, network)
    name = next((key for key in ARRAYS if key in keys), None)
    if name is None:
        raise UserError(f"{path} has none of the arrays {', '.join(ARRAYS)}; it has {', '.join(keys) or 'none'}")
    return _of_frames(require_intrinsics(read_npz(path, name)[name], str(path)), video, source, str(path))


def _of_frames(intrinsics: np.ndarray, video: Video, source: SourceSize, label: str) -> np.ndarray:
    """Intrinsics [T, 3, 3] in network pixels from one matrix [1, 3, 3] or one per frame, in source pixels."""
    rows = np.zeros(len(video), int) if len(intrinsics) == 1 else rows_by_count(len(intrinsics), video, label)
    return source.pixel_map.network_intrinsics(intrinsics[rows])


def _matrix(numbers: list[float], source: SourceSize, label: str) -> np.ndarray:
    """Intrinsics [1, 3, 3] from f; fx, fy; fx, fy, cx, cy; or nine matrix elements; default principal point: image centre."""
    if len(numbers) == 9:
        return require_intrinsics(np.array(numbers).reshape(3, 3), label)
    if len(numbers) not in (1, 2, 4):
        raise UserError(f"{label} has {len(numbers)} numbers; give {KINDS}")
    focal = [numbers[0], numbers[min(1, len(numbers) - 1)]]
    return require_intrinsics(np.array([*focal, *(numbers[2:] or (source.width / 2, source.height / 2))]), label)


def _numbers(text: str) -> list[float] | None:
    """Parse a text of numbers separated by commas or spaces; `None` if it contains anything else."""
    try:
        return [float(word) for word in text.replace(",", " ").split()] or None
    except ValueError:
        return None
