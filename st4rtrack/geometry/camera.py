"""Pinhole camera. OpenCV axes (x right, y down, z forward); pixels (u, v) are continuous and the centre of the
top-left pixel is (0.5, 0.5), so that the image is [0, width] x [0, height] and a resize is a pure scale.

Lens distortion is separate: `geometry.lens`.
"""

from typing import TYPE_CHECKING, TypeVar

import numpy as np

from st4rtrack.geometry.transforms import invert_rigid, transform_points
from st4rtrack.geometry.vectors import concatenate

if TYPE_CHECKING:
    import torch

ArrayT = TypeVar("ArrayT", np.ndarray, "torch.Tensor")


def pixel_grid(height: int, width: int) -> np.ndarray:
    """Pixel centres [height, width, 2] (u, v), float64: the first is (0.5, 0.5)."""
    u, v = np.meshgrid(np.arange(width) + 0.5, np.arange(height) + 0.5)
    return np.stack([u, v], axis=-1)


def intrinsics_from_focal(focal_px: float, height: int, width: int) -> np.ndarray:
    """Intrinsics [3, 3] of square pixels with the principal point at the image centre."""
    return np.array([[focal_px, 0.0, width / 2], [0.0, focal_px, height / 2], [0.0, 0.0, 1.0]])


def project(points_camera: ArrayT, intrinsics: ArrayT) -> ArrayT:
    """Project points of the camera frame to pixels.

    Args:
        points_camera: [..., points, 3]; points at z <= 0 give meaningless pixels: check z.
        intrinsics: [..., 3, 3], leading axes broadcast.
    Returns:
        [..., points, 2] pixels.
    """
    depth = points_camera[..., 2:]
    rays = concatenate([points_camera[..., :1] / depth, points_camera[..., 1:2] / depth], axis=-1)  # NumPy is slow on short axes
    pixels_px = rays @ intrinsics[..., :2, :2].swapaxes(-1, -2)
    pixels_px += intrinsics[..., None, :2, 2]
    return pixels_px


def project_world(
    points_world: np.ndarray, world_from_camera: np.ndarray, intrinsics: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels [..., points, 2] and z-depth [..., points] of world points [..., points, 3]; NaN pixels behind the camera."""
    camera_from_world = invert_rigid(np.asarray(world_from_camera, np.float64))
    points_camera = transform_points(camera_from_world, np.asarray(points_world, np.float64))
    depth = points_camera[..., 2]
    with np.errstate(all="ignore"):
        pixels_px = project(points_camera, np.asarray(intrinsics, np.float64))
    return np.where((depth > 0)[..., None], pixels_px, np.nan), depth


def unproject(pixels_px: ArrayT, depth: ArrayT, intrinsics: ArrayT) -> ArrayT:
    """Points in the camera frame from pixels and depth, the inverse of `project`.

    Args:
        pixels_px: [..., points, 2].
        depth: [..., points] z-depth, in the units of the result.
        intrinsics: [..., 3, 3] without skew.
    Returns:
        [..., points, 3].
    """
    focal = intrinsics[..., None, (0, 1), (0, 1)]
    rays = (pixels_px - intrinsics[..., None, :2, 2]) / focal
    return concatenate([rays * depth[..., None], depth[..., None]], axis=-1)


def scale_intrinsics(intrinsics: np.ndarray, scale: tuple[float, float], offset_px: tuple[float, float]) -> np.ndarray:
    """Intrinsics [..., 3, 3] after an image transform: new pixels are `scale * (u, v) + offset_px`."""
    change = np.array([[scale[0], 0.0, offset_px[0]], [0.0, scale[1], offset_px[1]], [0.0, 0.0, 1.0]])
    return change @ intrinsics


def zoom_intrinsics(intrinsics: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """Intrinsics [..., 3, 3] with the focal lengths of `intrinsics` [3, 3] multiplied by factors [...]."""
    return intrinsics * np.where(np.diag((1, 1, 0)) > 0, np.asarray(factor)[..., None, None], 1.0)
