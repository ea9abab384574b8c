"""Readers of known cameras: COLMAP, MonST3R, TUM, nerfstudio, ViPE, or an `.npz` in one of `io.known.layouts`.

Each reader converts its format to world-from-camera poses with OpenCV axes; `io.known.frames` assigns them to frames.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from st4rtrack.geometry.lens import LensModel
from st4rtrack.geometry.transforms import invert_rigid, rigid
from st4rtrack.io.formats.common import OPENCV_FROM_OPENGL
from st4rtrack.io.known.matching import PATCH_PX, rows_by_count, rows_by_name, rows_by_number, rows_by_time
from st4rtrack.io.known.matrices import require_cameras, require_intrinsics, rotation_from_file
from st4rtrack.io.npz import npz_keys, npz_shape, read_npy, read_npz
from st4rtrack.io.text import parse_json
from st4rtrack.types import UserError, Video

logger = logging.getLogger(__name__)

MAPANYTHING_SIDE = 518
"""Long side in pixels of the images in MapAnything's COLMAP export, which are centre crops of the source images."""
MONST3R_POSES, MONST3R_INTRINSICS, MONST3R_DEPTH = "pred_traj.txt", "pred_intrinsics.txt", "frame_*.npy"
"""Files in the output folder of MonST3R; the images are centre crops of the source images."""


@dataclass(frozen=True)
class NpzLayout:
    """Names of the arrays in an `.npz` with an entry per frame, and what they mean. Poses have OpenCV axes."""

    cameras: str  # [n, 3 or 4, 4] poses
    intrinsics: str  # [n, 3, 3], [3, 3], or fx, fy, cx, cy
    depth: str  # [n, height, width] or [n, height, width, 1] z-depth in the unit of the poses
    camera_from_world: bool = False  # whether the poses map from world to camera; otherwise from camera to world
    image: str | None = None  # array [n, height, width, ...] with the image size of the intrinsics; `None`: the source size
    crop: Literal["never", "if square", "always"] = "never"  # whether the image is a centre crop of the source image
    marker: str | None = None  # an array that only this layout has

    def cropped(self, height: int, width: int) -> bool:
        """Whether images of this size are centre crops of the source images."""
        return self.crop == "always" or (self.crop == "if square" and height == width)


LAYOUTS = (
    NpzLayout("world_from_camera", "intrinsics", "depth"),
    NpzLayout("cam_c2w", "intrinsic", "depths", image="images"),  # MegaSaM
    NpzLayout("extrinsics_w2c", "fx_fy_cx_cy", "depth_map", camera_from_world=True),  # WorldTrack
    NpzLayout("extrinsics", "intrinsics", "depth", camera_from_world=True, image="depth"),  # Depth-Anything-3
    NpzLayout("camera_poses", "intrinsics", "depth_z", image="depth_z", crop="always"),  # MapAnything: outputs of `infer`
    # MapAnything's app uses the names of VGGT's, but stores world-from-camera poses.
    NpzLayout("extrinsic", "intrinsic", "depth", image="depth", crop="always", marker="final_mask"),
    # VGGT makes images 518 pixels wide, and crops them to a square if they are higher.
    NpzLayout("extrinsic", "intrinsic", "depth", camera_from_world=True, image="depth", crop="if square"),
)


def layout_of(keys: Sequence[str]) -> NpzLayout | None:
    """Layout of an `.npz` with cameras, by the names of its arrays."""
    return next((each for each in LAYOUTS if {each.cameras, each.marker or each.cameras} <= set(keys)), None)


KINDS = (
    "a COLMAP model folder, an output folder of MonST3R, a TUM trajectory (.txt), a nerfstudio transforms.json, or an .npz of "
    "Depth-Anything-3, MapAnything, MegaSaM, VGGT, ViPE, WorldTrack, or with world_from_camera [frames, 4, 4]"
)
PINHOLES = ("SIMPLE_PINHOLE", "PINHOLE")
_NUMBERS = ("fl_x", "fl_y", "cx", "cy", "w", "h", "camera_angle_x", "time")
_DISTORTION = ("k1", "k2", "k3", "k4", "k5", "k6", "p1", "p2")
COLMAP_DISTORTION: dict[str, tuple[LensModel, int]] = {
    "SIMPLE_RADIAL": ("opencv", 3),
    "RADIAL": ("opencv", 3),
    "OPENCV": ("opencv", 4),
    "FULL_OPENCV": ("opencv", 4),
    "SIMPLE_RADIAL_FISHEYE": ("fisheye", 3),
    "RADIAL_FISHEYE": ("fisheye", 3),
    "OPENCV_FISHEYE": ("fisheye", 4),
}
"""COLMAP's camera models with a lens model that is supported, and the number of parameters before its coefficients."""


class Distortion(NamedTuple):
    """Lens model and its coefficients in the order of OpenCV."""

    model: LensModel
    coefficients: tuple[float, ...]


@dataclass(frozen=True)
class CameraFile:
    """Cameras in the world frame and frame order of a file."""

    label: str  # name of the file, for messages
    world_from_camera: np.ndarray  # [n, 4, 4] float64 in the world frame and unit of the file; NaN for missing cameras
    intrinsics: np.ndarray | None = None  # [n, 3, 3] or `None`; a NaN principal point means the image centre
    size: tuple[int, int] | None = None  # (height, width) of the image that the intrinsics refer to; `None`: the source size
    # numbers, time_s, names: [n] frame number, timestamp or image name of each row; at most one of them, if none the row index
    numbers: np.ndarray | None = None
    time_s: np.ndarray | None = None
    names: Sequence[str] | None = None
    field_x: np.ndarray | None = None  # [n] horizontal field of view in radians, if the file has no other intrinsics
    cropped: bool = False  # that image is a centre crop of the source image
    distortion: Distortion | None = None  # lens distortion of the images; `None`: none, or of a model that is not supported

    def intrinsics_of_image(self, height: int, width: int) -> tuple[np.ndarray, tuple[int, int]] | None:
        """Intrinsics [n, 3, 3] and the image size (height, width) that they refer to; the arguments are the source size."""
        if self.intrinsics is not None:
            size = self.size or (height, width)
            centred = np.array(self.intrinsics)
            centred[:, :2, 2] = np.where(np.isnan(centred[:, :2, 2]), (size[1] / 2, size[0] / 2), centred[:, :2, 2])
            return centred, size
        if self.field_x is None:
            return None
        intrinsics = np.tile(np.eye(3), (len(self.field_x), 1, 1))
        intrinsics[:, :2, 2] = width / 2, height / 2
        intrinsics[:, (0, 1), (0, 1)] = (width / 2 / np.tan(self.field_x / 2))[:, None]
        return intrinsics, (height, width)

    def rows(self, video: Video) -> np.ndarray:
        """Row index [T] of the camera of each frame of a video; -1 for frames without a camera.

        Raises:
            UserError: the number of rows does not match, or no frame has a camera.
        """
        if self.numbers is not None:
            rows = rows_by_number(self.numbers, video)
        elif self.time_s is not None:
            rows = rows_by_time(self.time_s, video)
        elif self.names is not None:
            rows = rows_by_name(self.names, video, self.label)
        else:
            return rows_by_count(len(self.world_from_camera), video, self.label)
        if (rows < 0).all():
            raise UserError(
                f"{self.label} has cameras of none of the {len(video)} frames, {video.frame_index[0]} to {video.frame_index[-1]} "
                f"({video.time_s[0]:.2f} to {video.time_s[-1]:.2f} s); check its frame numbers or times"
            )
        return rows


def read_cameras(path: Path) -> CameraFile:
    """Read cameras from a file or folder; the suffix selects the format.

    Raises:
        UserError: the path does not exist, its format is not supported, or the file is damaged.
    """
    if not path.exists():
        raise UserError(f"there are no cameras at {path}; give {KINDS}")
    folder = path.parent if path.name == MONST3R_POSES else path
    if (folder / MONST3R_POSES).is_file() and (folder / MONST3R_INTRINSICS).is_file():
        path, reader = folder, _monst3r
    elif (reader := _colmap if path.is_dir() else READERS.get(path.suffix.lower())) is None:
        raise UserError(f"{path} is not a file of cameras in a supported format; give {KINDS}")
    try:
        return reader(path)
    except (ValueError, TypeError, LookupError, OverflowError) as error:  # a value of unexpected type or shape
        raise UserError(f"{path} is damaged, or no file of cameras ({error}); write it again") from error


def _npz(path: Path) -> CameraFile:
    """Read ViPE, or an `.npz` in one of `LAYOUTS`, with optional `frame_index` or `time_s`, and `width` and `height`."""
    keys, label = npz_keys(path), str(path)
    if {"data", "inds"} <= set(keys):
        return _vipe(path)
    layout = layout_of(keys)
    if layout is None:
        raise UserError(f"{path} has no cameras in a supported format; give {KINDS}")
    small = (layout.cameras, layout.intrinsics, "frame_index", "time_s", "width", "height")
    said = read_npz(path, *(key for key in small if key in keys))
    size = None
    if {"width", "height"} <= set(keys):
        size = (int(said["height"]), int(said["width"]))
    elif layout.image in keys:
        size = npz_shape(path, layout.image)[1:3]
        if len(size) != 2 or 0 in size:
            raise UserError(f"{layout.image} of {path} must be [frames, height, width]; write the file again")
    cameras = require_cameras(said[layout.cameras], label)
    intrinsics = _for_each(said.get(layout.intrinsics), len(cameras), label)
    numbers, time_s = (_for_each(said.get(key), len(cameras), label, key) for key in ("frame_index", "time_s"))
    return CameraFile(
        label,
        invert_rigid(cameras) if layout.camera_from_world else cameras,
        intrinsics,
        size,
        numbers,
        time_s=None if numbers is not None else time_s,
        cropped=size is not None and layout.cropped(*size),
    )


def _for_each(values: np.ndarray | None, count: int, label: str, what: str = "intrinsics") -> np.ndarray | None:
    """Numbers or intrinsics of each camera; a single matrix of intrinsics is repeated for all cameras."""
    if values is None:
        return None
    if what == "intrinsics":
        values = require_intrinsics(values, label)
        values = np.broadcast_to(values, (count, 3, 3)) if len(values) == 1 else values
    if len(values) != count or (what != "intrinsics" and (values.ndim != 1 or values.dtype.kind not in "iuf")):
        raise UserError(f"{label} must have {what} for each of its {count} cameras, got {list(values.shape)} {values.dtype}")
    return values


def _vipe(path: Path) -> CameraFile:
    """Read ViPE: `pose/NAME.npz` (`data` [n, 4, 4] world-from-camera, frames `inds`), `intrinsics/NAME.npz` (fx, fy, cx, cy)."""
    said = read_npz(path, "data", "inds")
    cameras = require_cameras(said["data"], str(path))
    numbers = _for_each(said["inds"], len(cameras), str(path), "frame numbers")
    intrinsics, beside = None, path.parent.parent / "intrinsics" / path.name
    if beside.is_file():
        said = read_npz(beside, "data", "inds")
        row_of = dict(zip(said["inds"].tolist(), require_intrinsics(said["data"], str(beside))))
        if numbers is None or not set(said["inds"].tolist()) >= set(numbers.tolist()):
            raise UserError(f"{beside} lacks some frames of {path}; write both files again")
        intrinsics = np.stack([row_of[number] for number in numbers.tolist()])
    return CameraFile(str(path), cameras, intrinsics, numbers=numbers)


def _monst3r(folder: Path) -> CameraFile:
    """Read MonST3R: lines as in TUM but with w first; nine numbers of intrinsics per line, in pixels of its depth maps."""
    poses, maps = _tum(folder / MONST3R_POSES, wxyz=(4, 5, 6, 7)), sorted(folder.glob(MONST3R_DEPTH))
    if not maps:
        raise UserError(f"{folder} has no depth maps {MONST3R_DEPTH}, whose size is the image size of its cameras; save them too")
    intrinsics = np.loadtxt(folder / MONST3R_INTRINSICS, ndmin=2).reshape(-1, 3, 3)
    cameras = poses.world_from_camera
    height, width = read_npy(maps[0]).shape
    return CameraFile(str(folder), cameras, _for_each(intrinsics, len(cameras), str(folder)), (height, width), cropped=True)


def _tum(path: Path, wxyz: tuple[int, ...] = (7, 4, 5, 6)) -> CameraFile:
    """Read a TUM trajectory: lines of `timestamp tx ty tz qx qy qz qw`, world from camera; `wxyz`: columns of the quaternion."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        rows = [[float(word) for word in line.split()] for line in lines if line.strip() and not line.lstrip().startswith("#")]
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not a TUM trajectory: lines of timestamp tx ty tz qx qy qz qw ({error})") from None
    if not rows or {len(row) for row in rows} != {8}:
        raise UserError(f"{path} is not a TUM trajectory: each line must have eight numbers, timestamp tx ty tz qx qy qz qw")
    table = np.array(rows)
    rotation = rotation_from_file(table[:, wxyz], str(path))
    return CameraFile(str(path), require_cameras(rigid(rotation, table[:, 1:4]), str(path)), time_s=table[:, 0])


def _transforms(path: Path) -> CameraFile:
    """Read nerfstudio: world-from-camera with OpenGL axes; frames are matched by `time`, else by image name.

    Values are global or per frame; intrinsics of images of other sizes are scaled to the size of the first one.
    """
    label = str(path)
    try:
        said = parse_json(path.read_text(encoding="utf-8"))
        entries = [{**said, **entry} for entry in said["frames"]]
        _require_finite(entries, label)
        opengl = np.array([entry["transform_matrix"] for entry in entries], np.float64)
        names = [str(entry["file_path"]) for entry in entries]
        rows = [[float(entry.get(key, np.nan)) for key in _NUMBERS] for entry in entries]
    except (OSError, ValueError, KeyError, TypeError, OverflowError) as error:
        raise UserError(
            f"{path} is not a transforms.json: it must have frames with file_path and transform_matrix ({error})"
        ) from None
    fx, fy, cx, cy, width, height, field_x, time_s = np.array(rows).T
    fx, fy = np.where(np.isnan(fx), fy, fx), np.where(np.isnan(fy), fx, fy)
    for values, key in ((width, "w and h"), (fx, "fl_x"), (field_x[np.isnan(fx)], "camera_angle_x")):
        if 0 < np.isfinite(values).sum() < len(entries):
            raise UserError(
                f"{np.isfinite(values).sum()} of {len(entries)} frames of {path} have {key}; give all frames {key}, or none"
            )
    if min(width.min(), height.min()) < 1:
        raise UserError(f"w and h of {path} must be positive; write the file again")
    size = None if np.isnan(width[0]) else (int(height[0]), int(width[0]))
    intrinsics, angles = None, None
    if np.isfinite(fx[0]):
        intrinsics = require_intrinsics(np.stack([fx, fy, 0 * fx, 0 * fy], axis=1), label)
        intrinsics[:, :2, 2] = np.stack([np.where(np.isnan(cx), width / 2, cx), np.where(np.isnan(cy), height / 2, cy)], axis=1)
        if size is not None:
            intrinsics[:, :2] *= np.stack([size[1] / width, size[0] / height], axis=1)[:, :, None]
    elif np.isfinite(field_x[0]):
        angles = field_x
        if not ((angles > 0) & (angles < np.pi)).all():
            raise UserError(f"camera_angle_x of {path} must be the horizontal field of view in radians, it is {angles[0]:g}")
    by_time = bool(np.isfinite(time_s).all())
    return CameraFile(
        label,
        require_cameras(opengl, label) @ OPENCV_FROM_OPENGL,
        intrinsics,
        size,
        time_s=time_s if by_time else None,
        names=None if by_time else names,
        field_x=angles,
        distortion=_lens(label, entries),
    )


def _require_finite(entries: Sequence[dict[str, Any]], label: str) -> None:
    if not entries:
        raise UserError(f"{label} has no frames; give a transforms.json with the camera of each image")
    for index, entry in enumerate(entries):
        if len({"w", "h"} & entry.keys()) == 1:
            raise UserError(f"frame {index} of {label} has only one of w and h; give both, or neither for the size of the video")
        for key in ("transform_matrix", *_NUMBERS):
            if key in entry and not np.isfinite(np.array(entry[key], np.float64)).all():
                raise UserError(f"{key} of frame {index} of {label} is not finite; leave that frame out, or write the file again")


def _lens(label: str, entries: Sequence[dict[str, Any]]) -> Distortion | None:
    """Lens distortion of a transforms.json."""
    found = []
    for entry in entries:
        model = "OPENCV_FISHEYE" if entry.get("is_fisheye") else str(entry.get("camera_model", "OPENCV")).upper()
        values = {key: float(entry.get(key) or 0) for key in _DISTORTION}
        used = [key for key, value in values.items() if value]
        if model == "OPENCV_FISHEYE":
            found.append(Distortion("fisheye", tuple(values[key] for key in ("k1", "k2", "k3", "k4"))))
        elif model not in (*PINHOLES, "OPENCV", "PERSPECTIVE") or {"k4", "k5", "k6"} & set(used):
            _warn_of_distortion(label, f"{model}: {', '.join(used)}" if used else f"camera model {model}")
            return None
        else:
            found.append(Distortion("opencv", tuple(values[key] for key in ("k1", "k2", "p1", "p2", "k3"))) if used else None)
    return _common(label, found)


def _common(label: Path | str, found: Sequence[Distortion | None]) -> Distortion | None:
    """The first of several distortions, with a warning if they differ."""
    if len(set(found)) > 1:
        logger.warning("the images of %s have several lens distortions: that of the first one is used for all", label)
    return found[0]


def _colmap(folder: Path) -> CameraFile:
    """Read a text or binary COLMAP model in the folder, `sparse/0` or `sparse`, by pycolmap."""
    places = [folder, folder / "sparse" / "0", folder / "sparse"]
    model = next((each for each in places if any((each / f"images.{ending}").is_file() for ending in ("bin", "txt"))), None)
    if model is None:
        raise UserError(f"{folder} is not a COLMAP model: it has no images.bin or images.txt, nor has sparse/0; give {KINDS}")
    import pycolmap

    try:
        images = sorted(pycolmap.Reconstruction(str(model)).images.values(), key=lambda image: image.name)
        images = [image for image in images if image.has_pose]
    except Exception as error:  # pycolmap documents no exception types
        raise UserError(f"the COLMAP model in {model} cannot be read ({str(error).splitlines()[0]}); write it again") from None
    if not images:
        raise UserError(f"the COLMAP model in {model} has no image with a camera")
    models = {image.camera.model_name for image in images}
    if unknown := models - {*PINHOLES, *COLMAP_DISTORTION}:
        _warn_of_distortion(model, ", ".join(sorted(unknown)))
    camera_from_world = np.stack([np.vstack([image.cam_from_world().matrix(), [0, 0, 0, 1]]) for image in images])
    intrinsics = np.stack([image.camera.calibration_matrix() for image in images])
    size = (int(images[0].camera.height), int(images[0].camera.width))
    cameras = invert_rigid(require_cameras(camera_from_world, str(model)))
    return CameraFile(
        str(model),
        cameras,
        require_intrinsics(intrinsics, str(model)),
        size,
        names=[each.name for each in images],
        distortion=_common(model, [_colmap_distortion(image.camera) for image in images]),
        cropped=max(size) == MAPANYTHING_SIDE and size[0] % PATCH_PX == size[1] % PATCH_PX == 0,
    )


def _colmap_distortion(camera: Any) -> Distortion | None:
    if camera.model_name not in COLMAP_DISTORTION:
        return None
    model, first = COLMAP_DISTORTION[camera.model_name]
    coefficients = tuple(float(value) for value in camera.params[first:])
    return Distortion(model, coefficients) if model == "fisheye" or any(coefficients) else None


def _warn_of_distortion(label: Path | str, distortion: str) -> None:
    logger.warning("the lens distortion of %s is not supported (%s): it is left out; undistort the images", label, distortion)


READERS = {".npz": _npz, ".json": _transforms, ".txt": _tum}
"""Readers of files by suffix; folders are COLMAP models or outputs of MonST3R."""
