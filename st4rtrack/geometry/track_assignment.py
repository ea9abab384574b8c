"""Assignment of pixels to tracked points: projected points against the visible surface of a frame.

A pixel is assigned to a visible point that projects within `REACH_PX` of it. Visibility is an input; among several points, the
agreement of their depth with the surface decides, so that object borders are not assigned to the background.
Both the tracked share of a frame and the track of a pixel derive from this assignment.
"""

from dataclasses import dataclass

import numpy as np

from st4rtrack.geometry.camera import project
from st4rtrack.geometry.sampling import inside_image, nearest_pixel
from st4rtrack.geometry.transforms import invert_rigid, transform_points
from st4rtrack.geometry.vectors import all_finite, length

REACH_PX = 1.5
MIN_TOLERANCE, MAX_TOLERANCE = 0.02, 0.15
NOISE_FACTOR = 3.0
"""Depths agree within three times the disagreement typical of the frame (median absolute log ratio), between 2 and 15 percent."""

MAX_LOG_DEPTH_RATIO = 0.7
"""Maximum log ratio of depths between a pixel and its point, at any distance: a factor of two. Where a network guesses the
depth, its two branches differ by up to that on the same object."""


@dataclass(frozen=True)
class TrackedView:
    """Tracked points projected into one frame; `point_index` [height + 2, width + 2] is padded, -1 where there is no point."""

    pixels_px: np.ndarray
    log_depth: np.ndarray
    point_index: np.ndarray
    tolerance: float

    def nearest(self, query_px: np.ndarray, query_depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Tracked point of each query position of the frame.

        Args:
            query_px: [queries, 2] inside the image; query_depth: [queries] z-depth of the surface there.
        Returns:
            Point index [queries], -1 for none, and matching cost [queries], infinite for none: the distance in units of the reach
            plus the depth difference in units of the tolerance.
        """
        index, best = np.full(len(query_px), -1), np.full(len(query_px), np.inf)
        for step in _STEPS:
            candidate, cost = self._at(query_px, query_depth, step)
            better = cost < best
            index[better], best[better] = candidate[better], cost[better]
        return index, best

    def covered(self, depth: np.ndarray, among: np.ndarray) -> np.ndarray:
        """[height, width] bool: pixels of the mask `among` [height, width] that are assigned to a point."""
        height, width = depth.shape
        remaining = np.flatnonzero(among)
        centres = np.stack([remaining % width, remaining // width], axis=-1) + 0.5
        depths, covered = depth.reshape(-1)[remaining], np.zeros(height * width, bool)
        for step in _STEPS:  # most pixels are assigned in the first step
            met = np.isfinite(self._at(centres, depths, step)[1])
            covered[remaining[met]] = True
            remaining, centres, depths = remaining[~met], centres[~met], depths[~met]
        return covered.reshape(height, width)

    def _at(self, query_px: np.ndarray, query_depth: np.ndarray, step: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """Point in the pixel at offset `step` (rows, columns) from each query, and its cost, infinite if out of reach."""
        height, width = self.point_index.shape[0] - 2, self.point_index.shape[1] - 2
        row, column = nearest_pixel(query_px, height, width)
        index = self.point_index[row + 1 + step[0], column + 1 + step[1]]
        if not len(self.pixels_px):
            return index, np.full(len(index), np.inf)
        distance_px = length(self.pixels_px[index] - query_px)
        log_depth_ratio = np.abs(self.log_depth[index] - np.log(query_depth))
        fits = (index >= 0) & (distance_px <= REACH_PX) & (log_depth_ratio <= MAX_LOG_DEPTH_RATIO)
        return index, np.where(fits, distance_px / REACH_PX + log_depth_ratio / self.tolerance, np.inf)


_STEPS = [(0, 0), (0, -1), (0, 1), (-1, 0), (1, 0), (-1, -1), (-1, 1), (1, -1), (1, 1)]


def tracked_view(
    points_world: np.ndarray,
    usable: np.ndarray,
    surface_depth: np.ndarray,
    world_from_camera: np.ndarray,
    intrinsics: np.ndarray,
) -> TrackedView:
    """Project tracked points [points, 3] into a frame.

    Args:
        points_world: positions in this frame.
        usable: [points] bool, points that may be assigned: known and visible in the frame.
        surface_depth: [height, width] z-depth of the visible surface.
        world_from_camera: [4, 4]; intrinsics: [3, 3] of the frame.
    """
    height, width = surface_depth.shape
    camera = transform_points(invert_rigid(world_from_camera), np.asarray(points_world, np.float64))
    with np.errstate(divide="ignore", invalid="ignore"):
        pixels, log_depth = project(camera, intrinsics), np.log(camera[:, 2])
        inside = usable & (camera[:, 2] > 0) & all_finite(pixels) & inside_image(pixels, height, width)
    chosen = np.flatnonzero(inside)
    row, column = nearest_pixel(pixels[chosen], height, width)
    with np.errstate(divide="ignore", invalid="ignore"):
        cost = np.abs(log_depth[chosen] - np.log(surface_depth[row, column]))
    cost = np.where(np.isfinite(cost), cost, np.inf)
    typical = NOISE_FACTOR * float(np.median(cost)) if len(cost) else 0.0
    best_last = np.argsort(-cost, kind="stable")  # of two points in a pixel, the one with the smaller error is kept
    point_index = np.full((height + 2, width + 2), -1, np.int64)
    point_index[row[best_last] + 1, column[best_last] + 1] = chosen[best_last]
    return TrackedView(pixels, log_depth, point_index, float(np.clip(typical, MIN_TOLERANCE, MAX_TOLERANCE)))


def depth_in_camera(points_world: np.ndarray, world_from_camera: np.ndarray) -> np.ndarray:
    """z-depth [...] of points [..., 3] in a camera; NaN for points that are not finite or not in front of it."""
    axis, centre = world_from_camera[:3, 2], world_from_camera[:3, 3]
    depth = (np.asarray(points_world, np.float64) - centre) @ axis
    return np.where(depth > 0, depth, np.nan)


def anchor_position(view: TrackedView, index: np.ndarray, query_px: np.ndarray, height: int, width: int) -> np.ndarray:
    """Sub-pixel position [queries, 2] in the anchor image of query positions of a frame.

    The neighbours of the assigned point in the anchor grid give a local affine map from the anchor image to the frame; its
    inverse maps the offset of the query from the point's projection. If the neighbours lie on another surface, or the offset
    exceeds a pixel or two, the result is the centre of the assigned pixel.

    Args:
        view: of all pixels of the anchor [height * width] in raster order.
        index: [queries] assigned points; query_px: [queries, 2] in the frame.
    """
    row, column = np.divmod(index, width)
    here = view.pixels_px[index]
    columns = []
    for down, right in ((0, 1), (1, 0)):
        other = np.where((row + down < height) & (column + right < width), 1, -1)
        neighbour = (row + down * other).clip(0, height - 1) * width + (column + right * other).clip(0, width - 1)
        same_surface = np.abs(view.log_depth[neighbour] - view.log_depth[index]) <= view.tolerance
        difference = (view.pixels_px[neighbour] - here) * other[:, None]
        columns.append(np.where(same_surface[:, None], difference, np.nan))
    (a, c), (b, d) = columns[0].T, columns[1].T
    rest = query_px - here
    with np.errstate(divide="ignore", invalid="ignore"):
        inverse = 1 / (a * d - b * c)
        offset = np.stack([d * rest[:, 0] - b * rest[:, 1], a * rest[:, 1] - c * rest[:, 0]], axis=-1) * inverse[:, None]
    offset[~(length(offset) <= 2 * REACH_PX)] = 0.0
    return np.stack([column, row], axis=-1) + 0.5 + offset
