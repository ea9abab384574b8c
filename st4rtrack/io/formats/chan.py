"""Camera export as a `.chan` file, which Nuke, Houdini and Blender read: `frame tx ty tz rx ry rz vfov` per line.

Y is up and the camera looks along -z. Angles are degrees; the rotation order is ZXY, Nuke's default: the camera turns about z
first, then x, then y. `vfov` is the vertical field of view. Unsolved frames are left out, and the tool interpolates between
its neighbours.
"""

import logging
from pathlib import Path

import numpy as np

from st4rtrack.io.formats.cameras import camera_frames, image_intrinsics, opengl_poses, world_from_cameras
from st4rtrack.io.formats.frames import at_constant_rate
from st4rtrack.scene import Scene

logger = logging.getLogger(__name__)

_MAX_OFFSET_PX = 0.5


def write_chan(scene: Scene, path: str | Path, *, first_frame: int = 1) -> None:
    """Write the camera of every solved frame.

    Args:
        scene: in memory or on disk.
        path: path of the text file; replaced if it exists.
        first_frame: Number of the first frame.
    Raises:
        UserError: the scene has no cameras.
    """
    scene, _, _ = at_constant_rate(scene)
    frames = camera_frames(scene)
    height, width = scene.source_size
    intrinsics = image_intrinsics(scene, scene.pixel_map.ideal)[frames]
    offset_px = np.abs(intrinsics[:, :2, 2] - (width / 2, height / 2)).max()
    if offset_px > _MAX_OFFSET_PX:
        logger.warning(
            "the principal point is %.1f px from the image centre, which a .chan file cannot store; export usd or blender",
            offset_px,
        )
    poses = opengl_poses(world_from_cameras(scene)[frames])
    field_of_view = np.degrees(2 * np.arctan2(height / 2, intrinsics[:, 1, 1]))
    rows = np.column_stack([first_frame + frames, poses[:, :3, 3], zxy_angles(poses[:, :3, :3]), field_of_view])
    np.savetxt(path, rows, fmt=["%d"] + ["%.12g"] * 7, encoding="ascii")


def zxy_angles(rotation: np.ndarray) -> np.ndarray:
    """Angles [..., 3] in degrees about x, y and z of rotations [..., 3, 3] = R_y R_x R_z, continuous over the first axis."""
    x = np.arctan2(-rotation[..., 1, 2], np.hypot(rotation[..., 1, 0], rotation[..., 1, 1]))
    y = np.arctan2(rotation[..., 0, 2], rotation[..., 2, 2])
    z = np.arctan2(rotation[..., 1, 0], rotation[..., 1, 1])
    return np.degrees(np.unwrap(np.stack([x, y, z], axis=-1), axis=0)) + 0.0  # no -0
