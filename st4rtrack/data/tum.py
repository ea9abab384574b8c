"""TUM RGB-D reader, also of the Bonn RGB-D Dynamic data set, which has the same files.

`{sequence}/` holds `rgb.txt`, `depth.txt`, `groundtruth.txt` and the images that they list. Colour, depth and motion capture have
separate clocks; a frame is a colour image with a depth image and a pose near it in time.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from st4rtrack.data.raw import RawSequence, read_16bit, read_bytes, read_rgb, sub_folders
from st4rtrack.geometry.transforms import rigid
from st4rtrack.io.known.matrices import nearest_time as nearest_time
from st4rtrack.io.known.matrices import require_cameras, rotation_from_file
from st4rtrack.types import UserError

LARGEST_GAP_S = 0.02
DEPTH_PER_M = 5000.0
INTRINSICS = np.array([[525.0, 0.0, 319.5], [0.0, 525.0, 239.5], [0.0, 0.0, 1.0]])
"""Generic intrinsics for all three sensors, centre of the first pixel at 0; not the freiburg3 calibration. Used by WorldTrack."""


@dataclass(frozen=True)
class Sensor:
    """Calibration of an RGB-D camera and of the body whose poses are recorded."""

    intrinsics: np.ndarray  # [3, 3], centre of the first pixel at 0
    depth_per_m: float  # stored depth values per metre
    body_from_camera: np.ndarray  # [4, 4] rigid


TUM = Sensor(INTRINSICS, DEPTH_PER_M, np.eye(4))
_AXES = np.array([[-1.0, 0, 0], [0, 0, 1], [0, 1, 0]])
_MARKERS = np.array([[1.0157, 0.1828, -0.2389], [0.0009, -0.8431, -0.6413], [-0.3009, 0.6147, -0.8085]])
_MARKERS_SCALE = float(np.linalg.det(_MARKERS)) ** (1 / 3)
BONN = Sensor(
    np.array([[542.822841, 0.0, 315.593520], [0.0, 542.576870, 237.756098], [0.0, 0.0, 1.0]]),
    DEPTH_PER_M / _MARKERS_SCALE,
    require_cameras(rigid(_AXES @ _MARKERS / _MARKERS_SCALE, _AXES @ (0.0113, -0.0098, 0.0111))[None], "Bonn")[0],
)
"""As stated with the data set: poses are those of the markers, and depth is 5.9 % too small. Its lens distortion is neglected."""


class TumRgbd:
    """Folder `root` of TUM RGB-D sequences."""

    def __init__(self, root: str | Path, sensor: Sensor = TUM) -> None:
        self.folder, self.sensor = Path(root), sensor
        self.names = sub_folders(self.folder)

    def open(self, name: str) -> RawSequence:
        """Open a sequence: the frames with a camera and depth less than 0.02 s away, in order of time."""
        folder = self.folder / name
        rgb_s, rgb_paths = _read_files(folder / "rgb.txt")
        depth_s, depth_paths = _read_files(folder / "depth.txt")
        rows = _read_table(folder / "groundtruth.txt", 8)
        camera_s, cameras = np.array([float(row[0]) for row in rows]), np.array(rows, np.float64)[:, 1:]
        depth_of, depth_gap_s = nearest_time(rgb_s, depth_s)
        camera_of, camera_gap_s = nearest_time(rgb_s, camera_s)
        frames = np.flatnonzero((depth_gap_s < LARGEST_GAP_S) & (camera_gap_s < LARGEST_GAP_S))
        if not len(frames):
            raise UserError(
                f"{folder}: no image of rgb.txt has depth and a camera within {LARGEST_GAP_S} s; use files of one sequence"
            )

        def read_depth(index: int) -> np.ndarray:
            stored = read_16bit(folder / depth_paths[depth_of[frames[index]]]).astype(np.float32)
            return stored / np.float32(self.sensor.depth_per_m)

        chosen = cameras[camera_of[frames]]
        bodies = rigid(rotation_from_file(chosen[:, (6, 3, 4, 5)], str(folder / "groundtruth.txt")), chosen[:, :3])
        return RawSequence(
            name,
            np.tile(self.sensor.intrinsics, (len(frames), 1, 1)),
            bodies @ self.sensor.body_from_camera,
            read_rgb=lambda index: read_rgb(folder / rgb_paths[frames[index]]),
            read_depth=read_depth,
        )


def _read_files(path: Path) -> tuple[np.ndarray, list[str]]:
    """Times in seconds, increasing, and the files of a list."""
    rows = sorted(_read_table(path, 2), key=lambda row: float(row[0]))
    return np.array([float(row[0]) for row in rows]), [row[1] for row in rows]


def _read_table(path: Path, columns: int) -> list[list[str]]:
    """Words of a text table: a time, then numbers or a file name; lines starting with # are comments."""
    rows = []
    for number, line in enumerate(read_bytes(path).decode("utf-8", "replace").splitlines(), start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != columns or not all(_is_number(word) for word in (words if columns > 2 else words[:1])):
            raise UserError(f"{path} line {number} must be a time and {columns - 1} more columns; fetch the file again")
        rows.append(words)
    if not rows:
        raise UserError(f"{path} lists nothing; fetch the file again")
    return rows


def _is_number(word: str) -> bool:
    try:
        return bool(np.isfinite(float(word)))
    except ValueError:
        return False
