"""KITTI reader: raw drives with the annotated depth maps of the depth prediction benchmark, both unpacked into one folder.

{date}/calib_{cam_to_cam,velo_to_cam,imu_to_velo}.txt
{date}/{drive}_sync/image_02/data/NNNNNNNNNN.png, oxts/data/NNNNNNNNNN.txt
{train,val}/{drive}_sync/proj_depth/groundtruth/image_02/NNNNNNNNNN.png
"""

from pathlib import Path

import cv2
import numpy as np

from st4rtrack.data.raw import RawSequence, read_16bit, read_bytes, read_rgb
from st4rtrack.geometry.transforms import invert_rigid, rigid
from st4rtrack.types import UserError

DEPTH_PER_M = 256.0
EARTH_RADIUS_M = 6378137.0


class Kitti:
    """Drives of a split ("val", "train") of the data set, left colour camera, at the frames with annotated depth."""

    def __init__(self, root: str | Path, split: str = "val") -> None:
        self._root, self._split = Path(root), Path(root) / split
        self.names = sorted(path.parents[2].name for path in self._split.glob("*/proj_depth/groundtruth/image_02"))
        if not self.names:
            raise UserError(
                f"{root} holds no {split}/DRIVE_sync/proj_depth/groundtruth/image_02; unpack the annotated depth there"
            )

    def open(self, name: str) -> RawSequence:
        """Open a drive."""
        date = self._root / name[:10]
        depths = sorted((self._split / name / "proj_depth/groundtruth/image_02").glob("*.png"))
        projection = _numbers(date / "calib_cam_to_cam.txt", "P_rect_02", (3, 4))
        intrinsics = projection[:, :3]
        camera_from_imu = (
            rigid(np.eye(3), np.linalg.solve(intrinsics, projection[:, 3]))
            @ rigid(_numbers(date / "calib_cam_to_cam.txt", "R_rect_00", (3, 3)), np.zeros(3))
            @ _rigid(date / "calib_velo_to_cam.txt")
            @ _rigid(date / "calib_imu_to_velo.txt")
        )
        records = np.stack([_record(date / name / "oxts/data" / f"{path.stem}.txt") for path in depths])
        return RawSequence(
            name,
            np.tile(intrinsics, (len(depths), 1, 1)),
            world_from_imu(records) @ invert_rigid(camera_from_imu),
            read_rgb=lambda index: read_rgb(date / name / "image_02/data" / depths[index].name),
            read_depth=lambda index: read_16bit(depths[index]).astype(np.float32) / np.float32(DEPTH_PER_M),
        )


def world_from_imu(records: np.ndarray) -> np.ndarray:
    """Poses [time, 4, 4] of the inertial unit; the world's origin is the first position, x east, y north (Mercator projection).

    Args:
        records: [time, 6] latitude and longitude in degrees, altitude in metres, roll, pitch and yaw in radians.
    """
    latitude, longitude, altitude, roll, pitch, yaw = records.T
    scale = EARTH_RADIUS_M * np.cos(np.radians(latitude[0]))
    north = np.log(np.tan(np.radians(90 + latitude) / 2))
    centres = np.stack([scale * np.radians(longitude), scale * north, altitude], axis=1)
    rotation = _about(yaw, 2) @ _about(pitch, 1) @ _about(roll, 0)
    return rigid(rotation, centres - centres[0])


def _about(angle: np.ndarray, axis: int) -> np.ndarray:
    """Rotations [time, 3, 3] by angles [time] about a coordinate axis."""
    return np.stack([cv2.Rodrigues(each * np.eye(3)[axis])[0] for each in angle])


def _rigid(path: Path) -> np.ndarray:
    return rigid(_numbers(path, "R", (3, 3)), _numbers(path, "T", (3,)))


def _numbers(path: Path, key: str, shape: tuple[int, ...]) -> np.ndarray:
    """The numbers of the line `key: ...` of a calibration file."""
    for line in read_bytes(path).decode("utf-8", "replace").splitlines():
        name, _, rest = line.partition(":")
        if name.strip() == key:
            return _array(path, rest, shape)
    raise UserError(f"{path} has no line {key}; unpack the calibration again")


def _record(path: Path) -> np.ndarray:
    return _array(path, " ".join(read_bytes(path).decode("utf-8", "replace").split()[:6]), (6,))


def _array(path: Path, text: str, shape: tuple[int, ...]) -> np.ndarray:
    try:
        return np.array(text.split(), np.float64).reshape(shape)
    except ValueError as error:
        raise UserError(f"{path} must hold {int(np.prod(shape))} numbers, got {text.strip()[:40]!r}; unpack it again") from error
