"""Dense static points of a scene: surface points that several frames agree on, each with its positions in these frames.

Every solved frame has a point per pixel on the ray of that pixel. A static point starts at a pixel of one frame; it is projected
into the other frames, where the surface there agrees in depth or not. Its position is the mean of the surface points that agree;
it is observed where the reprojection error of this position is small. Pixels that agree start no further points, so each part of
the surface is covered once.
"""

import logging
from dataclasses import dataclass
from itertools import repeat

import cv2
import numpy as np

from st4rtrack.geometry.camera import project_world, unproject
from st4rtrack.geometry.sampling import covered_pixels, inside_image, nearest_pixel, sample_map
from st4rtrack.geometry.transforms import transform_points
from st4rtrack.geometry.vectors import length
from st4rtrack.io.formats.common import camera_frames, world_from_cameras
from st4rtrack.io.formats.content import depth_map, dynamic_masks, has_dynamic_masks
from st4rtrack.scene import Scene

logger = logging.getLogger(__name__)

MAX_ERROR_PX = 1.0
"""Maximum reprojection error of an observation, in network pixels."""
_MAX_DEPTH_ERROR = 0.1
"""Maximum relative difference in depth of agreeing surface points: with little parallax, the image alone cannot tell."""
_MAX_BEND = 0.02
"""Maximum second difference of the inverse depth, relative to it: zero on planes, large at depth discontinuities."""
_MIN_FRAMES = 3
_NEIGHBOURS = (-8, -3, -1, 1, 3, 8)
"""Frames, relative to that of a point, of which one must agree before all are compared."""
_MAX_FRAMES = 200
"""Maximum number of frames that are fused, evenly spaced; bounds memory (their depth maps are held)."""
_HOLE_PX = 3
"""Width of gaps between points that count as covered: nearer frames have more pixels for the same surface."""
_MASK_MARGIN = 0.01
"""Margin around dynamic objects that is left out, as a share of the image width."""


@dataclass(frozen=True)
class StaticPoints:
    """Static points and their observations."""

    points_world: np.ndarray  # [points, 3] float64
    colours: np.ndarray  # [points, 3] uint8
    spacing: np.ndarray  # [points] distance between neighbours, in world units, perpendicular to the ray
    origin: np.ndarray  # [points, 3] int, frame, row and column of the pixel where each point starts
    frame: np.ndarray  # frame, point: [observations] frame index and point index
    point: np.ndarray
    pixels_px: np.ndarray  # [observations, 2] image positions in network pixels

    def __len__(self) -> int:
        return len(self.points_world)

    def thinned(self, max_points: int, max_observations: int | None = None) -> "StaticPoints":
        """At most `max_points` points, drawn with a fixed seed; excess observations are cut to the same number per point."""
        random, count = np.random.default_rng(0), len(self)
        chosen = np.sort(random.choice(count, max_points, replace=False)) if count > max_points else np.arange(count)
        number = np.full(count, -1)
        number[chosen] = np.arange(len(chosen))
        kept = np.flatnonzero(number[self.point] >= 0)
        if max_observations is not None and len(kept) > max_observations:
            order = kept[np.lexsort((random.random(len(kept)), self.point[kept]))]
            rank = np.arange(len(order)) - np.searchsorted(self.point[order], self.point[order])
            most = np.searchsorted(np.cumsum(np.bincount(rank)), max_observations, side="right")  # per point
            kept = np.sort(order[rank < most])
        spacing = self.spacing[chosen] * np.sqrt(count / max(len(chosen), 1))
        seen = (self.frame[kept], number[self.point[kept]], self.pixels_px[kept])
        return StaticPoints(self.points_world[chosen], self.colours[chosen], spacing, self.origin[chosen], *seen)


def static_points(scene: Scene) -> StaticPoints:
    """Fuse the reconstructions of the solved frames into static points; dynamic and uncertain pixels are left out.

    Raises:
        UserError: the scene has no cameras.
    """
    frames = camera_frames(scene)
    if len(frames) > _MAX_FRAMES:
        frames = frames[np.unique(np.linspace(0, len(frames) - 1, _MAX_FRAMES).round().astype(int))]
    masks = dynamic_masks(scene, frames) if has_dynamic_masks(scene) else repeat(np.zeros(scene.rgb.shape[1:3], bool))
    views = [_View.of(scene, int(frame), dynamic) for frame, dynamic in zip(frames, masks)]
    order = sorted(range(len(views)), key=lambda k: (views[k].frame != scene.anchor_index, k))
    parts, total = [], 0
    for k in order:
        part = _fused(views, k, np.asarray(scene.rgb[views[k].frame], np.uint8), total)
        total += len(part)
        parts.append(part)
    names = ("points_world", "colours", "spacing", "origin", "frame", "point", "pixels_px")
    if not total:
        logger.warning("no static points: no surface is confirmed by several frames; the point cloud of this export is empty")
    return StaticPoints(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


@dataclass
class _View:
    """A frame with its camera."""

    frame: int
    world_from_camera: np.ndarray
    intrinsics: np.ndarray
    inverse_depth: np.ndarray  # [height, width] float32, NaN where unknown and at depth discontinuities; linear on planes
    dynamic: np.ndarray  # [height, width] bool, dynamic pixels with a margin
    free: np.ndarray  # [height, width] bool, pixels that may start a static point

    @classmethod
    def of(cls, scene: Scene, frame: int, dynamic: np.ndarray) -> "_View":
        """View of a frame with its dynamic pixels [height, width]."""
        side = 2 * round(_MASK_MARGIN * dynamic.shape[1]) + 1
        dynamic = cv2.dilate(dynamic.astype(np.uint8), np.ones((side, side), np.uint8)) > 0
        world_from_camera = world_from_cameras(scene)[frame]
        depth = depth_map(scene, frame).astype(np.float64)
        known = depth > 0
        with np.errstate(all="ignore"):
            inverse = 1 / depth
            bend = np.maximum(*(np.abs(cv2.Sobel(inverse, cv2.CV_64F, dx, 2 - dx, ksize=1)) for dx in (2, 0)))
            known &= bend <= _MAX_BEND * inverse
        inverse = np.where(known, inverse, np.nan).astype(np.float32)
        return cls(
            frame, world_from_camera, np.asarray(scene.cameras.intrinsics[frame], np.float64), inverse, dynamic, known & ~dynamic
        )

    def points_world(self, pixels_px: np.ndarray) -> np.ndarray:
        """Surface points [points, 3] at pixels [points, 2]; NaN where unknown."""
        depth = 1 / sample_map(self.inverse_depth, pixels_px).astype(np.float64)
        return transform_points(self.world_from_camera, unproject(pixels_px, depth, self.intrinsics))


def _compare(view: _View, points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Compare points [points, 3] with the surface of a view; returns indices in view, pixels, and masks agree and contradict."""
    pixels_px, depth = project_world(points, view.world_from_camera, view.intrinsics)
    index = np.flatnonzero(inside_image(pixels_px, *view.free.shape))
    pixels_px = pixels_px[index]
    dynamic = view.dynamic[nearest_pixel(pixels_px, *view.free.shape)]
    with np.errstate(invalid="ignore"):
        ratio = 1 / (sample_map(view.inverse_depth, pixels_px) * depth[index])
        near, farther = np.abs(ratio - 1) <= _MAX_DEPTH_ERROR, ratio > 1 + _MAX_DEPTH_ERROR
    # the view sees through the point, or shows a dynamic object there; behind a nearer surface a point is just occluded
    return index, pixels_px, near & ~dynamic, farther | (near & dynamic)


def _fused(views: list[_View], number: int, rgb: np.ndarray, first: int) -> StaticPoints:
    """The static points that start at the free pixels of a view; points are numbered from `first`."""
    view = views[number]
    row, column = np.nonzero(view.free)
    start = view.points_world(np.stack([column, row], axis=1) + 0.5)
    neighbours = [views[number + step] for step in _NEIGHBOURS if 0 <= number + step < len(views)]
    votes = np.zeros(len(start), int)
    for other in neighbours:
        index, _, agrees, _ = _compare(other, start)
        votes[index] += agrees
    some = votes >= min(1, len(neighbours))
    row, column, start = row[some], column[some], start[some]
    total, count, conflicts = np.zeros_like(start), np.zeros(len(start), int), np.zeros(len(start), int)
    found = []
    for other in views:
        index, pixels_px, agrees, contradicts = _compare(other, start)
        conflicts[index] += contradicts
        index, pixels_px = index[agrees], pixels_px[agrees]
        total[index] += other.points_world(pixels_px)
        count[index] += 1
        other.free &= ~covered_pixels(pixels_px, *other.free.shape, hole_px=_HOLE_PX)
        found.append((other, index, pixels_px))
    kept = (count >= min(_MIN_FRAMES, len(views))) & (count > conflicts)
    position = total / np.maximum(count, 1)[:, None]
    frames, points, pixels = [], [], []
    for other, index, pixels_px in found:
        index, pixels_px = index[kept[index]], pixels_px[kept[index]]
        fused_px, _ = project_world(position[index], other.world_from_camera, other.intrinsics)
        near = length(fused_px - pixels_px) <= MAX_ERROR_PX
        frames.append(np.full(near.sum(), other.frame, np.int32))
        points.append((first + np.cumsum(kept) - 1)[index[near]].astype(np.int32))
        pixels.append(pixels_px[near])
    origin = np.column_stack([np.full(len(row), view.frame), row, column])[kept]
    spacing = 1 / view.inverse_depth[row, column].astype(np.float64) / np.sqrt(view.intrinsics[0, 0] * view.intrinsics[1, 1])
    seen = (np.concatenate(frames), np.concatenate(points), np.concatenate(pixels))
    return StaticPoints(position[kept], rgb[row, column][kept], spacing[kept], origin, *seen)
