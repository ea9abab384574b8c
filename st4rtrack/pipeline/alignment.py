"""Alignment of a pair to the world: robust similarity between its points and those of the scene."""

import numpy as np

from st4rtrack.geometry.align import Sim3, robust_similarity
from st4rtrack.geometry.vectors import all_finite
from st4rtrack.scene import FrameSurface
from st4rtrack.types import Pointmap

MAX_POINTS = 1000
MAX_DISAGREEMENT, MIN_AGREEING = 0.1, 0.3
"""Maximum disagreement relative to the median depth, and minimum share of points within it, for a pair to be aligned."""


def world_from_pair(reconstruction: Pointmap, surface: FrameSurface) -> tuple[Sim3, float] | None:
    """Similarity from the frame of a pair to the world, by the two reconstructions of the same frame.

    Args:
        reconstruction: reconstruction of the pair, [height, width, 3].
        surface: surface of the frame in the world.
    Returns:
        The similarity and the median disagreement, relative to the median depth; `None` if less than `MIN_AGREEING` of the
        pixels agree.
    """
    depth = surface.depth
    index = np.flatnonzero(all_finite(reconstruction.points_world) & np.isfinite(depth))
    if len(index) < 3:
        return None
    index = _subset(index)
    source = np.asarray(reconstruction.points_world, np.float64).reshape(-1, 3)[index]
    target, distance = surface.points.reshape(-1, 3)[index].astype(np.float64), float(np.median(depth.reshape(-1)[index]))
    found = robust_similarity(source, target)
    if found is None or (found[1] < MAX_DISAGREEMENT * distance).mean() < MIN_AGREEING:
        return None
    return found[0], float(np.median(found[1])) / distance


def world_from_camera(reconstruction: Pointmap, surface: FrameSurface) -> Sim3:
    """Fallback similarity of an anchor pair with itself: its camera pose, and the ratio of the median depths."""
    depth, known = surface.depth, np.asarray(reconstruction.points_world)[..., 2]
    both = np.isfinite(depth) & (known > 0)
    scale = float(np.median(depth[both]) / np.median(known[both])) if both.any() else 1.0
    return Sim3(scale, surface.world_from_camera[:3, :3], surface.world_from_camera[:3, 3])


def _subset(index: np.ndarray) -> np.ndarray:
    """Evenly spaced subset of at most `MAX_POINTS` indices."""
    return index[np.linspace(0, len(index) - 1, min(MAX_POINTS, len(index))).astype(np.int64)]
