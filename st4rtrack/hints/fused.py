"""Dense geometry of a video, fused from measured depth and a depth prior, as pointmaps of (anchor, frame).

Every frame has multi-view static depth where the camera translates and the scene is static, and the aligned depth prior
elsewhere. Static points of the anchor stay; dynamic points follow the optical flow and are lifted by the depth of the frame in
which they are visible. Learned are the depth prior and the matching head.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import replace

import numpy as np

from st4rtrack.classical.camera_motion import WITHOUT_DEPTH
from st4rtrack.classical.flow import returns, sample_flow
from st4rtrack.classical.static_depth import PairFlows, StaticDepth, static_depth
from st4rtrack.classical.two_view import TwoView, pixel_rays, pixels_of_points
from st4rtrack.geometry.camera import pixel_grid
from st4rtrack.geometry.sampling import inside_image, nearest_pixel
from st4rtrack.geometry.transforms import invert_rigid, transform_maps
from st4rtrack.geometry.vectors import length
from st4rtrack.hints.depth_prior import DepthPrior
from st4rtrack.hints.depth_prior.averaged import REACH, AveragedPrior
from st4rtrack.hints.dynamic import OFFSETS, ObjectDepth, OtherFrame, dynamic_pixels
from st4rtrack.hints.frame_encoder import FrameEncoder
from st4rtrack.hints.frame_order import OrderedFrames
from st4rtrack.hints.fusion import PRIOR_DEPTH, Alignment, FusedDepth, align, fuse, without_contradictions
from st4rtrack.hints.lifting import MIN_MOTION, LiftedTracks, TrackedFrame, appearance
from st4rtrack.hints.measured_points import MeasuredPoints
from st4rtrack.hints.steps import StepFlows
from st4rtrack.timing import timed
from st4rtrack.types import DepthSource, Pointmap, TwoPointmaps

LOOK_AHEAD = (4, 8, 16)
"""Offsets of the frames whose measured depth is used before they are reached: what a frame shows is often measured later."""
MAX_DISAGREEMENT = 0.006
"""Maximum distance of a warped point from the flow, long sides of the image (1.5 px at 256): else the point or the pixel moved."""
UNCONFIRMED_ERROR = 0.1
"""Minimum expected log error of a warped point without reliable flow."""
CARRIED_ERROR = 0.05
"""Expected log error of depth that is warped from a reference frame by flow."""
KNOWN_ERROR = 0.002
"""Expected log error of depth that the user provides: it is kept."""
POINT_ERROR = 0.03
"""Expected log error of a point of the global solver."""

Frame = tuple[int, np.ndarray, TwoView | None]


class FusedGeometry:
    """Pointmaps of (anchor, frame) from fused geometry, in units of `geometry`.

    Args:
        ordered: the frames in processing order, with geometry.
        prior: depth prior of single frames.
        steps: flow between neighbouring frames.
        static: function from a frame index to [H, W] bool, user-provided static pixels, or `None`.
        matching: encoder of frames for its network's matching head; `None`: dynamic points follow the flow alone.
    """

    sequential = True

    @timed("fusion")
    def __init__(
        self,
        ordered: OrderedFrames,
        prior: DepthPrior,
        steps: StepFlows,
        *,
        static: Callable[[int], np.ndarray] | None = None,
        matching: FrameEncoder | None = None,
    ) -> None:
        geometry = ordered.geometry
        assert geometry is not None
        num_frames, anchor_index, anchor_rgb = len(ordered.video), ordered.anchor_index, ordered.anchor_rgb
        self._geometry, self._static, self._matching = geometry, static, matching
        self._unsolved = ordered.unsolved  # each is added before its frame is requested
        self._num_frames, self._anchor_index, self._steps = num_frames, anchor_index, steps
        self._prior = AveragedPrior(prior, steps.chain)
        near = range(max(0, anchor_index - REACH), min(anchor_index + REACH + 1, num_frames))
        self._prior.add(zip(near, ordered.video.frames(near.start, near.stop), strict=True), geometry.focal_px)
        focals_px = np.full(num_frames, geometry.focal_px) if geometry.focals_px is None else geometry.focals_px
        self._focals_px: list[float] = focals_px.tolist()  # Python numbers do not change the type of float32 arrays
        self._grid = pixel_grid(*anchor_rgb.shape[:2])
        self._known_cameras: dict[int, np.ndarray] = {anchor_index: np.eye(4)}
        if geometry.kind == "fixed":
            self._known_cameras = dict.fromkeys(range(num_frames), np.eye(4))
        elif geometry.cameras is not None:
            known = np.isfinite(geometry.cameras).all(axis=(1, 2))
            self._known_cameras |= {int(k): geometry.cameras[k] for k in np.flatnonzero(known)}
        self._begin(None, PRIOR_DEPTH, MeasuredPoints(), ObjectDepth())
        self._fused, self._anchor = self._of_frame(anchor_index, anchor_rgb, geometry.anchor_view)
        self._start = self._rays(anchor_index) * self._anchor.depth[..., None]
        self._anchor_state = self._alignment, self._median_depth, self._points, copy(self._object_depth)

    @property
    def own(self) -> TwoPointmaps:
        """Pointmaps of the anchor with itself."""
        points = Pointmap(self._start, _confidence(self._fused))
        return TwoPointmaps(points, replace(points, source=self._fused.source))

    def frames(self, frames: Iterable[Frame]) -> Iterator[tuple[int, np.ndarray, TwoPointmaps]]:
        """Index, image and pointmaps of frames, outward from the anchor: those after it in order, then those before it."""
        last = self._anchor_index
        for (index, rgb, view), following in _with_following(frames):
            self._prior.add(following, self._focals_px[index])
            if (index - self._anchor_index) * (last - self._anchor_index) < 0 or last == self._anchor_index:
                self._begin(*self._anchor_state)
                head = None if self._matching is None else self._matching.network.matching_head
                self._tracks = LiftedTracks(self._anchor, self._focals_px[self._anchor_index], head)
                self._tracked_index = self._anchor_index
            assert view is not None
            yield index, rgb, self.own if index == self._anchor_index else self._pair(index, rgb, view)
            last = index

    def reconstructions(self, indices: Sequence[int]) -> Iterator[tuple[int, Pointmap]]:
        """Return no frames: a frame alone, without its position in the video, has no camera."""
        return iter(())

    def _begin(self, alignment: Alignment | None, median_depth: float, points: MeasuredPoints, object_depth: ObjectDepth) -> None:
        """Reset the state to the anchor, so that one direction does not depend on whether the other was processed."""
        self._alignment, self._median_depth, self._points = alignment, median_depth, points
        self._object_depth, self._last_index = copy(object_depth), self._anchor_index
        self._cameras = dict(self._known_cameras)
        cameras = self._geometry.cameras
        self._pairs = None if cameras is None else PairFlows(self._steps.read, cameras, np.array(self._focals_px))
        self._triangulated: dict[int, StaticDepth] = {}

    @timed("fusion")
    def _pair(self, index: int, rgb: np.ndarray, view: TwoView) -> TwoPointmaps:
        solved = index not in self._unsolved
        view = replace(view, focal_px=self._focals_px[index])
        if solved:
            self._cameras[index] = view.anchor_from_frame
        fused, frame = self._of_frame(index, rgb, view)
        confidence = _confidence(fused)
        points = transform_maps(view.anchor_from_frame, self._rays(index) * fused.depth[..., None]).astype(np.float32)
        if solved:
            self._tracks.next(frame, view, self._steps.chain(self._tracked_index, index))
            self._tracked_index = index
        tracking = Pointmap(self._tracks.points, sample_flow(confidence, self._tracks.pixels))
        return TwoPointmaps(tracking, Pointmap(points, confidence, source=fused.source), view.anchor_from_frame)

    def _of_frame(self, index: int, rgb: np.ndarray, view: TwoView) -> tuple[FusedDepth, TrackedFrame]:
        """Depth of a frame, aligned to the measured depth or else as in the previous frame; and the input of the tracks."""
        prior = self._prior(rgb, index, self._focals_px[index])
        measured, log_error = self._measured(index, view)
        alignment = align(prior, measured, log_error) or self._alignment
        if not self._geometry.measures_depth:
            # warped depth determines only the scale; per pixel, it would fragment rotating objects
            measured = np.zeros_like(measured)
        if alignment is None:
            alignment = Alignment(PRIOR_DEPTH / float(np.median(prior.depth)))
            alignment = alignment if prior.kind == "depth" else Alignment(1 / alignment.scale)
        self._alignment = alignment
        measured = without_contradictions(prior, alignment, measured)
        static = fuse(prior, alignment, measured, log_error)
        dynamic = self._dynamic(index, static, view)
        fused = fuse(prior, alignment, measured, log_error, dynamic) if dynamic.any() else static
        depth = fused.depth if index in self._unsolved else self._with_objects(index, fused.depth, dynamic, view)
        source = np.where(dynamic, DepthSource.DYNAMIC, fused.source).astype(np.uint8)
        fused = FusedDepth(depth, fused.log_error, source)
        if index not in self._unsolved:
            self._median_depth = float(np.median(fused.depth))
            of_static = StaticDepth(np.where(dynamic, 0, measured), log_error)
            self._points = self._points_of(index, of_static, view.anchor_from_frame)
        maps = () if self._matching is None else self._matching(rgb)
        return fused, TrackedFrame(depth, dynamic, appearance(rgb), maps)

    def _measured(self, index: int, view: TwoView) -> tuple[np.ndarray, np.ndarray]:
        """Measured depth of a frame [H, W], 0 where unknown, and its expected log error."""
        depth = view.anchor_depth if index == self._anchor_index else view.frame_depth
        if index in self._unsolved:
            depth = np.zeros_like(depth)
        elif self._geometry.kind in WITHOUT_DEPTH and index != self._anchor_index:
            depth = self._carried(index, view)
        error = KNOWN_ERROR if self._geometry.depth_is_known else CARRIED_ERROR
        log_error = np.where(depth > 0, error, np.inf).astype(np.float32)
        cameras = self._geometry.cameras
        without_depth = self._geometry.kind in WITHOUT_DEPTH
        if cameras is None or self._pairs is None or without_depth or not np.isfinite(cameras[index]).all():
            return depth, log_error
        found = self._static_depth(index, cameras)
        ahead = [(k, self._points_of(k, self._static_depth(k, cameras), cameras[k])) for k in self._ahead(index, cameras)]
        for k, points in [(self._last_index, self._points), *ahead]:
            found = found.merged(self._warped(points, k, index, cameras))
        known = (depth > 0) & self._geometry.depth_is_known
        return np.where(known, depth, found.depth), np.where(known, log_error, found.log_error)

    def _static_depth(self, index: int, cameras: np.ndarray) -> StaticDepth:
        """Multi-view static depth of a frame, with the points of the solver where it is unknown."""
        assert self._pairs is not None
        if index not in self._triangulated:
            size = (self._grid.shape[0], self._grid.shape[1])
            found = static_depth(self._pairs, index, cameras, np.array(self._focals_px), self._median_depth, size)
            self._triangulated[index] = found.merged(self._solver_points(index))
            while len(self._triangulated) > 2 * LOOK_AHEAD[-1] + 1:
                del self._triangulated[next(iter(self._triangulated))]
        return self._triangulated[index]

    def _solver_points(self, index: int) -> StaticDepth:
        """Depth of the solver's points in a frame."""
        size = (self._grid.shape[0], self._grid.shape[1])
        depth, log_error = np.zeros(size, np.float32), np.full(size, np.inf, np.float32)
        points = self._geometry.points_of(index)
        points = points[inside_image(points[:, :2], *size) & (points[:, 2] > 0)]
        row, column = nearest_pixel(points[:, :2], *size)
        depth[row, column], log_error[row, column] = points[:, 2], POINT_ERROR
        return StaticDepth(depth, log_error)

    def _ahead(self, index: int, cameras: np.ndarray) -> list[int]:
        """Frames with cameras a few frames further in the direction of processing; from the anchor, in both directions."""
        sign = int(np.sign(index - self._anchor_index))
        around = [index + way * offset for offset in LOOK_AHEAD for way in ((sign,) if sign else (1, -1))]
        return [k for k in around if 0 <= k < self._num_frames and np.isfinite(cameras[k]).all()]

    def _points_of(self, index: int, measured: StaticDepth, camera: np.ndarray) -> MeasuredPoints:
        return MeasuredPoints.of(measured, self._steps.read(index), camera, self._rays(index))

    def _warped(self, points: MeasuredPoints, start: int, index: int, cameras: np.ndarray) -> StaticDepth:
        """Depth in a frame of points measured in frame `start`, where the flow between the frames does not contradict it."""
        seen = points.seen(self._steps.read(index), cameras[index], self._focals_px[index])
        if not seen.known.any() or start == index:
            return seen
        forward, backward = self._steps.chain(index, start)
        returned = returns(forward, backward)
        start_camera = self._cameras[start] if start in self._cameras else cameras[start]
        start_from_frame = invert_rigid(start_camera) @ cameras[index]
        there = self._pixels(transform_maps(start_from_frame, self._rays(index) * seen.depth[..., None]), start)
        agrees = length(there - self._grid - forward) < MAX_DISAGREEMENT * max(self._grid.shape)
        error = np.where(returned, seen.log_error, np.maximum(seen.log_error, UNCONFIRMED_ERROR))
        return StaticDepth(np.where(agrees | ~returned, seen.depth, 0), error)

    def _carried(self, index: int, view: TwoView) -> np.ndarray:
        """Anchor depth [H, W] warped into a frame without camera translation; 0 where the flow contradicts the pose."""
        returned = returns(view.backward_flow, view.forward_flow)
        back = self._grid + view.backward_flow
        static = sample_flow((~self._anchor.dynamic).astype(np.float32), back) > 0.99
        points = sample_flow(self._start, back) @ view.anchor_from_frame[:3, :3].astype(np.float32)
        still = length(self._pixels(points, index) - self._grid) < MIN_MOTION * max(self._grid.shape)
        return np.where(returned & static & still & (points[..., 2] > 0), points[..., 2], 0).astype(np.float32)

    def _dynamic(self, index: int, static: FusedDepth, view: TwoView) -> np.ndarray:
        """Dynamic pixels [H, W] of a frame, without the user-provided static ones."""
        if index in self._unsolved:
            return np.zeros(static.depth.shape, bool)
        camera = view.anchor_from_frame
        others = [
            OtherFrame(
                self._steps.read(k), self._steps.chain(index, k), invert_rigid(self._cameras[k]) @ camera, self._focals_px[k]
            )
            for k in self._neighbours(index)
        ]
        measured = static.source == DepthSource.MEASURED
        found = dynamic_pixels(self._steps.read(index), static.depth, measured, others, self._focals_px[index])
        return found if self._static is None else found & ~self._static(index)

    def _with_objects(self, index: int, depth: np.ndarray, dynamic: np.ndarray, view: TwoView) -> np.ndarray:
        """Depth [H, W] of a frame with corrected depth of dynamic objects."""
        last, self._last_index = self._last_index, index
        back = None if last == index else self._steps.chain(index, last)[0]
        beside = next((k for k in (index + 1, index - 1) if k in self._cameras and 0 <= k < self._num_frames), None)
        motion = np.zeros_like(self._grid)
        if beside is not None and dynamic.any():
            other_from_frame = invert_rigid(self._cameras[beside]) @ view.anchor_from_frame
            static = self._pixels(transform_maps(other_from_frame, self._rays(index) * depth[..., None]), beside)
            motion = self._grid + self._steps.chain(index, beside)[0] - static
        return self._object_depth.next(depth, dynamic, motion, back)

    def _neighbours(self, index: int) -> Sequence[int]:
        """Neighbouring frames with known cameras and no unsolved frame between: flow through a black frame is meaningless."""

        def reached(k: int) -> bool:
            return all(j in self._cameras and j not in self._unsolved for j in range(min(index, k), max(index, k) + 1))

        return [index + offset for offset in OFFSETS if 0 <= index + offset < self._num_frames and reached(index + offset)]

    def _pixels(self, points: np.ndarray, index: int) -> np.ndarray:
        """Pixels [H, W, 2] float32 of points [H, W, 3] in the camera of a frame."""
        return pixels_of_points(points, self._focals_px[index], (points.shape[0], points.shape[1])).astype(np.float32)

    def _rays(self, index: int) -> np.ndarray:
        """Rays [H, W, 3] float32 of the pixels of a frame."""
        return pixel_rays(self._grid, self._focals_px[index], (self._grid.shape[0], self._grid.shape[1])).astype(np.float32)


def _with_following(frames: Iterable[Frame]) -> Iterator[tuple[Frame, list[tuple[int, np.ndarray]]]]:
    """Every frame with index and image of the next ones, over which its depth prior is averaged."""
    waiting: list[Frame] = []
    for frame in frames:
        waiting.append(frame)
        if len(waiting) > REACH:
            yield waiting[0], [(index, rgb) for index, rgb, _ in waiting[1:]]
            del waiting[0]
    for k, frame in enumerate(waiting):
        yield frame, [(index, rgb) for index, rgb, _ in waiting[k + 1 :]]


def _confidence(fused: FusedDepth) -> np.ndarray:
    """Confidence [H, W] > 1: one plus the inverse of the expected log error."""
    return (1 + 1 / np.maximum(fused.log_error, 1e-3)).astype(np.float32)
