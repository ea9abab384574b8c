"""Which points of a further anchor are seen: a depth test alone, of tracks against the reconstruction of the same frame.

`tracks.py` knows more of the first anchor.
"""

import numpy as np

from st4rtrack.geometry.camera import project
from st4rtrack.geometry.sampling import inside_image
from st4rtrack.geometry.transforms import invert_rigid, transform_points

MIN_TOLERANCE = 0.01
MAX_TOLERANCE = 0.15
NOISE_FACTOR = 3.0


def visible_points(
    tracking_points: np.ndarray, reconstruction_points: np.ndarray, world_from_camera: np.ndarray, intrinsics: np.ndarray
) -> np.ndarray:
    """Whether each point of the anchor is seen in a frame.

    A point is hidden when it lies outside the image, or behind the reconstruction at the pixel it projects to. "Behind" is
    relative depth beyond a tolerance: three times the disagreement of the two branches in this frame (median absolute deviation
    of the log depth ratio, most points being seen), between 1 and 15 percent. The deepest of the four pixels around the projection
    counts, so that a point at the edge of an object is not hidden by the object's neighbour.

    Args:
        tracking_points, reconstruction_points: [height, width, 3] of the same frame, world units.
        world_from_camera: [4, 4] of the frame.
        intrinsics: [3, 3] network pixels.
    Returns:
        [height, width] bool.
    """
    height, width = tracking_points.shape[:2]
    camera_from_world = invert_rigid(world_from_camera)
    points = transform_points(camera_from_world, tracking_points.reshape(-1, 3).astype(np.float64))
    surface = transform_points(camera_from_world, reconstruction_points.reshape(-1, 3).astype(np.float64))[:, 2]
    depth = points[:, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        pixels = project(points, intrinsics)
        in_view = (depth > 0) & np.isfinite(pixels).all(axis=-1) & inside_image(pixels, height, width)
    behind = np.full(len(points), np.inf)
    seen_at = _deepest_around(surface.reshape(height, width), pixels[in_view])
    with np.errstate(divide="ignore", invalid="ignore"):
        behind[in_view] = np.log(depth[in_view] / seen_at)
    return (in_view & (behind < _tolerance(behind[in_view]))).reshape(height, width)


def _deepest_around(depth: np.ndarray, pixels_px: np.ndarray) -> np.ndarray:
    """Largest depth [points] of the four pixel centres around each position [points, 2]; NaN where it is not positive."""
    height, width = depth.shape
    column, row = (np.floor(pixels_px[:, axis] - 0.5).astype(np.int64) for axis in (0, 1))
    corners = [
        depth[np.clip(row + down, 0, height - 1), np.clip(column + right, 0, width - 1)] for down in (0, 1) for right in (0, 1)
    ]
    deepest = np.max(corners, axis=0) if len(pixels_px) else np.zeros(0)
    return np.where(deepest > 0, deepest, np.nan)


def _tolerance(behind: np.ndarray) -> float:
    finite = behind[np.isfinite(behind)]
    if finite.size == 0:
        return MIN_TOLERANCE
    return float(np.clip(NOISE_FACTOR * np.median(np.abs(finite)), MIN_TOLERANCE, MAX_TOLERANCE))
