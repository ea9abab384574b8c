"""Alignment of a pair to the world: robust similarity between its points and those of the scene."""

import numpy as np

from st4rtrack.geometry.align import Sim3, umeyama
from st4rtrack.geometry.vectors import all_finite, length
from st4rtrack.scene import FrameSurface
from st4rtrack.types import Pointmap

JOINED_POINTS = 1000
MOST_DISAGREEMENT, LEAST_AGREEING = 0.1, 0.3
"""Maximum disagreement relative to the median depth, and minimum share of points within it, for a pair to be aligned."""


def world_from_pair(reconstruction: Pointmap, surface: FrameSurface) -> tuple[Sim3, float] | None:
    """Similarity from the frame of a pair to the world, by the two reconstructions of the same frame.

    Args:
        reconstruction: reconstruction of the pair, [height, width, 3].
        surface: surface of the frame in the world.
    Returns:
        The similarity and the median disagreement, relative to the median depth; `None` if less than `LEAST_AGREEING` of the
        pixels agree.
    """
    depth = surface.depth
    index = np.flatnonzero(all_finite(reconstruction.points_world) & np.isfinite(depth))
    if len(index) < 3:
        return None
    index = _some(index)
    source = np.asarray(reconstruction.points_world, np.float64).reshape(-1, 3)[index]
    target, distance = surface.points.reshape(-1, 3)[index].astype(np.float64), float(np.median(depth.reshape(-1)[index]))
    found = joined(source, target)
    if found is None or (found[1] < MOST_DISAGREEMENT * distance).mean() < LEAST_AGREEING:
        return None
    return found[0], float(np.median(found[1])) / distance


def world_from_camera(reconstruction: Pointmap, surface: FrameSurface) -> Sim3:
    """Fallback similarity of an anchor pair with itself: its camera pose, and the ratio of the median depths."""
    depth, known = surface.depth, np.asarray(reconstruction.points_world)[..., 2]
    both = np.isfinite(depth) & (known > 0)
    scale = float(np.median(depth[both]) / np.median(known[both])) if both.any() else 1.0
    return Sim3(scale, surface.world_from_camera[:3, :3], surface.world_from_camera[:3, 3])


def same_content(tracking: Pointmap, content: np.ndarray) -> Sim3 | None:
    """Similarity from a pair to the world that maps most of the anchor's points to their original positions.

    Args:
        tracking: tracking pointmap of the pair, [height, width, 3].
        content: anchor points at the anchor time in the world, [height, width, 3].
    """
    source, target = (np.asarray(points, np.float64).reshape(-1, 3) for points in (tracking.points_world, content))
    index = np.flatnonzero(all_finite(source) & all_finite(target))
    if not len(index):
        return None
    index = _some(index)
    found = joined(source[index], target[index])
    return None if found is None else found[0]


def _some(index: np.ndarray) -> np.ndarray:
    """Evenly spaced subset of at most `JOINED_POINTS` indices."""
    return index[np.linspace(0, len(index) - 1, min(JOINED_POINTS, len(index))).astype(np.int64)]


ROUNDS = 6
REACH = 4.0
"""Cut-off of the biweight, in medians of the residuals of the better half."""

EXACT = 1e-9
"""Residual relative to the size of the target that counts as rounding error."""


def joined(source: np.ndarray, target: np.ndarray, *, share: float = 0.5) -> tuple[Sim3, np.ndarray] | None:
    """Robust similarity `target_from_source`, by iteratively re-weighted closed-form least squares.

    Correspondences are known and most are correct, so that no search is needed: least absolute distances first, then the
    biweight, with a width that adapts to the noise.

    Args:
        source, target: [points, 3] corresponding and finite points.
        share: minimum share of correct points; their residuals give the noise level.
    Returns:
        The similarity and the residuals [points] in target units; `None` if the points do not determine one.
    Source:
        Closed form: Umeyama 1991; biweight: Beaton and Tukey 1974.
    """
    if len(source) < 3:
        return None
    floor = EXACT * max(float(np.abs(target).max()), 1e-300)
    weights = np.ones(len(source))
    try:
        for step in range(2 * ROUNDS):
            similarity = umeyama(source, target, weights=weights)
            residual = length(similarity(source) - target)
            noise = max(float(np.quantile(residual, share / 2)), floor)
            weights = 1 / np.maximum(residual, noise) if step < ROUNDS else _biweight(residual / (REACH * noise))
    except ValueError:
        return None
    return (similarity, residual) if similarity.scale > 0 else None


def _biweight(relative: np.ndarray) -> np.ndarray:
    return np.maximum(0.0, 1 - relative**2) ** 2
