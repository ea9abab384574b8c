"""Crop and resize of an image with its depth, labels and intrinsics."""

from dataclasses import dataclass

import cv2
import numpy as np

from st4rtrack.geometry.camera import scale_intrinsics

SAME_SURFACE = 1.05
"""Largest ratio of the depths of four neighbouring pixels on one surface."""


@dataclass(frozen=True)
class Framing:
    """Crop of an image, independent of its size."""

    share: float = 1.0  # size relative to the largest crop of the target aspect ratio, in each direction; in (0, 1]
    # position within the remaining space, from the left and from the top; (0.5, 0.5) is centred
    place: tuple[float, float] = (0.5, 0.5)


@dataclass(frozen=True)
class Window:
    """Crop of an image in whole pixels, to be resized to height x width."""

    top: int
    left: int
    rows: int
    columns: int
    height: int
    width: int

    def intrinsics(self, intrinsics: np.ndarray) -> np.ndarray:
        """Intrinsics [..., 3, 3] after cropping and resizing."""
        scale = (self.width / self.columns, self.height / self.rows)
        return scale_intrinsics(intrinsics, scale, (-scale[0] * self.left, -scale[1] * self.top))

    def cut(self, image: np.ndarray) -> np.ndarray:
        """Crop the image without resizing."""
        return image[self.top : self.top + self.rows, self.left : self.left + self.columns]


def choose_window(source: tuple[int, int], target: tuple[int, int], framing: Framing) -> Window:
    """Choose the crop of an image of size `source` (height, width) with the aspect ratio of `target`, within a pixel."""
    height, width = source
    pixels = min(height / target[0], width / target[1]) * framing.share  # source pixels per target pixel
    rows, columns = min(max(round(target[0] * pixels), 1), height), min(max(round(target[1] * pixels), 1), width)
    top, left = round((height - rows) * framing.place[1]), round((width - columns) * framing.place[0])
    return Window(top, left, rows, columns, *target)


def resample_rgb(image: np.ndarray, window: Window) -> np.ndarray:
    """Crop and resize to [height, width, 3] uint8: area averaging when shrinking, bilinear otherwise."""
    smaller = window.width < window.columns
    return cv2.resize(
        window.cut(image), (window.width, window.height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR
    )


def resample_labels(labels: np.ndarray, window: Window) -> np.ndarray:
    """Crop and resize labels to [height, width] by nearest neighbour."""
    rows, columns = _centres(window)
    return window.cut(labels)[np.floor(rows).astype(int)[:, None], np.floor(columns).astype(int)]


def resample_depth(depth: np.ndarray, window: Window, labels: np.ndarray | None = None) -> np.ndarray:
    """Crop and resize depth to [height, width] float32 at the centres of the new pixels; 0 where unknown.

    Within one surface, 1 / z is interpolated, which is linear over the image of a plane: planes stay exact. At edges of depth
    or of `labels` [source height, source width], the nearest source pixel is taken, so that no depth is invented between two
    surfaces.
    """
    depth = window.cut(depth).astype(np.float64)
    rows, columns = _centres(window)
    top, down = _neighbours(rows, depth.shape[0])
    left, right = _neighbours(columns, depth.shape[1])
    corners = np.stack([depth[np.ix_(r, c)] for r in top for c in left])
    one = (corners.min(axis=0) > 0) & (corners.max(axis=0) < SAME_SURFACE * corners.min(axis=0))
    if labels is not None:
        of_corners = np.stack([window.cut(labels)[np.ix_(r, c)] for r in top for c in left])
        one &= (of_corners == of_corners[0]).all(axis=0)
    down = down[:, None]
    inverse = 1 / np.where(one, corners, 1.0)
    upper, lower = inverse[0] * (1 - right) + inverse[1] * right, inverse[2] * (1 - right) + inverse[3] * right
    nearest = depth[np.floor(rows).astype(int)[:, None], np.floor(columns).astype(int)]
    return np.where(one, 1 / (upper * (1 - down) + lower * down), nearest).astype(np.float32)


def _centres(window: Window) -> tuple[np.ndarray, np.ndarray]:
    """Centres of the new pixels as continuous rows [height] and columns [width] of the crop."""
    rows = (np.arange(window.height) + 0.5) * window.rows / window.height
    return rows, (np.arange(window.width) + 0.5) * window.columns / window.width


def _neighbours(positions: np.ndarray, count: int) -> tuple[tuple[np.ndarray, np.ndarray], np.ndarray]:
    """Two neighbouring pixels of each position and the weight of the second; extrapolates beyond the outer pixel centres."""
    first = np.clip(np.floor(positions - 0.5), 0, max(count - 2, 0)).astype(int)
    return (first, np.minimum(first + 1, count - 1)), positions - 0.5 - first
