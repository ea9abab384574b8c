"""Which tracked point a pixel belongs to: tracked points, projected into a frame, against the surface that the frame shows.

A pixel belongs to a point that is seen in the frame and lands within `REACH_PX` of it. Whether it is seen was decided before; how well
its depth agrees with what the pixel shows decides between several, so that the rim of a thing is not taken for what lies behind it.
Both how much of a frame is tracked and which track a pixel of that frame has are this one question.
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
"""Depths agree within three times the disagreement of the frame (median absolute log ratio), between 2 and 15 percent."""

FARTHEST = 0.7
"""Log ratio of depths beyond which a point does not own a pixel however near it lands: a factor of two. Where a network guesses a depth its
two branches differ by up to that, and it is still the same thing."""


@dataclass(frozen=True)
class TrackedView:
    """Tracked points as one frame sees them; made by `tracked_view`.

    Attributes:
        pixels_px: [points, 2] where each lands.
        log_depth: [points] of its z-depth in the frame's camera.
        lands: [height + 2, width + 2] index of a point that lands in the pixel, -1 for none; with a border of one pixel.
        tolerance: difference of log depths that is noise.
    """

    pixels_px: np.ndarray
    log_depth: np.ndarray
    lands: np.ndarray
    tolerance: float

    def nearest(self, query_px: np.ndarray, query_depth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The tracked point that each place of the frame belongs to.

        Args:
            query_px: [queries, 2] inside the image; query_depth: [queries] z-depth of what is seen there.
        Returns:
            Its index [queries], -1 where there is none, and how badly it fits [queries], infinitely where there is none: the distance in
            units of the reach and the misfit of the depth in units of the tolerance, added.
        """
        index, best = np.full(len(query_px), -1), np.full(len(query_px), np.inf)
        for step in _STEPS:
            candidate, misfit = self._at(query_px, query_depth, step)
            better = misfit < best
            index[better], best[better] = candidate[better], misfit[better]
        return index, best

    def covered(self, depth: np.ndarray, among: np.ndarray) -> np.ndarray:
        """[height, width] bool: those of the pixels `among` [height, width], which show something at `depth`, that belong to a point."""
        height, width = depth.shape
        still_open = np.flatnonzero(among)
        centres = np.stack([still_open % width, still_open // width], axis=-1) + 0.5
        depths, covered = depth.reshape(-1)[still_open], np.zeros(height * width, bool)
        for step in _STEPS:  # most pixels are done after the first
            met = np.isfinite(self._at(centres, depths, step)[1])
            covered[still_open[met]] = True
            still_open, centres, depths = still_open[~met], centres[~met], depths[~met]
        return covered.reshape(height, width)

    def _at(self, query_px: np.ndarray, query_depth: np.ndarray, step: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
        """The point in the pixel that is `step` (rows, columns) from each query, and how badly it fits; infinitely when it is no owner."""
        height, width = self.lands.shape[0] - 2, self.lands.shape[1] - 2
        row, column = nearest_pixel(query_px, height, width)
        index = self.lands[row + 1 + step[0], column + 1 + step[1]]
        if not len(self.pixels_px):
            return index, np.full(len(index), np.inf)
        away = length(self.pixels_px[index] - query_px)
        deeper = np.abs(self.log_depth[index] - np.log(query_depth))
        fits = (index >= 0) & (away <= REACH_PX) & (deeper <= FARTHEST)
        return index, np.where(fits, away / REACH_PX + deeper / self.tolerance, np.inf)


_STEPS = [(0, 0), (0, -1), (0, 1), (-1, 0), (1, 0), (-1, -1), (-1, 1), (1, -1), (1, 1)]


def tracked_view(
    points_world: np.ndarray,
    usable: np.ndarray,
    surface_depth: np.ndarray,
    world_from_camera: np.ndarray,
    intrinsics: np.ndarray,
) -> TrackedView:
    """Tracked points [points, 3] as a frame sees them.

    Args:
        points_world: where the points are at the frame's time.
        usable: [points] bool, those that may own a pixel: seen in the frame, and known.
        surface_depth: [height, width] z-depth of what the frame shows.
        world_from_camera: [4, 4]; intrinsics: [3, 3] of the frame.
    """
    height, width = surface_depth.shape
    camera = transform_points(invert_rigid(world_from_camera), np.asarray(points_world, np.float64))
    with np.errstate(divide="ignore", invalid="ignore"):
        pixels, log_depth = project(camera, intrinsics), np.log(camera[:, 2])
        shown = usable & (camera[:, 2] > 0) & all_finite(pixels) & inside_image(pixels, height, width)
    chosen = np.flatnonzero(shown)
    row, column = nearest_pixel(pixels[chosen], height, width)
    with np.errstate(divide="ignore", invalid="ignore"):
        misfit = np.abs(log_depth[chosen] - np.log(surface_depth[row, column]))
    misfit = np.where(np.isfinite(misfit), misfit, np.inf)
    typical = NOISE_FACTOR * float(np.median(misfit)) if len(misfit) else 0.0
    best_last = np.argsort(-misfit, kind="stable")  # of two points in a pixel the one stays that fits better
    lands = np.full((height + 2, width + 2), -1, np.int64)
    lands[row[best_last] + 1, column[best_last] + 1] = chosen[best_last]
    return TrackedView(pixels, log_depth, lands, float(np.clip(typical, MIN_TOLERANCE, MAX_TOLERANCE)))


def depth_in_camera(points_world: np.ndarray, world_from_camera: np.ndarray) -> np.ndarray:
    """z-depth [...] of points [..., 3] in a camera; NaN where a point is not finite or not before it."""
    axis, centre = world_from_camera[:3, 2], world_from_camera[:3, 3]
    depth = (np.asarray(points_world, np.float64) - centre) @ axis
    return np.where(depth > 0, depth, np.nan)


def place_in_grid(view: TrackedView, index: np.ndarray, query_px: np.ndarray, height: int, width: int) -> np.ndarray:
    """Where in the anchor's image [queries, 2] the content of a frame's places lies, between the anchor's pixels.

    The points next to the owner in the anchor's grid tell how the anchor's image is mapped to the frame around it; the place is the owner's
    pixel and the rest of the way under that map. Where the neighbours lie on another surface, or the rest is more than a pixel
    or two, it is the owner's pixel itself.

    Args:
        view: of all pixels of the anchor [height * width] in raster order.
        index: [queries] owners; query_px: [queries, 2] in the frame.
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
