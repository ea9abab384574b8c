"""Measured static depth of other frames, warped into the current camera: a point measured once helps every frame."""

from dataclasses import dataclass, field

import cv2
import numpy as np

from st4rtrack.classical.static_depth import StaticDepth
from st4rtrack.geometry.sampling import inside_image
from st4rtrack.geometry.transforms import invert_rigid, transform_points

MAX_DIFFERENCE = 12
"""Maximum grey-level difference between a warped point and its target pixel: beyond it, the point is occluded."""
ERROR_GROWTH, ADDED_ERROR, MAX_LOG_ERROR = 1.05, 0.005, 0.15
"""Growth of the expected log error per warp (factor, addend), and its maximum, above which depth is discarded."""


@dataclass(frozen=True)
class MeasuredPoints:
    """Points with measured depth.

    Attributes:
        points_world: [points, 3].
        log_error: [points] expected error of their log depth.
        grey: [points] grey levels, smoothed.
    """

    points_world: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), np.float32))
    log_error: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    grey: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))

    @classmethod
    def of(cls, measured: StaticDepth, grey: np.ndarray, world_from_camera: np.ndarray, rays: np.ndarray) -> "MeasuredPoints":
        """Points of a frame: its measured depth [H, W], image [H, W] uint8, camera [4, 4] and rays [H, W, 3]."""
        chosen = measured.known & (measured.log_error < MAX_LOG_ERROR)
        points = transform_points(world_from_camera, rays[chosen] * measured.depth[chosen][:, None])
        return cls(points, measured.log_error[chosen] * ERROR_GROWTH + ADDED_ERROR, _smooth(grey)[chosen])

    def seen(self, grey: np.ndarray, world_from_camera: np.ndarray, focal_px: float) -> StaticDepth:
        """Depth of the points in another frame with image `grey` [H, W] uint8, 0 where unknown."""
        size = (grey.shape[0], grey.shape[1])
        depth, log_error = np.zeros(size, np.float32), np.full(size, np.inf, np.float32)
        points = transform_points(invert_rigid(world_from_camera), self.points_world)
        z = np.maximum(points[:, 2], 1e-6)
        pixels = points[:, :2] / z[:, None] * focal_px + (size[1] / 2, size[0] / 2)
        inside = (points[:, 2] > 0) & inside_image(pixels, *size)
        order = np.flatnonzero(inside)[np.argsort(-z[inside])]  # z-buffer: of two points in one pixel, the nearer is written last
        column, row = np.floor(pixels[order]).astype(np.int64).T
        same = np.abs(_smooth(grey)[row, column] - self.grey[order]) < MAX_DIFFERENCE
        depth[row, column] = np.where(same, z[order], 0)
        log_error[row, column] = np.where(same, self.log_error[order], np.inf)
        return StaticDepth(depth, log_error)


def _smooth(grey: np.ndarray) -> np.ndarray:
    return cv2.blur(grey, (3, 3)).astype(np.float32)
