"""Cameras of a scene as other tools want them: which frames have one, in source pixels, with OpenGL axes.

OpenGL, glTF, USD and nerfstudio cameras look along -z with y up; ours along z with y down. x is the same.
"""

import logging

import numpy as np

from st4rtrack.geometry.camera import scale_intrinsics
from st4rtrack.types import PixelMap, Scene, UserError

logger = logging.getLogger(__name__)

OPENCV_FROM_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])
"""Turns y and z around; its own inverse."""


def camera_frames(scene: Scene) -> np.ndarray:
    """[frames] numbers of the frames for which a camera was found.

    Raises:
        UserError: there is none.
    """
    found = np.zeros(0, np.int64)
    if scene.cameras is not None and scene.cameras.world_from_camera is not None and scene.cameras.intrinsics is not None:
        known = np.isfinite(np.asarray(scene.cameras.world_from_camera)).all(axis=(1, 2))
        known &= np.isfinite(np.asarray(scene.cameras.intrinsics)).all(axis=(1, 2))
        found = np.flatnonzero(known if scene.cameras.solved is None else known & np.asarray(scene.cameras.solved, bool))
    if len(found) == 0:
        raise UserError("this scene has no cameras, and this format needs them; run it again, or export ply")
    return found


def world_from_cameras(scene: Scene, *, every_frame: bool = False) -> np.ndarray:
    """[time, 4, 4] float64; poses of unsolved frames are interpolated.

    Args:
        scene: in memory or on disk.
        every_frame: the format needs a pose for each frame; a warning names the number of unsolved frames.
    Raises:
        UserError: there is none at all.
    """
    unsolved = len(scene) - len(camera_frames(scene))
    if every_frame and unsolved:
        logger.warning(
            "%d of %d frames are unsolved: this format needs a pose for each frame, theirs are interpolated", unsolved, len(scene)
        )
    return np.asarray(scene.cameras.world_from_camera, np.float64)


def image_intrinsics(scene: Scene, image_map: PixelMap) -> np.ndarray:
    """[time, 3, 3] intrinsics in the pixels of an image from which `image_map` leads to the network's."""
    scale = (1 / image_map.scale[0], 1 / image_map.scale[1])
    offset_px = (-image_map.offset_px[0] * scale[0], -image_map.offset_px[1] * scale[1])
    return scale_intrinsics(np.asarray(scene.cameras.intrinsics, np.float64), scale, offset_px)


def opengl_from_opencv_points(points_world: np.ndarray) -> np.ndarray:
    """Points [..., 3] of our world (y down, z forward) in a world with y up and z backward."""
    return points_world * np.array([1, -1, -1], points_world.dtype)


def opengl_poses(world_from_camera: np.ndarray) -> np.ndarray:
    """Cameras [..., 4, 4] with OpenGL axes, in the world of `opengl_from_opencv_points`."""
    return OPENCV_FROM_OPENGL @ world_from_camera @ OPENCV_FROM_OPENGL


def frames_per_second(scene: Scene) -> float:
    """Mean rate of the frames; 30 where there is no time between them."""
    time_s = np.asarray(scene.time_s, np.float64)
    span = float(time_s[-1] - time_s[0])
    return round((len(time_s) - 1) / span, 6) if span > 0 else 30.0
