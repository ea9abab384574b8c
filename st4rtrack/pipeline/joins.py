"""Bringing a pair into the world: the similarity on which its points and those of the scene agree."""

import numpy as np

from st4rtrack.geometry.align import Sim3, umeyama
from st4rtrack.geometry.following import Shown
from st4rtrack.geometry.vectors import all_finite, length
from st4rtrack.types import Pointmap

JOINED_POINTS = 1000
MOST_DISAGREEMENT, LEAST_AGREEING = 0.1, 0.3
"""A pair is joined where at least this share of its points disagree by at most this share of the median depth."""


def world_from_pair(reconstruction: Pointmap, shown: Shown) -> tuple[Sim3, float] | None:
    """The similarity from the frame of a pair to the world, on which the two reconstructions of one frame agree.

    Args:
        reconstruction: the pair's, [height, width, 3].
        shown: what the frame shows in the world.
    Returns:
        The similarity and the median disagreement, in shares of the median depth; `None` where less than `LEAST_AGREEING` of the
        pixels agree.
    """
    depth = shown.depth
    index = np.flatnonzero(all_finite(reconstruction.points_world) & np.isfinite(depth))
    if len(index) < 3:
        return None
    index = _some(index)
    source = np.asarray(reconstruction.points_world, np.float64).reshape(-1, 3)[index]
    target, distance = shown.points.reshape(-1, 3)[index].astype(np.float64), float(np.median(depth.reshape(-1)[index]))
    found = joined(source, target)
    if found is None or (found[1] < MOST_DISAGREEMENT * distance).mean() < LEAST_AGREEING:
        return None
    return found[0], float(np.median(found[1])) / distance


def world_from_camera(reconstruction: Pointmap, shown: Shown) -> Sim3:
    """The similarity of an anchor with itself where the two do not agree on one: its camera, and the scale of the median depth."""
    depth, known = shown.depth, np.asarray(reconstruction.points_world)[..., 2]
    both = np.isfinite(depth) & (known > 0)
    scale = float(np.median(depth[both]) / np.median(known[both])) if both.any() else 1.0
    return Sim3(scale, shown.world_from_camera[:3, :3], shown.world_from_camera[:3, 3])


def same_content(tracking: Pointmap, content: np.ndarray) -> Sim3 | None:
    """The similarity from a pair to the world under which most of the anchor's points are where they were.

    Args:
        tracking: of the pair, [height, width, 3].
        content: the anchor's points at its own time in the world, [height, width, 3].
    """
    source, target = (np.asarray(points, np.float64).reshape(-1, 3) for points in (tracking.points_world, content))
    index = np.flatnonzero(all_finite(source) & all_finite(target))
    if not len(index):
        return None
    index = _some(index)
    found = joined(source[index], target[index])
    return None if found is None else found[0]


def _some(index: np.ndarray) -> np.ndarray:
    """At most `JOINED_POINTS`, evenly."""
    return index[np.linspace(0, len(index) - 1, min(JOINED_POINTS, len(index))).astype(np.int64)]


ROUNDS = 6
REACH = 4.0
"""Residuals beyond so many medians of the half that fits better count nothing (the biweight)."""

EXACT = 1e-9
"""Of the size of the target: a residual that is rounding."""


def joined(source: np.ndarray, target: np.ndarray, *, share: float = 0.5) -> tuple[Sim3, np.ndarray] | None:
    """The similarity `target_from_source`, by iteratively re-weighted least squares in closed form.

    Correspondences are known and most are right, so that nothing has to be searched: least distances come first, then the biweight, whose
    width follows the noise.

    Args:
        source, target: [points, 3] corresponding and finite.
        share: of the points that are right at least; their residuals measure the noise.
    Returns:
        The similarity and the residuals [points] in units of the target; `None` where the points do not tell one.
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
