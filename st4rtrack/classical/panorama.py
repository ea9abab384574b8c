"""Detection of 360-degree video: equirectangular images of the whole sphere."""

from collections.abc import Sequence

import cv2
import numpy as np

ASPECT_TOLERANCE = 0.01
MAX_SEAM = 1.5
"""Maximum difference between the first and the last column over that of adjacent columns: the image continues around it."""
MAX_POLE = 0.35
"""Maximum difference along the first and the last row, each the image of one point, over that along the middle row."""
WIDTH = 256


def is_panorama(frames: Sequence[np.ndarray]) -> bool:
    """Whether most of some frames [height, width, 3] uint8 are equirectangular images of the whole sphere."""
    return bool(frames) and float(np.mean([_is_equirectangular(frame) for frame in frames])) > 0.5


def _is_equirectangular(rgb: np.ndarray) -> bool:
    height, width = rgb.shape[:2]
    if abs(width / height / 2 - 1) > ASPECT_TOLERANCE:
        return False
    small = cv2.resize(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), (WIDTH, WIDTH // 2), interpolation=cv2.INTER_AREA).astype(
        np.float32
    )
    across = np.abs(np.diff(small, axis=1))
    middle = float(across[WIDTH // 4 - 16 : WIDTH // 4 + 16].mean())
    seam, poles = float(np.abs(small[:, 0] - small[:, -1]).mean()), float(max(across[0].mean(), across[-1].mean()))
    return middle > 1 and seam <= MAX_SEAM * float(across.mean()) and poles <= MAX_POLE * middle
