"""What export formats share: the unit of lengths, optional packages, and camera conventions."""

import importlib
import importlib.util
import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from st4rtrack.io.installation import install_extra
from st4rtrack.scene import Scene
from st4rtrack.types import PixelMap, UserError

logger = logging.getLogger(__name__)

NOT_METRES = "lengths are in world units, not metres (unless --metres-per-unit or --known-distance is given to st4rtrack run)"
METRES = "lengths are in metres (scale provided by the user)"


def lengths(info: dict[str, Any]) -> str:
    """Sentence with the unit of lengths of a scene, from its `Scene.info`."""
    known = info.get("known")
    scaled = isinstance(known, dict) and any(known.get(name) is not None for name in ("metres_per_unit", "known_distance"))
    return METRES if scaled else NOT_METRES


OPTIONAL = {
    "trimesh": ("trimesh", "glb"),
    "pxr": ("usd-core", "usd"),
    "rerun": ("rerun-sdk", "rerun"),
    "matplotlib": ("matplotlib", "figure"),
    "OpenEXR": ("OpenEXR", "exr"),
}
"""Optional modules of export formats: their package, and the extra of st4rtrack that installs it."""


def need(module: str, format: str) -> ModuleType:
    """Import an optional module by its dotted name; the format that needs it is named in the message.

    Raises:
        UserError: the module is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise _missing(module, format) from error


def require(module: str, format: str) -> None:
    """Check that an optional module is installed, without importing it; see `need`."""
    if importlib.util.find_spec(module) is None:
        raise _missing(module, format)


def _missing(module: str, format: str) -> UserError:
    package, extra = OPTIONAL[module.partition(".")[0]]
    return UserError(f"the format {format} needs {package}; install it with: {install_extra(extra)}")


@contextmanager
def utf8_path(path: str | Path) -> Iterator[Path]:
    """UTF-8 path for libraries that need one: `path`, or a temporary file that is moved to `path` at the end."""
    path = Path(path)
    try:
        str(path).encode()
    except UnicodeEncodeError:
        with tempfile.TemporaryDirectory() as folder:
            temporary = Path(folder) / f"scene{path.suffix}"
            yield temporary
            shutil.move(temporary, path)
    else:
        yield path


OPENCV_FROM_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
"""Flips the y and z axes; its own inverse."""
_ROUNDED_CODES, _ROUNDED_S = 1e-3, 1.5e-3
"""Maximum deviation from evenly spaced timestamps at a constant frame rate, in time codes and in seconds."""


def camera_frames(scene: Scene) -> np.ndarray:
    """Indices [frames] of the frames with a solved camera.

    Raises:
        UserError: no frame has a camera.
    """
    known = np.isfinite(np.asarray(scene.cameras.world_from_camera)).all(axis=(1, 2))
    known &= np.isfinite(np.asarray(scene.cameras.intrinsics)).all(axis=(1, 2))
    found = np.flatnonzero(known & scene.solved_frames)
    if len(found) == 0:
        raise UserError("this scene has no cameras, which this format needs; run st4rtrack again, or export ply")
    return found


def world_from_cameras(scene: Scene, *, every_frame: bool = False) -> np.ndarray:
    """Camera-to-world poses [time, 4, 4] float64; poses of unsolved frames are interpolated.

    Args:
        scene: in memory or on disk.
        every_frame: whether the format needs a pose for each frame; then a warning reports the number of unsolved frames.
    Raises:
        UserError: no frame has a camera.
    """
    unsolved = len(scene) - len(camera_frames(scene))
    if every_frame and unsolved:
        logger.warning(
            "%d of %d frames are unsolved: their poses, which this format needs, are interpolated", unsolved, len(scene)
        )
    return np.asarray(scene.cameras.world_from_camera, np.float64)


def image_intrinsics(scene: Scene, image_map: PixelMap) -> np.ndarray:
    """Intrinsics [time, 3, 3] in pixels of an image; `image_map` maps image pixels to network pixels."""
    return image_map.source_intrinsics(np.asarray(scene.cameras.intrinsics, np.float64))


def fx_fy_cx_cy(intrinsics: np.ndarray) -> np.ndarray:
    """fx, fy, cx, cy [..., 4] of intrinsics [..., 3, 3]."""
    return intrinsics[..., [0, 1, 0, 1], [0, 1, 2, 2]]


def anchor_pinhole(scene: Scene, image_map: PixelMap) -> np.ndarray:
    """fx, fy, cx, cy [4] of the anchor, for formats that store one camera; a warning if the focal length changes."""
    pinholes = fx_fy_cx_cy(image_intrinsics(scene, image_map))
    if not np.allclose(pinholes, pinholes[scene.anchor_index], rtol=1e-3):
        logger.warning("the focal length changes in this scene, but this format stores only one: that of the anchor is used")
    return pinholes[scene.anchor_index]


def opengl_from_opencv_points(points_world: np.ndarray) -> np.ndarray:
    """Convert points [..., 3] from the OpenCV world frame (y down, z forward) to OpenGL (y up, z backward)."""
    return points_world * np.array([1, -1, -1], points_world.dtype)


def opengl_poses(world_from_camera: np.ndarray) -> np.ndarray:
    """Convert camera-to-world poses [..., 4, 4] to OpenGL axes, in the world of `opengl_from_opencv_points`."""
    return OPENCV_FROM_OPENGL @ world_from_camera @ OPENCV_FROM_OPENGL


def time_codes(scene: Scene) -> tuple[list[float], float]:
    """Time code of each frame, starting at 0, and time codes per second (the mean frame rate).

    At a constant frame rate the codes are the frame numbers, even if the container rounds timestamps (for example to
    milliseconds); at a variable frame rate they are fractional.
    """
    time_s = np.asarray(scene.time_s, np.float64)
    span = float(time_s[-1] - time_s[0])
    rate = round((len(time_s) - 1) / span, 6) if span > 0 else 30.0
    codes, numbers = (time_s - time_s[0]) * rate, np.arange(len(time_s), dtype=np.float64)
    constant = not codes[-1] > 0 or bool((np.abs(codes - numbers) <= max(_ROUNDED_CODES, _ROUNDED_S * rate)).all())
    return (numbers if constant else codes).tolist(), rate
