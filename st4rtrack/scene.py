"""Scene: the result of a reconstruction, and the tracks of any pixel of any frame.

Tracks are read from the anchor assigned to each query position; one frame at a time, since the maps may be on disk.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from st4rtrack.errors import UserError
from st4rtrack.geometry.camera import unproject
from st4rtrack.geometry.sampling import inside_image, nearest_pixel, sample_map
from st4rtrack.geometry.track_assignment import anchor_position, depth_in_camera, tracked_view
from st4rtrack.geometry.transforms import transform_points
from st4rtrack.geometry.vectors import all_finite
from st4rtrack.types import Array, Cameras, PixelMap, Pointmap, QualityReport, TrackingOverTime


@dataclass
class Tracks:
    """3D tracks of query points over time.

    Attributes:
        points_world: [time, points, 3] world units.
        visible: [time, points] bool.
        confidence: [time, points].
        query_px: [points, 2] pixels of the source video, in the query frame.
        frame: index of the query frame.
        tracked: [time, points] bool; False where the point is not tracked: its nearest valid position in time is repeated.
        visibility: [time, points] float32, visibility probability; `None` if the scene does not store it.
    """

    points_world: np.ndarray
    visible: np.ndarray
    confidence: np.ndarray
    query_px: np.ndarray
    frame: int = 0
    tracked: np.ndarray | None = None
    visibility: np.ndarray | None = None


@dataclass
class Scene:
    """A video reconstructed in 4D: the result of `reconstruct` and the content of a scene folder.

    Attributes:
        rgb: [time, height, width, 3] uint8, frames at network size.
        time_s: [time] seconds.
        tracking: points of the anchor's pixels over time.
        reconstruction: `points_world` [time, height, width, 3], `confidence` and `moving` [time, height, width] of each frame's
            own pixels.
        cameras: one per frame; the anchor camera is the identity.
        anchor_index: index of the anchor frame.
        pixel_map: source pixels to network pixels.
        source_size: (height, width) of the source video in pixels.
        info: further fields of `scene.json`: model, options, source.
        anchors: further anchors by frame index, in the same world frame; their `valid` [time, height, width] is true where the
            point is tracked and its content appears in no earlier anchor. Unknown points are NaN.
        quality: reliability of the scene; `None` in scenes of earlier versions and of other tools.
    """

    rgb: Array
    time_s: Array
    tracking: TrackingOverTime
    reconstruction: Pointmap
    cameras: Cameras
    anchor_index: int
    pixel_map: PixelMap
    source_size: tuple[int, int]
    info: dict[str, Any] = field(default_factory=dict)
    anchors: dict[int, TrackingOverTime] = field(default_factory=dict)
    quality: QualityReport | None = None

    def __len__(self) -> int:
        return len(self.time_s)

    def __repr__(self) -> str:
        height, width = self.rgb.shape[1:3]
        quality = "" if self.quality is None else f"; {self.quality.summary(len(self))}"
        return f"Scene({len(self)} frames of {width}x{height} pixels, anchor frame {self.anchor_index}{quality})"

    @property
    def solved_frames(self) -> np.ndarray:
        """[time] bool, frames with an estimated pose; all True if the scene does not store it."""
        solved = None if self.cameras is None else self.cameras.solved
        return np.ones(len(self), bool) if solved is None else np.asarray(solved, bool)

    def display_confidence(self, maps: Pointmap, frame: int) -> np.ndarray | None:
        """Confidence [height, width] float32 of a frame of either branch by which display and export leave points out.

        In fused geometry, the measured static depth always has more confidence than the depth of dynamic objects, which would be
        left out first: so dynamic pixels get the largest confidence of the frame.
        """
        if maps.confidence is None:
            return None
        confidence = np.array(maps.confidence[frame], np.float32)
        if maps.moving is not None and self.reconstruction.source is not None:
            dynamic = np.asarray(maps.moving if len(maps.moving.shape) == 2 else maps.moving[frame], bool)
            confidence[dynamic & np.isfinite(confidence)] = np.nanmax(confidence, initial=0)
        return confidence

    def tracks(self, query_px: np.ndarray, *, frame: int | None = None) -> Tracks:
        """Tracks of query points of a frame, at any sub-pixel position.

        In a frame that is no anchor, a query takes the track of the anchor point visible there, at the same depth and within one
        and a half pixels, shifted to the frame's surface at the query. A point that no anchor contains stays at its position on
        the frame's surface: it is visible and `tracked` in that frame alone.

        Args:
            query_px: [points, 2] (u, v) pixels of the source video.
            frame: index of the query frame among the processed ones; default: the anchor.
        Returns:
            `Tracks` over all frames; positions and confidence are bilinear, visibility is that of the pixel containing the query.
        Raises:
            ValueError: the shape is not [points, 2], a query lies outside the image region that the network processes, or no such
                frame exists.
            UserError: the scene stores no visibility or confidence of its tracks, for example a scene of another tool.
        """
        frame = self.anchor_index if frame is None else frame
        if isinstance(frame, bool) or frame != int(frame) or not 0 <= frame < len(self):
            raise ValueError(f"the frame of a query must be a number from 0 to {len(self) - 1}, got {frame!r}")
        query_px = np.asarray(query_px, dtype=np.float64)
        if query_px.ndim != 2 or query_px.shape[1] != 2:
            raise ValueError(f"query_px must be [points, 2], got {list(query_px.shape)}")
        network_px = self.pixel_map.network_from_source(query_px)
        height, width = self.rgb.shape[1:3]
        outside = ~((network_px >= 0) & (network_px <= (width, height))).all(axis=1)
        if outside.any():
            first = query_px[outside][0]
            corners = self.pixel_map.source_from_network(np.array([[0, 0], [width, height]])).round(1).tolist()
            raise ValueError(
                f"{int(outside.sum())} of {len(query_px)} queries lie outside the part of the image that the network processes, "
                f"from {corners[0]} to {corners[1]}; the first is ({first[0]:g}, {first[1]:g})"
            )
        if self.tracking.visible is None or self.tracking.confidence is None:
            raise UserError("this scene has no visibility or confidence, which tracks need; make it with `st4rtrack run`")
        if frame == self.anchor_index:
            found = read_tracks(self.tracking, network_px)
        else:
            anchors, surface = (
                [self.tracking, *self.anchors.values()],
                FrameSurface.of(self.reconstruction, self.cameras, int(frame)),
            )
            found = assigned_tracks(anchors, assign_anchors(anchors, int(frame), surface, network_px), len(self), int(frame))
        solved = self.solved_frames[:, None]
        visibility = None if found.visibility is None else np.where(solved, found.visibility, np.float32(0))
        return replace(found, visible=found.visible & solved, visibility=visibility, query_px=query_px, frame=int(frame))


@dataclass(frozen=True)
class FrameSurface:
    """Surface of a frame: `points` [height, width, 3], `confidence` [height, width], and the camera."""

    points: np.ndarray
    confidence: np.ndarray
    world_from_camera: np.ndarray
    intrinsics: np.ndarray

    @classmethod
    def of(cls, reconstruction: Pointmap, cameras: Cameras, frame: int) -> "FrameSurface":
        """Surface of one frame, from pointmaps and cameras over time."""
        points, stored = np.asarray(reconstruction.points_world[frame], np.float64), reconstruction.confidence
        confidence = np.ones(points.shape[:2], np.float32) if stored is None else np.asarray(stored[frame], np.float32)
        return cls(points, confidence, np.asarray(cameras.world_from_camera[frame]), np.asarray(cameras.intrinsics[frame]))

    @cached_property
    def depth(self) -> np.ndarray:
        """[height, width] z-depth, NaN where unknown."""
        return depth_in_camera(self.points, self.world_from_camera)

    def points_at(self, query_px: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Points [queries, 3] and depths [queries] on the rays of positions [queries, 2]: bilinear depth where the four pixels
        lie on one surface, else the depth of the pixel containing the position.
        """
        containing = self.depth[nearest_pixel(query_px, *self.depth.shape)]
        bilinear = sample_map(self.depth, query_px)
        with np.errstate(invalid="ignore"):
            depth = np.where(np.abs(bilinear / containing - 1) < SAME_SURFACE, bilinear, containing)
        return transform_points(self.world_from_camera, unproject(query_px, depth, self.intrinsics)), depth


SAME_SURFACE = 0.02
"""Maximum relative difference between the bilinear depth and that of the pixel on one surface."""


@dataclass(frozen=True)
class TrackAssignment:
    """Anchors assigned to query positions of a frame (-1: none), positions in their images, and surface points there."""

    anchor: np.ndarray
    anchor_px: np.ndarray
    points_world: np.ndarray
    confidence: np.ndarray


def read_tracks(maps: TrackingOverTime, anchor_px: np.ndarray) -> Tracks:
    """Tracks of positions [points, 2] in the image of an anchor."""
    rows = [_read(maps, t, anchor_px) for t in range(len(maps.points_world))]
    points, visible, confidence, tracked = (np.stack(part) for part in zip(*rows, strict=True))
    visibility = None
    if maps.visibility is not None:
        pixel = nearest_pixel(anchor_px, *np.shape(maps.points_world)[1:3])
        visibility = np.stack([np.asarray(maps.visibility[t], np.float32)[pixel] for t in range(len(points))])
    return Tracks(points, visible, confidence, anchor_px, tracked=tracked, visibility=visibility)


def assign_anchors(
    anchors: Sequence[TrackingOverTime], frame: int, surface: FrameSurface, query_px: np.ndarray
) -> TrackAssignment:
    """Assign each position [queries, 2] of a frame to the anchor with a point visible there; of several, to the best match."""
    points_world, depth = surface.points_at(query_px)
    anchor, best = np.full(len(query_px), -1), np.full(len(query_px), np.inf)
    anchor_px = query_px.astype(np.float64).copy()
    height, width = surface.depth.shape
    for number, maps in enumerate(anchors):
        usable = _frame(maps, maps.visible, frame) & _frame(maps, maps.valid, frame)
        if not usable.any():
            continue
        points = np.asarray(maps.points_world[frame], np.float64).reshape(-1, 3)
        view = tracked_view(points, usable.reshape(-1), surface.depth, surface.world_from_camera, surface.intrinsics)
        index, cost = view.nearest(query_px, depth)
        better = cost < best
        anchor[better], best[better] = number, cost[better]
        position = anchor_position(view, index[better], query_px[better], height, width)
        inside = inside_image(position, height, width) & usable[nearest_pixel(position, height, width)]
        centre = np.stack([index[better] % width, index[better] // width], axis=-1) + 0.5
        anchor_px[better] = np.where(inside[:, None], position, centre)
    return TrackAssignment(anchor, anchor_px, points_world, surface.confidence[nearest_pixel(query_px, height, width)])


def assigned_tracks(anchors: Sequence[TrackingOverTime], assignment: TrackAssignment, num_frames: int, frame: int) -> Tracks:
    """Tracks of positions of a frame, each read from its anchor and shifted to the surface; without an anchor it is constant."""
    count = len(assignment.anchor)
    points = np.broadcast_to(assignment.points_world.astype(np.float32), (num_frames, count, 3)).copy()
    visible, tracked = np.zeros((num_frames, count), bool), np.zeros((num_frames, count), bool)
    confidence = np.ones((num_frames, count), np.float32)
    visibility: np.ndarray | None = np.zeros((num_frames, count), np.float32)
    for number in np.unique(assignment.anchor[assignment.anchor >= 0]):
        chosen = assignment.anchor == number
        found = hold_nearest_valid(read_tracks(anchors[number], assignment.anchor_px[chosen]))
        points[:, chosen] = found.points_world + (assignment.points_world[chosen] - found.points_world[frame]).astype(np.float32)
        visible[:, chosen], confidence[:, chosen], tracked[:, chosen] = found.visible, found.confidence, found.tracked
        if visibility is not None and found.visibility is not None:
            visibility[:, chosen] = found.visibility
        else:  # if one anchor has no visibility probability, the merged tracks have none either
            visibility = None
    confidence[frame, assignment.anchor < 0] = assignment.confidence[assignment.anchor < 0]
    visible[frame] = tracked[frame] = True
    if visibility is not None:
        visibility[frame] = 1
    return Tracks(points, visible, confidence, assignment.anchor_px, frame, tracked, visibility)


def hold_nearest_valid(tracks: Tracks) -> Tracks:
    """Replace unknown positions by the nearest known one in time."""
    known = all_finite(tracks.points_world)
    time = np.arange(len(known))[:, None]
    before = np.maximum.accumulate(np.where(known, time, -1), axis=0)
    after = np.minimum.accumulate(np.where(known, time, len(known))[::-1], axis=0)[::-1]
    source = np.where((before >= 0) & ((time - before <= after - time) | (after == len(known))), before, after)
    source = source.clip(0, len(known) - 1)
    return replace(
        tracks,
        points_world=np.take_along_axis(tracks.points_world, source[..., None], axis=0),
        visible=tracks.visible & known,
        confidence=np.where(known, tracks.confidence, 1.0),
        tracked=known if tracks.tracked is None else tracks.tracked & known,
        visibility=None if tracks.visibility is None else np.where(known, tracks.visibility, np.float32(0)),
    )


def _read(maps: TrackingOverTime, t: int, anchor_px: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Points, visible, confidence, tracked of positions [points, 2] in one frame; bilinear where all four pixels are valid."""
    stored = np.asarray(maps.points_world[t], np.float32)
    pixel = nearest_pixel(anchor_px, *stored.shape[:2])
    points = sample_map(stored, anchor_px)
    points = np.where(np.isfinite(points).all(axis=-1, keepdims=True), points, stored[pixel])
    confidence = sample_map(_frame(maps, maps.confidence, t).astype(np.float32), anchor_px)
    return points, _frame(maps, maps.visible, t)[pixel], confidence, _frame(maps, maps.valid, t)[pixel]


def _frame(maps: TrackingOverTime, values: Array | None, t: int) -> np.ndarray:
    """One frame [height, width] of visible, valid or confidence; ones if it is not stored."""
    return np.ones(np.shape(maps.points_world)[1:3], bool) if values is None else np.asarray(values[t])
