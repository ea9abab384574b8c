"""Motion of static points: how far a reconstruction moves points that do not move."""

import numpy as np

from st4rtrack.geometry.camera import pixel_grid, project, unproject
from st4rtrack.geometry.sampling import inside_image, nearest_pixel, sample_map
from st4rtrack.geometry.transforms import invert_rigid, transform_points
from st4rtrack.geometry.vectors import all_finite, length

FRAME_GAP = 8
SAME_SURFACE = 0.02
"""Relative difference of true depths below which two frames show the same static point; a moved object differs by more."""
POINTS_PER_FRAME = 3000


def static_motion(
    reconstruction_world: np.ndarray,
    true_depth_m: np.ndarray,
    world_from_camera: np.ndarray,
    intrinsics: np.ndarray,
    *,
    foreground: np.ndarray | None = None,
) -> float:
    """Median distance between the two positions that a reconstruction gives a static point in frames `FRAME_GAP` apart.

    True depth and cameras find the pixel of the same point in the later frame; points that moved or are hidden there are left out.

    Args:
        reconstruction_world: [time, h, w, 3] of any size and unit.
        true_depth_m: [time, height, width], not positive or not finite where unknown.
        world_from_camera: [time, 4, 4], true.
        intrinsics: [3, 3], true, in pixels of the depth maps.
        foreground: [time, height, width] bool, pixels that are not static.
    Returns:
        In the unit of the reconstruction; NaN without a static point.
    """
    height, width = true_depth_m.shape[1:]
    step = max(1, round((height * width / POINTS_PER_FRAME) ** 0.5))
    pixels = pixel_grid(height, width)[step // 2 :: step, step // 2 :: step].reshape(-1, 2)
    gap = min(FRAME_GAP, len(true_depth_m) - 1)
    distances = []
    for start in range(len(true_depth_m) - gap if gap else 0):
        end = start + gap
        depth = _at(true_depth_m[start], pixels)
        use = np.isfinite(depth) & (depth > 0)
        if foreground is not None:
            use &= ~_at(foreground[start], pixels)
        moved = invert_rigid(world_from_camera[end]) @ world_from_camera[start]
        points = transform_points(moved, unproject(pixels[use], depth[use].astype(np.float64), intrinsics))
        points, start_px = (values[points[:, 2] > 0] for values in (points, pixels[use]))
        end_px = project(points, intrinsics)
        same = inside_image(end_px, height, width)
        same &= np.abs(_at(true_depth_m[end], end_px) - points[:, 2]) < SAME_SURFACE * points[:, 2]
        scale = (reconstruction_world.shape[2] / width, reconstruction_world.shape[1] / height)
        places = [
            sample_map(np.asarray(reconstruction_world[t], np.float64), at[same] * scale)
            for t, at in ((start, start_px), (end, end_px))
        ]
        known = all_finite(places[0]) & all_finite(places[1])
        distances.append(length(places[0][known] - places[1][known]))
    every = np.concatenate(distances) if distances else np.empty(0)
    return float(np.median(every)) if len(every) else float("nan")


def _at(values: np.ndarray, pixels_px: np.ndarray) -> np.ndarray:
    row, column = nearest_pixel(pixels_px, *values.shape)
    return values[row, column]
