"""Readers of known intrinsics and lens distortion: numbers, arrays, calibration files, or the cameras of other tools."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from st4rtrack.geometry.camera import scale_intrinsics
from st4rtrack.geometry.lens import Lens, LensModel
from st4rtrack.io.known.cameras import CameraFile, Distortion, layout_of, read_cameras
from st4rtrack.io.known.matching import SourceSize, network_from_file, rows_by_count, rows_by_number
from st4rtrack.io.known.matrices import require_cameras, require_intrinsics
from st4rtrack.io.npz import npz_keys, read_npz
from st4rtrack.options import KnownGeometry
from st4rtrack.preprocess import undistort
from st4rtrack.types import PixelMap, UserError, Video

INTRINSICS_KINDS = (
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
    path, label, text = Path(word), "--intrinsics", str(word)
    if path.suffix == ".txt" and path.is_file():
        label, text = str(path), path.read_text(encoding="utf-8", errors="replace")
    try:
        numbers = [float(each) for each in text.replace(",", " ").split()]
    except ValueError:
        numbers = []
    if numbers:
        return _of_frames(_matrix(numbers, source, label), video, source, label)
    if not path.exists():
        raise UserError(f"the intrinsics {str(word)!r} are neither numbers nor a file; give {INTRINSICS_KINDS}")
    if path.suffix == ".npz":
        return _intrinsics_of_npz(path, video, source, network)
    return intrinsics_of_cameras(read_cameras(path), video, source, network)


def known_cameras(known: KnownGeometry) -> CameraFile | None:
    """The known cameras of the options; `None` if there are none, or if the solver is to estimate them."""
    if known.cameras is None or known.asks_solver:
        return None
    if isinstance(known.cameras, np.ndarray):
        return CameraFile("the array of cameras", require_cameras(known.cameras, "the array of cameras"))
    return read_cameras(Path(known.cameras))


def known_intrinsics(
    known: KnownGeometry, cameras: CameraFile | None, video: Video, source: SourceSize, network: tuple[int, int]
) -> np.ndarray | None:
    """Known intrinsics [T, 3, 3] in network pixels, or else those of the known cameras; errors: see `read_intrinsics`."""
    if known.intrinsics is not None:
        return read_intrinsics(known.intrinsics, video, source, network)
    if cameras is None or cameras.intrinsics_of_image(source.height, source.width) is None:
        return None
    return intrinsics_of_cameras(cameras, video, source, network)


def intrinsics_of_cameras(cameras: CameraFile, video: Video, source: SourceSize, network: tuple[int, int]) -> np.ndarray:
    """Intrinsics [T, 3, 3] in network pixels from a camera file; missing frames use those of the nearest frame.

    Raises:
        UserError: the file has no intrinsics, or its image size or frames do not match the video.
    """
    found = cameras.intrinsics_of_image(source.height, source.width)
    if found is None:
        raise UserError(f"{cameras.label} has cameras but no intrinsics; give {INTRINSICS_KINDS}")
    intrinsics, size = found
    rows = cameras.rows(video)
    has = np.flatnonzero(rows >= 0)
    rows = rows[has[np.abs(np.arange(len(rows))[:, None] - has).argmin(axis=1)]]
    pixel_map = source.pixel_map
    if size != (source.height, source.width):
        pixel_map = network_from_file(size, network, source, cameras.label, cropped=cameras.cropped)
    return pixel_map.network_intrinsics(intrinsics[rows])


def _intrinsics_of_npz(path: Path, video: Video, source: SourceSize, network: tuple[int, int]) -> np.ndarray:
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
        raise UserError(f"{label} has {len(numbers)} numbers; give {INTRINSICS_KINDS}")
    focal = [numbers[0], numbers[min(1, len(numbers) - 1)]]
    return require_intrinsics(np.array([*focal, *(numbers[2:] or (source.width / 2, source.height / 2))]), label)


DISTORTION_KINDS = (
    "k1[,k2[,p1,p2[,k3[,k4,k5,k6]]]] or fisheye:k1,k2,k3,k4, a calibration file of OpenCV or ROS (.yml, .yaml, .xml, .json), "
    "a COLMAP model folder, or a nerfstudio transforms.json"
)
COUNTS = {"opencv": (1, 2, 4, 5, 8), "fisheye": (1, 2, 3, 4)}
CAMERA_KEYS = ("camera_matrix", "cameraMatrix", "Camera_Matrix", "K", "intrinsic_matrix", "mtx")
DISTORTION_KEYS = ("distortion_coefficients", "Distortion_Coefficients", "dist_coeffs", "dist_coeff", "distCoeffs", "dist", "D")
FISHEYE_NAMES = ("equidistant", "fisheye", "kannala_brandt4")
SIZE_KEYS = (("image_height", "image_width"), ("image_Height", "image_Width"), ("height", "width"))
MIN_PIXEL_ASPECT = 0.02
"""Logarithm of the pixel aspect beyond which images are resampled to square pixels."""


def undistorted(video: Video, known: KnownGeometry) -> tuple[Video, PixelMap, KnownGeometry]:
    """Undistort a video by the known lens distortion, and resample it to square pixels if its known intrinsics need that.

    Returns:
        The video, the map from its source pixels to those of the result, and the known geometry, with the intrinsics of the lens
        if there were none. Without distortion: the arguments unchanged.
    Raises:
        UserError: the distortion cannot be read, has no intrinsics, or is not invertible.
    """
    size, cameras = (video.height, video.width), known_cameras(known)
    distortion, intrinsics = _of_word(known.distortion, video) if known.distortion is not None else (None, None)
    others = known_intrinsics(known, cameras, video, SourceSize(*size, PixelMap()), size)
    if distortion is None and cameras is not None:
        distortion = cameras.distortion
    if distortion is None and others is not None:
        aspect = np.log(others[:, 0, 0] / others[:, 1, 1])
        if abs(aspect[0]) > MIN_PIXEL_ASPECT and np.ptp(aspect) < MIN_PIXEL_ASPECT:
            distortion = Distortion("opencv", ())
    if distortion is None:
        return video, PixelMap(), known
    if intrinsics is None and others is not None:
        intrinsics = others[0]
    if intrinsics is None and video.focal_px is not None:
        intrinsics = np.array([[video.focal_px, 0, size[1] / 2], [0, video.focal_px, size[0] / 2], [0, 0, 1]])
    if intrinsics is None:
        raise UserError("--distortion needs the focal length of its coefficients; give --intrinsics fx in source pixels")
    try:
        lens = Lens.of(distortion.model, distortion.coefficients, intrinsics, size)
    except (ValueError, cv2.error) as error:
        raise UserError(
            f"the lens distortion {distortion.coefficients} with the focal length {intrinsics[0, 0]:.0f} px cannot be used "
            f"({error}); check the coefficients, their order and --intrinsics"
        ) from None
    known = known if others is not None else replace(known, intrinsics=intrinsics)
    return undistort(video, lens), PixelMap(lens=lens), known


def _of_word(word: Any, video: Video) -> tuple[Distortion, np.ndarray | None]:
    """Distortion, and the intrinsics [3, 3] in source pixels that come with it."""
    text = ",".join(map(str, np.ravel(word))) if isinstance(word, np.ndarray | list | tuple) else str(word)
    model, _, numbers = text.rpartition(":")
    try:
        coefficients = tuple(float(each) for each in numbers.split(","))
    except ValueError:
        return _of_file(Path(text), video)
    return _require(model or "opencv", coefficients, "--distortion"), None


def _require(model: str, coefficients: tuple[float, ...], label: str) -> Distortion:
    if model not in COUNTS or not np.isfinite(coefficients).all():
        raise UserError(f"{label} has no distortion coefficients that can be used; give {DISTORTION_KINDS}")
    if len(coefficients) > 8 and not any(coefficients[8:]):  # of OpenCV's 12 or 14; thin prisms and tilts are not supported
        coefficients = coefficients[:8]
    if len(coefficients) not in COUNTS[model]:
        raise UserError(f"{label} has {len(coefficients)} coefficients of the model {model}; give {DISTORTION_KINDS}")
    name: LensModel = "fisheye" if model == "fisheye" else "opencv"
    return Distortion(name, coefficients)


def _of_file(path: Path, video: Video) -> tuple[Distortion, np.ndarray | None]:
    size = (video.height, video.width)
    source = SourceSize(*size, PixelMap())
    if not path.exists():
        raise UserError(f"the distortion {str(path)!r} is neither numbers nor a file; give {DISTORTION_KINDS}")
    if path.is_file() and (calibration := _calibration(path)) is not None:
        distortion, intrinsics, file_size = calibration
        if file_size is None or file_size == size:
            return distortion, intrinsics
        to_source = network_from_file(file_size, size, source, path)
        return distortion, scale_intrinsics(intrinsics, to_source.scale, to_source.offset_px)
    cameras = read_cameras(path)
    if cameras.distortion is None:
        raise UserError(f"{path} has cameras without lens distortion; leave out --distortion")
    return cameras.distortion, intrinsics_of_cameras(cameras, video, source, size)[0]


def _calibration(path: Path) -> tuple[Distortion, np.ndarray, tuple[int, int] | None] | None:
    """Distortion, intrinsics and image size (height, width) of a calibration file of OpenCV or ROS; `None` for other files."""
    text = path.read_text(encoding="utf-8", errors="replace")
    if path.suffix.lower() in (".yml", ".yaml") and not text.startswith("%YAML"):
        text = f"%YAML:1.0\n---\n{text}"
    try:
        storage = cv2.FileStorage(text, cv2.FILE_STORAGE_READ | cv2.FILE_STORAGE_MEMORY)  # must outlive its nodes
        root = storage.root()
        keys = set(root.keys())
    except (cv2.error, SystemError):
        return None
    camera = next((key for key in CAMERA_KEYS if key in keys), None)
    coefficients = next((key for key in DISTORTION_KEYS if key in keys), None)
    if camera is None or coefficients is None:
        return None
    names = [root.getNode(key).string() for key in ("distortion_model", "model", "camera_model") if key in keys]
    model = "fisheye" if any(name.lower() in FISHEYE_NAMES for name in names) else "opencv"
    matrix = np.array(_numbers(root.getNode(camera)))
    if matrix.size != 9:
        raise UserError(f"{camera} of {path} must have 9 numbers, it has {matrix.size}; write the calibration again")
    intrinsics = require_intrinsics(matrix.reshape(3, 3), str(path))[0]
    intrinsics[:2, 2] += 0.5  # in OpenCV the first pixel centre is at zero
    size = next(((int(root.getNode(h).real()), int(root.getNode(w).real())) for h, w in SIZE_KEYS if {h, w} <= keys), None)
    return _require(model, tuple(_numbers(root.getNode(coefficients))), str(path)), intrinsics, size


def _numbers(node: Any) -> list[float]:
    """Numbers of a node of OpenCV's file reader: a matrix with `data`, or nested lists."""
    if node.isMap():
        return _numbers(node.getNode("data"))
    if node.isSeq():
        return [number for index in range(node.size()) for number in _numbers(node.at(index))]
    return [float(node.real())]
