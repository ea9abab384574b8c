"""TUM export: the camera trajectory as `timestamp tx ty tz qx qy qz qw`.

Poses are world from camera with OpenCV axes; timestamps are seconds of the source.
"""

from pathlib import Path

import numpy as np

from st4rtrack.geometry.transforms import quaternion_from_rotation
from st4rtrack.io.formats.cameras import camera_frames, world_from_cameras
from st4rtrack.io.formats.units import lengths
from st4rtrack.scene import Scene


def write_tum(scene: Scene, path: str | Path) -> None:
    """Write one line per solved frame.

    Args:
        scene: in memory or on disk.
        path: path of the text file; replaced if it exists.
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
