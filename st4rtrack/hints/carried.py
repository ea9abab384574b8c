"""Measured static depth of previous frames, warped into the current camera: it stays known while it is in view."""

import cv2
import numpy as np

from st4rtrack.geometry.sampling import inside_image
from st4rtrack.geometry.transforms import invert_rigid

MAX_DIFFERENCE = 12
"""Maximum grey-level difference between a warped point and its target pixel: beyond it, the point is occluded."""
ERROR_GROWTH, ADDED_ERROR, MAX_LOG_ERROR = 1.05, 0.005, 0.15
"""Growth of the expected log error per frame (factor, addend), and its maximum, above which depth is discarded."""


class CarriedDepth:
    """Depth that is warped from frame to frame."""

    def __init__(self) -> None:
        self._points_world = np.zeros((0, 3), np.float32)
        self._log_error = self._grey = np.zeros(0, np.float32)

    def keep(
        self, depth: np.ndarray, log_error: np.ndarray, grey: np.ndarray, world_from_camera: np.ndarray, rays: np.ndarray
    ) -> None:
        """Store the measured depth [H, W] of a frame (0 where unknown), its expected log error, the image (uint8) and its rays."""
        chosen = (depth > 0) & (log_error < MAX_LOG_ERROR)
        points = rays[chosen] * depth[chosen][:, None]
        self._points_world = points @ world_from_camera[:3, :3].T + world_from_camera[:3, 3]
        self._log_error = log_error[chosen] * ERROR_GROWTH + ADDED_ERROR
        self._grey = _smooth(grey)[chosen]

    def seen(self, grey: np.ndarray, world_from_camera: np.ndarray, focal_px: float) -> tuple[np.ndarray, np.ndarray]:
        """Depth [H, W] warped into another frame, 0 where unknown, and its expected log error."""
        size = (grey.shape[0], grey.shape[1])
        depth, log_error = np.zeros(size, np.float32), np.full(size, np.inf, np.float32)
        camera_from_world = invert_rigid(world_from_camera)
        points = self._points_world @ camera_from_world[:3, :3].T + camera_from_world[:3, 3]
        z = np.maximum(points[:, 2], 1e-6)
        pixels = points[:, :2] / z[:, None] * focal_px + (size[1] / 2, size[0] / 2)
        inside = (points[:, 2] > 0) & inside_image(pixels, *size)
        order = np.flatnonzero(inside)[np.argsort(-z[inside])]  # z-buffer: of two points in one pixel, the nearer is written last
        column, row = np.floor(pixels[order]).astype(np.int64).T
        same = np.abs(_smooth(grey)[row, column] - self._grey[order]) < MAX_DIFFERENCE
        depth[row, column] = np.where(same, z[order], 0)
        log_error[row, column] = np.where(same, self._log_error[order], np.inf)
        return depth, log_error


def _smooth(grey: np.ndarray) -> np.ndarray:
    return cv2.blur(grey, (3, 3)).astype(np.float32)
