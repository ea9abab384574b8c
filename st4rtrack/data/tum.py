"""TUM RGB-D reader: `{sequence}/` with `rgb.txt`, `depth.txt`, `groundtruth.txt` and the images that they list.

Colour, depth and motion capture have separate clocks; a frame is a colour image with a depth image and a pose near it in time.
"""

from pathlib import Path

import numpy as np

from st4rtrack.data.raw import RawSequence, read_16bit, read_bytes, read_rgb, sub_folders
from st4rtrack.geometry.transforms import rigid
from st4rtrack.io.known.matrices import nearest_time as nearest_time
from st4rtrack.io.known.matrices import rotation_from_file
from st4rtrack.types import UserError

LARGEST_GAP_S = 0.02
DEPTH_PER_M = 5000.0
INTRINSICS = np.array([[525.0, 0.0, 319.5], [0.0, 525.0, 239.5], [0.0, 0.0, 1.0]])
"""Generic intrinsics for all three sensors, centre of the first pixel at 0; not the freiburg3 calibration. Used by WorldTrack."""


class TumRgbd:
    """Folder of TUM RGB-D sequences.

    Args:
        root: folder that holds the sequence folders.
    Raises:
        UserError: the folder does not exist, or is empty.
    """

    def __init__(self, root: str | Path) -> None:
        self.folder = Path(root)
        self.names = sub_folders(self.folder)

    def open(self, name: str) -> RawSequence:
        """Open a sequence: the frames with a camera and depth less than 0.02 s away, in order of time.

        Raises:
            UserError: a file is missing or damaged; the message names it.
        """
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
            return read_16bit(folder / depth_paths[depth_of[frames[index]]]).astype(np.float32) / np.float32(DEPTH_PER_M)

        chosen = cameras[camera_of[frames]]
        return RawSequence(
            name,
            np.tile(INTRINSICS, (len(frames), 1, 1)),
            rigid(rotation_from_file(chosen[:, (6, 3, 4, 5)], str(folder / "groundtruth.txt")), chosen[:, :3]),
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
