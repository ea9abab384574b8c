"""Tracks of query positions, read from the anchor assigned to each; one frame at a time, since the maps may be on disk."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import numpy as np

from st4rtrack.geometry.camera import unproject
from st4rtrack.geometry.ownership import depth_in_camera, place_in_grid, tracked_view
from st4rtrack.geometry.sampling import inside_image, nearest_pixel, sample_map
from st4rtrack.geometry.transforms import transform_points
from st4rtrack.geometry.vectors import all_finite


class TrackedMaps(Protocol):
    """Maps of an anchor over time: points [time, height, width, 3], other maps [time, height, width].

    `valid` None: all are valid; the visibility probability may be None.
    """

    points_world: Any
    confidence: Any
    visible: Any
    valid: Any
    visibility: Any


class Followed(NamedTuple):
    """Tracks: points [time, points, 3]; visible, confidence, tracked and, if known, visibility probability [time, points]."""

    points: np.ndarray
    visible: np.ndarray
    confidence: np.ndarray
    tracked: np.ndarray
    visibility: np.ndarray | None


@dataclass(frozen=True)
class Shown:
    """Surface of a frame: `points` [height, width, 3], `confidence` [height, width], and the camera."""

    points: np.ndarray
    confidence: np.ndarray
    world_from_camera: np.ndarray
    intrinsics: np.ndarray

    @classmethod
    def of(cls, reconstruction: Any, cameras: Any, frame: int) -> "Shown":
        """Surface of one frame of pointmaps and cameras over time."""
        points = np.asarray(reconstruction.points_world[frame], np.float64)
        sure = reconstruction.confidence
        confidence = np.ones(points.shape[:2], np.float32) if sure is None else np.asarray(sure[frame], np.float32)
        return cls(points, confidence, np.asarray(cameras.world_from_camera[frame]), np.asarray(cameras.intrinsics[frame]))

    @cached_property
    def depth(self) -> np.ndarray:
        """[height, width] z-depth, NaN where unknown."""
        return depth_in_camera(self.points, self.world_from_camera)

    def surface(self, query_px: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Points [queries, 3] and depths [queries] on the rays of positions [queries, 2]: bilinear depth where the four pixels
        lie on one surface, else the depth of the pixel containing the position.
        else that of the pixel that holds the place.
        """
        depth = self.depth
        own = depth[nearest_pixel(query_px, *depth.shape)]
        between = sample_map(depth, query_px)
        with np.errstate(invalid="ignore"):
            chosen = np.where(np.abs(between / own - 1) < _ONE_SURFACE, between, own)
        return transform_points(self.world_from_camera, unproject(query_px, chosen, self.intrinsics)), chosen


_ONE_SURFACE = 0.02


@dataclass(frozen=True)
class Owners:
    """Anchors assigned to query positions of a frame.

    Attributes:
        anchor: [queries] index of the anchor, -1 for none.
        place_px: [queries, 2] position in the image of that anchor.
        surface: [queries, 3] points on the surface of the frame.
        confidence: [queries] confidence of these points.
    """

    anchor: np.ndarray
    place_px: np.ndarray
    surface: np.ndarray
    confidence: np.ndarray


def follow(maps: TrackedMaps, place_px: np.ndarray) -> Followed:
    """Tracks of positions [points, 2] in the image of an anchor."""
    rows = [_read(maps, t, place_px) for t in range(len(maps.points_world))]
    points, visible, confidence, tracked = (np.stack(part) for part in zip(*rows, strict=True))
    likely = None
    if maps.visibility is not None:
        pixel = nearest_pixel(place_px, *np.shape(maps.points_world)[1:3])
        likely = np.stack([np.asarray(maps.visibility[t], np.float32)[pixel] for t in range(len(points))])
    return Followed(points, visible, confidence, tracked, likely)


def find_owners(anchors: Sequence[TrackedMaps], frame: int, shown: Shown, query_px: np.ndarray) -> Owners:
    """Assign each position [queries, 2] of a frame to the anchor with a point visible there; of several, to the best match."""
    surface, depth = shown.surface(query_px)
    anchor, best = np.full(len(query_px), -1), np.full(len(query_px), np.inf)
    place_px = query_px.astype(np.float64).copy()
    height, width = shown.depth.shape
    for number, maps in enumerate(anchors):
        usable = np.asarray(maps.visible[frame]) & _valid(maps, frame)
        if not usable.any():
            continue
        points = np.asarray(maps.points_world[frame], np.float64).reshape(-1, 3)
        view = tracked_view(points, usable.reshape(-1), shown.depth, shown.world_from_camera, shown.intrinsics)
        index, misfit = view.nearest(query_px, depth)
        nearer = misfit < best
        anchor[nearer], best[nearer] = number, misfit[nearer]
        place = place_in_grid(view, index[nearer], query_px[nearer], height, width)
        known = inside_image(place, height, width) & usable[nearest_pixel(place, height, width)]
        own = np.stack([index[nearer] % width, index[nearer] // width], axis=-1) + 0.5
        place_px[nearer] = np.where(known[:, None], place, own)
    confidence = shown.confidence[nearest_pixel(query_px, height, width)]
    return Owners(anchor, place_px, surface, confidence)


def follow_owners(anchors: Sequence[TrackedMaps], owners: Owners, num_frames: int, frame: int) -> Followed:
    """Tracks of positions of a frame, each read from its assigned anchor and shifted to the surface of the frame.

    Where that anchor does not track the point, its nearest known position in time is repeated. Positions without an anchor stay
    constant.
    """
    count = len(owners.anchor)
    points = np.broadcast_to(owners.surface.astype(np.float32), (num_frames, count, 3)).copy()
    visible, tracked = np.zeros((num_frames, count), bool), np.zeros((num_frames, count), bool)
    confidence = np.ones((num_frames, count), np.float32)
    likely: np.ndarray | None = np.zeros((num_frames, count), np.float32)
    for number in np.unique(owners.anchor[owners.anchor >= 0]):
        chosen = owners.anchor == number
        found = held(follow(anchors[number], owners.place_px[chosen]))
        points[:, chosen] = found.points + (owners.surface[chosen] - found.points[frame]).astype(np.float32)
        visible[:, chosen], confidence[:, chosen], tracked[:, chosen] = found.visible, found.confidence, found.tracked
        if likely is not None and found.visibility is not None:
            likely[:, chosen] = found.visibility
        else:  # if one anchor has no visibility probability, the merged tracks have none either
            likely = None
    confidence[frame, owners.anchor < 0] = owners.confidence[owners.anchor < 0]
    visible[frame] = tracked[frame] = True
    if likely is not None:
        likely[frame] = 1
    return Followed(points, visible, confidence, tracked, likely)


def held(found: Followed) -> Followed:
    """Replace unknown positions by the nearest known one in time."""
    known = all_finite(found.points)
    time = np.arange(len(known))[:, None]
    before = np.maximum.accumulate(np.where(known, time, -1), axis=0)
    after = np.minimum.accumulate(np.where(known, time, len(known))[::-1], axis=0)[::-1]
    source = np.where((before >= 0) & ((time - before <= after - time) | (after == len(known))), before, after)
    source = source.clip(0, len(known) - 1)
    points = np.take_along_axis(found.points, source[..., None], axis=0)
    likely = None if found.visibility is None else np.where(known, found.visibility, np.float32(0))
    return Followed(points, found.visible & known, np.where(known, found.confidence, 1.0), found.tracked & known, likely)


def _read(maps: TrackedMaps, t: int, place_px: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Points, visible, confidence, tracked of positions [points, 2] in one frame; bilinear where all four pixels are valid."""
    known = np.asarray(maps.points_world[t], np.float32)
    pixel = nearest_pixel(place_px, *known.shape[:2])
    points = sample_map(known, place_px)
    points = np.where(np.isfinite(points).all(axis=-1, keepdims=True), points, known[pixel])
    confidence = sample_map(np.asarray(maps.confidence[t], np.float32), place_px)
    return points, np.asarray(maps.visible[t])[pixel], confidence, _valid(maps, t)[pixel]


def _valid(maps: TrackedMaps, t: int) -> np.ndarray:
    """[height, width] bool, valid points of one frame."""
    if maps.valid is None:
        return np.ones(np.shape(maps.points_world)[1:3], bool)
    return np.asarray(maps.valid[t])
