"""Figures of `real_video.py` that the benchmark does not have: 2D tracks, clips without truth. Unknown figures are NaN."""

import numpy as np

from st4rtrack.geometry.align import Sim3
from st4rtrack.geometry.camera import project
from st4rtrack.geometry.transforms import invert_rigid, transform_points
from st4rtrack.geometry.vectors import length
from st4rtrack.metrics.cameras import STILL_M, camera_errors

FIT_ROUNDS = 10
TRACK_LIMITS_PX = (1, 2, 4)
LONG_SIDE_PX = 256
"""Size of the image in which the errors of 2D tracks are counted."""


def motion_percent(world_from_camera: np.ndarray, depth: np.ndarray) -> float:
    """Largest distance of a camera from the first solved one, percent of the median depth of the frames."""
    centres = world_from_camera[np.isfinite(world_from_camera).all(axis=(1, 2)), :3, 3]
    known = depth[_is_depth(depth)]
    if not len(centres) or not len(known):
        return np.nan
    return 100 * float(length(centres - centres[0]).max() / np.median(known))


def step_ratio(world_from_camera: np.ndarray) -> float:
    """Largest step between consecutive solved cameras over the median step; NaN for a fixed camera."""
    steps = length(np.diff(world_from_camera[:, :3, 3], axis=0))
    steps = steps[np.isfinite(steps)]
    median = float(np.median(steps)) if len(steps) else 0.0
    return float(steps.max()) / median if median > STILL_M else np.nan


def path_ate_percent(predicted: np.ndarray, reference: np.ndarray) -> float:
    """ATE after a similarity, percent of the diagonal of the bounding box of the reference camera path."""
    centres = reference[np.isfinite(reference).all(axis=(1, 2)), :3, 3]
    both = np.isfinite(predicted + reference).all(axis=(1, 2))
    return 100 * camera_errors(predicted[both], reference[both]).ate_m / float(np.linalg.norm(np.ptp(centres, axis=0)))


def track_figures(predicted_px: np.ndarray, true_px: np.ndarray, visible: np.ndarray, size: tuple[int, int]) -> dict[str, float]:
    """Share of the 2D positions near the true ones, over the visible frames after the first.

    Args:
        predicted_px, true_px: [time, points, 2] pixels of the same image; predictions that are not finite are misses.
        visible: [time, points] bool; only points that are visible in frame 0 count.
        size: (height, width) of that image; limits are pixels of the image whose long side is `LONG_SIDE_PX`.
    Returns:
        `within_1px_percent`, `within_2px_percent`, `within_4px_percent`.
    """
    counted = visible[1:] & visible[0]
    error = length(predicted_px[1:] - true_px[1:])[counted] * LONG_SIDE_PX / max(size)
    shares = {limit: float((error < limit).mean()) if len(error) else np.nan for limit in TRACK_LIMITS_PX}  # NaN is no hit
    return {f"within_{limit}px_percent": 100 * share for limit, share in shares.items()}


def projected(points_world: np.ndarray, world_from_camera: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    """Pixels [time, points, 2] of points [time, points, 3]; NaN behind the camera."""
    points = transform_points(invert_rigid(world_from_camera), np.asarray(points_world, np.float64))
    points[~(points[..., 2] > 0)] = np.nan
    return project(points, intrinsics)


def static_reprojection_px(
    start_world: np.ndarray,
    end_world: np.ndarray,
    reference_world: np.ndarray,
    camera_from_world: np.ndarray,
    intrinsics: np.ndarray,
) -> float:
    """Median distance in a frame between static tracks and the reference points, both projected with the reference camera.

    Both worlds are the camera frame of frame 0, so only the scale is aligned: by the median ratio of the depths in frame 0.

    Args:
        start_world, end_world: [points, 3] tracks in frame 0 and in the frame in question.
        reference_world: [points, 3] of the reference, those that the same pixels of frame 0 show.
        camera_from_world: [4, 4] of the reference in the frame in question.
        intrinsics: [3, 3] of the reference.
    """
    with np.errstate(all="ignore"):
        ratio = reference_world[:, 2] / start_world[:, 2]
    scale = np.median(ratio[np.isfinite(ratio) & (ratio > 0)])
    aligned = Sim3(float(scale), np.eye(3), np.zeros(3))(end_world)
    pixels = projected(np.stack([aligned, reference_world]), invert_rigid(camera_from_world)[None], intrinsics)
    return float(np.nanmedian(length(pixels[0] - pixels[1])))


def log_disagreement(one: np.ndarray, other: np.ndarray) -> float:
    """Median absolute difference of the logarithms of two depths [height, width] after one scale."""
    both = _is_depth(one) & _is_depth(other)
    ratio = np.log(one[both] / other[both])
    return float(np.median(np.abs(ratio - np.median(ratio)))) if len(ratio) else np.nan


def abs_rel_to_inverse_depth(depth: np.ndarray, inverse_depth: np.ndarray) -> float:
    """AbsRel of a depth against an inverse depth that is known up to scale and shift, both [height, width].

    With `r = scale * inverse_depth + shift`, fitted to 1 / depth by least absolute deviations, this is the mean of |depth * r - 1|.
    """
    known = _is_depth(depth) & np.isfinite(inverse_depth)
    depth, inverse_depth = depth[known].astype(np.float64), inverse_depth[known].astype(np.float64)
    if len(depth) < 2:
        return np.nan
    target, columns = 1 / depth, np.stack([inverse_depth, np.ones_like(inverse_depth)], axis=1)
    weight, floor = np.ones_like(target), 1e-3 * float(np.median(target))
    for _ in range(FIT_ROUNDS):
        fit = np.linalg.lstsq(columns * weight[:, None], target * weight, rcond=None)[0]
        weight = 1 / np.sqrt(np.maximum(np.abs(columns @ fit - target), floor))
    return float(np.abs(depth * (columns @ fit) - 1).mean())


def _is_depth(depth: np.ndarray) -> np.ndarray:
    return np.isfinite(depth) & (depth > 0)
