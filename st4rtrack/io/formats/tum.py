"""The cameras as a TUM trajectory: `timestamp tx ty tz qx qy qz qw`, world from camera, OpenCV axes, seconds of the source."""

from pathlib import Path

import numpy as np

from st4rtrack.io.formats.cameras import camera_frames, world_from_cameras
from st4rtrack.io.formats.units import lengths
from st4rtrack.types import Scene


def write_tum(scene: Scene, path: str | Path) -> None:
    """Writes a line for each frame that has a camera.

    Args:
        scene: in memory or on disk.
        path: of the text file; replaced when it exists.
    Raises:
        UserError: the scene has no cameras.
    """
    frames = camera_frames(scene)
    world_from_camera = world_from_cameras(scene)[frames]
    rows = np.column_stack(
        [np.asarray(scene.time_s)[frames], world_from_camera[:, :3, 3], quaternion_xyzw(world_from_camera[:, :3, :3])]
    )
    with Path(path).open("w", encoding="ascii", newline="\n") as file:
        file.write("# timestamp tx ty tz qx qy qz qw (world from camera; x right, y down, z forward)\n")
        file.write(f"# {lengths(scene.info)}\n")
        np.savetxt(file, rows, fmt=["%.9f"] + ["%.12g"] * 7)


def quaternion_xyzw(rotation: np.ndarray) -> np.ndarray:
    """Unit quaternions [n, 4], x y z w with w >= 0, of rotation matrices [n, 3, 3]; as exact for half turns as for small ones.

    Source: Bar-Itzhack, "New method for extracting the quaternion from a rotation matrix", 2000.
    """
    r = np.asarray(rotation, np.float64)
    symmetric = np.zeros((len(r), 4, 4))
    symmetric[:, :3, :3] = r + r.swapaxes(1, 2) - np.trace(r, axis1=1, axis2=2)[:, None, None] * np.eye(3)
    skew = np.stack([r[:, 2, 1] - r[:, 1, 2], r[:, 0, 2] - r[:, 2, 0], r[:, 1, 0] - r[:, 0, 1]], axis=1)
    symmetric[:, :3, 3] = symmetric[:, 3, :3] = skew
    symmetric[:, 3, 3] = np.trace(r, axis1=1, axis2=2)
    quaternion = np.linalg.eigh(symmetric)[1][:, :, -1]
    return quaternion * np.where(quaternion[:, 3:] < 0, -1.0, 1.0)
