"""Per-frame processing from video to scene: network, temporal smoothing, pose, visibility of the anchor."""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from st4rtrack.classical.two_view import TwoView
from st4rtrack.geometry.camera import zoom_intrinsics
from st4rtrack.hints.frame_order import OrderedFrames
from st4rtrack.io.memory import give_back_freed
from st4rtrack.io.scene import SceneSink
from st4rtrack.pipeline.cameras import anchor_intrinsics, solve_camera
from st4rtrack.pipeline.known import KnownGeometryAligner
from st4rtrack.pipeline.pointmaps import PointmapSource
from st4rtrack.pipeline.preparation import PreparedVideo
from st4rtrack.pipeline.quality import frame_quality
from st4rtrack.pipeline.smoothing import frames_needed, smoothed_frames
from st4rtrack.pipeline.visibility import cycle_error, visibility_probability
from st4rtrack.threads import parallel_stream, prefetch
from st4rtrack.types import DepthSource, PixelMap, Pointmap, TwoPointmaps

FRAMES_BETWEEN_RELEASES = 8
"""Number of frames after which freed memory is returned to the system: without, memory grows by a tenth over thousands of frames.
Takes under one percent of the time."""

Flow = tuple[np.ndarray, np.ndarray]
"""Optical flow [height, width, 2] from the anchor to a frame in network pixels, and its cycle error [height, width]."""

FRAMES_BETWEEN_THREADS = 2
"""Number of frames queued between cameras, visibility and writing."""


@dataclass(frozen=True)
class World:
    """World frame of a video, the camera frame of the anchor, and the registration of frames in it.

    Attributes:
        anchor_rgb: [height, width, 3] uint8.
        anchor_index: index of the anchor among the processed frames.
        points: anchor points at the anchor time.
        intrinsics: [3, 3] network pixels, consistent with these points.
        aligner: alignment to user-provided geometry; `None` without any.
        zoom: [T] focal length of each frame over that of the anchor; `None` if it is constant.
    """

    anchor_rgb: np.ndarray
    anchor_index: int
    points: Pointmap
    intrinsics: np.ndarray
    aligner: KnownGeometryAligner | None
    zoom: np.ndarray | None = None

    @classmethod
    def of(cls, pointmaps: PointmapSource, prepared: PreparedVideo, ordered: OrderedFrames) -> "World":
        """Create the world of a video at network size.

        Raises:
            UserError: the anchor points fit no camera, or contradict the known geometry.
        """
        own, anchor_index, focals_px = pointmaps.own, prepared.anchor_index, ordered.focals_px
        intrinsics, aligner = anchor_intrinsics(own.tracking), None
        zoom = None if focals_px is None else focals_px / focals_px[anchor_index]
        if prepared.user is not None:
            user = prepared.user
            if focals_px is not None and user.intrinsics is not None and user.focals_px is None:  # given for the first frame
                user = replace(user, intrinsics=zoom_intrinsics(user.intrinsics[0], focals_px / focals_px[0]))
            aligner = KnownGeometryAligner(
                user, anchor_index, own, intrinsics, ordered.units, pointmaps.reconstructions, zoom=zoom
            )
        return cls(prepared.video.frame(anchor_index), anchor_index, own.tracking, intrinsics, aligner, zoom)

    @property
    def focal_px(self) -> float:
        """Focal length of the anchor, network pixels."""
        return float(self.intrinsics_of(self.anchor_index)[0, 0])

    @property
    def results(self) -> dict[str, Any]:
        """Results for the scene: focal length and units, plain values."""
        if self.aligner is None:
            return {"focal_px": self.focal_px}
        return {"focal_px": self.focal_px, **self.aligner.results}

    def intrinsics_of(self, index: int) -> np.ndarray:
        """Intrinsics [3, 3] of a frame."""
        if self.aligner is not None:
            return self.aligner.intrinsics(index)
        return self.intrinsics if self.zoom is None else zoom_intrinsics(self.intrinsics, self.zoom[index])

    def register(self, index: int, maps: TwoPointmaps, neighbour: np.ndarray) -> tuple[TwoPointmaps, np.ndarray, bool]:
        """Pointmaps and `world_from_camera` [4, 4] of a frame, and whether it is solved; else it has the neighbouring pose."""
        if self.aligner is not None:
            return self.aligner.align(index, maps, neighbour)
        found = np.eye(4) if index == self.anchor_index else maps.world_from_camera
        if found is None:
            found = solve_camera(maps.reconstruction, self.intrinsics_of(index))
        return maps, neighbour if found is None else found, found is not None


def process_frames(
    ordered: OrderedFrames,
    pointmaps: PointmapSource,
    world: World,
    sink: SceneSink,
    *,
    smooth: bool,
    batch_size: int,
    device: torch.device,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Process all frames that the sink misses; each is written as soon as it is complete.

    Reading, network, cameras, visibility and writing overlap, each in its own thread.

    Args:
        ordered: source of the frames, in processing order.
        pointmaps, world: source of the pointmaps, and registration of the frames.
        sink: destination of the frames.
        smooth: whether tracks are smoothed.
        batch_size: number of queued frames.
        device: where per-pixel work is done.
        progress: called with (frames done, all frames).
    """
    video, done = ordered.video, sink.frames_done
    flows: dict[int, Flow] = {}  # of the frames queued for the network, if classical geometry computes it
    needed = frames_needed(done, world.anchor_index, smooth, sequential=pointmaps.sequential)
    frames = prefetch(_recording_flows(ordered.frames(needed), flows), batch_size)
    predicted = prefetch(pointmaps.frames(frames), batch_size)
    consistent = smoothed_frames(predicted, world.points, world.anchor_index, device) if smooth else predicted
    frames_registered = _registered(consistent, world, sink, flows, ordered.unsolved)
    registered = prefetch(frames_registered, FRAMES_BETWEEN_THREADS, one_openmp_thread=True)
    measured = partial(_with_visibility, world, sink.header.pixel_map, device)
    for frame, probability, quality in prefetch(
        parallel_stream(measured, registered), FRAMES_BETWEEN_THREADS, one_openmp_thread=True
    ):
        _write(sink, frame, probability, quality, world.intrinsics_of(frame.index), float(video.time_s[frame.index]))
        done[frame.index] = True
        num_done = int(done.sum())
        if num_done % FRAMES_BETWEEN_RELEASES == 0:
            give_back_freed()
        if progress:
            progress(num_done, len(video))


def _recording_flows(
    frames: Iterator[tuple[int, np.ndarray, TwoView | None]], flows: dict[int, Flow]
) -> Iterator[tuple[int, np.ndarray, TwoView | None]]:
    """Pass the frames through; store the optical flow and cycle error of each in `flows`."""
    for index, rgb, view in frames:
        if view is not None:
            flows[index] = view.forward_flow, cycle_error(view)
        yield index, rgb, view


@dataclass(frozen=True)
class _RegisteredFrame:
    """A frame [height, width] with its pointmaps in the world and its pose; optical flow if computed."""

    index: int
    rgb: np.ndarray
    maps: TwoPointmaps
    world_from_camera: np.ndarray
    solved: bool
    flow: Flow | None


def _registered(
    frames: Iterable[tuple[int, np.ndarray, TwoPointmaps]],
    world: World,
    sink: SceneSink,
    flows: dict[int, Flow],
    unsolved: Collection[int],
) -> Iterator[_RegisteredFrame]:
    """The frames that the sink misses, with poses; an unsolved frame has the pose of its neighbour on the side of the anchor."""
    written = sink.frames_done
    last: tuple[int, np.ndarray] | None = None
    for index, rgb, maps in frames:
        flow = flows.pop(index, None)
        if written[index]:  # already on disk; processed again for its neighbours only
            continue
        neighbour = _camera_of(index - int(np.sign(index - world.anchor_index)), world.anchor_index, last, sink)
        maps, camera, solved = world.register(index, maps, neighbour)
        if index in unsolved:
            camera, solved = neighbour, False
        last = index, camera
        yield _RegisteredFrame(index, rgb, maps, camera, solved, flow)


def _camera_of(index: int, anchor_index: int, last: tuple[int, np.ndarray] | None, sink: SceneSink) -> np.ndarray:
    """`world_from_camera` [4, 4] of the anchor, of the previous frame (possibly not yet written), or of a frame on disk."""
    if index == anchor_index:
        return np.eye(4)
    return last[1] if last is not None and last[0] == index else sink.read("world_from_camera", index)


def _with_visibility(
    world: World, pixel_map: PixelMap, device: torch.device, frame: _RegisteredFrame
) -> tuple[_RegisteredFrame, np.ndarray, dict[str, float]]:
    """The frame, the visibility probability [height, width] float16 of the anchor points, and `frame_quality`."""
    flow, error = frame.flow or (None, None)
    camera, intrinsics = frame.world_from_camera, world.intrinsics_of(frame.index)
    if frame.index == world.anchor_index:
        probability = np.ones(frame.rgb.shape[:2], np.float16)
    elif not frame.solved:
        probability = np.zeros(frame.rgb.shape[:2], np.float16)
    else:
        likely = visibility_probability(
            frame.maps, camera, intrinsics, world.anchor_rgb, frame.rgb, cycle_error=error, device=device
        )
        probability = likely.astype(np.float16)  # rounded before the comparison, for agreement with the stored values
    start = world.points.points_world if world.aligner is None else world.aligner.start
    quality = frame_quality(start, frame.maps, camera, intrinsics, probability > 0.5, pixel_map, flow=flow, cycle_error=error)
    return frame, probability, quality


def _write(
    sink: SceneSink,
    frame: _RegisteredFrame,
    probability: np.ndarray,
    quality: dict[str, Any],
    intrinsics: np.ndarray,
    time_s: float,
) -> None:
    tracking, reconstruction = frame.maps.tracking, frame.maps.reconstruction
    if "reconstruction_source" in sink.header.fields:
        of_network = np.full(probability.shape, DepthSource.NETWORK, np.uint8)
        quality = {**quality, "reconstruction_source": of_network if reconstruction.source is None else reconstruction.source}
    sink.write_frame(
        frame.index,
        rgb=frame.rgb,
        time_s=time_s,
        tracking_points=tracking.points_world,
        tracking_confidence=tracking.confidence,
        visible=probability > 0.5,
        visibility=probability,
        reconstruction_points=reconstruction.points_world,
        reconstruction_confidence=reconstruction.confidence,
        world_from_camera=frame.world_from_camera,
        intrinsics=intrinsics,
        solved=frame.solved,
        **quality,  # pyright: ignore[reportArgumentType]
    )
