"""Camera trajectories as text: TUM, and `.chan` of Nuke, Houdini and Blender. Unsolved frames are left out."""

import logging
from pathlib import Path

import numpy as np

from st4rtrack.geometry.transforms import quaternion_from_rotation
from st4rtrack.io.formats.common import camera_frames, image_intrinsics, lengths, opengl_poses, world_from_cameras
from st4rtrack.io.formats.frames import at_constant_rate
from st4rtrack.scene import Scene

logger = logging.getLogger(__name__)


def write_tum(scene: Scene, path: str | Path) -> None:
    """Write a line per frame: timestamp in seconds of the source, world-from-camera pose with OpenCV axes.

    Raises:
        UserError: the scene has no cameras.
    """
    frames = camera_frames(scene)
    world_from_camera = world_from_cameras(scene)[frames]
    xyzw = quaternion_from_rotation(world_from_camera[:, :3, :3])[:, (1, 2, 3, 0)]
    rows = np.column_stack([np.asarray(scene.time_s)[frames], world_from_camera[:, :3, 3], xyzw])
    with Path(path).open("w", encoding="ascii", newline="\n") as file:
        file.write("# timestamp tx ty tz qx qy qz qw (world from camera; x right, y down, z forward)\n")
        file.write(f"# {lengths(scene.info)}\n")
        np.savetxt(file, rows, fmt=["%.9f"] + ["%.12g"] * 7)


_MAX_OFFSET_PX = 0.5


def write_chan(scene: Scene, path: str | Path, *, first_frame: int = 1) -> None:
    """Write a line per frame, `frame tx ty tz rx ry rz vfov`: y up, looking along -z, the vertical field of view.

    Angles are degrees; the rotation order is ZXY, Nuke's default: the camera turns about z first, then x, then y.

    Args:
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
        logger.warning("a .chan file cannot store that the principal point is %.1f px off centre; export usd", offset_px)
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
