"""Dense geometry of a video, fused from what is measured and a depth prior, as pointmaps of (anchor, frame).

Every frame has its static depth from several views, where the camera translates and the scene is static, and the depth prior aligned to
it elsewhere. Points of the anchor that are static stay; dynamic ones follow the optical flow and are lifted by the depth of the frame
that they are seen in. Nothing is learnt here but the prior.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace

import numpy as np

from st4rtrack.classical.anchored import WITHOUT_DEPTH, AnchoredGeometry
from st4rtrack.classical.flow import returns, sample_flow
from st4rtrack.classical.static_depth import PairFlows, static_depth
from st4rtrack.classical.two_view import TwoView, pixel_rays
from st4rtrack.geometry.camera import pixel_grid
from st4rtrack.geometry.sampling import inside_image, nearest_pixel
from st4rtrack.geometry.transforms import invert_rigid, transform_maps
from st4rtrack.hints.carried import CarriedDepth
from st4rtrack.hints.depth_prior import DepthPrior
from st4rtrack.hints.dynamic import OFFSETS, OtherFrame, dynamic_pixels, standing_on_ground
from st4rtrack.hints.fusion import PRIOR_DEPTH, Alignment, FusedDepth, align, fuse, without_contradictions
from st4rtrack.hints.lifting import LiftedTracks
from st4rtrack.hints.object_depth import ObjectDepth
from st4rtrack.hints.steps import StepFlows
from st4rtrack.types import DepthSource, Pointmap, TwoPointmaps

CARRIED_ERROR = 0.05
"""Expected log error of depth that is carried from a reference frame by flow."""
POINT_ERROR = 0.03
"""Expected log error of a point of the global solver."""

Frame = tuple[int, np.ndarray, TwoView | None]


@dataclass(frozen=True)
class FrameGeometry:
    """A frame in its own camera.

    Attributes:
        fused: its depth.
        dynamic: [H, W] bool.
    """

    fused: FusedDepth
    dynamic: np.ndarray


class FusedGeometry:
    """Pointmaps of (anchor, frame) from fused geometry, in units of the geometry's survey.

    Args:
        geometry: how the camera moves, seen from the anchor.
        prior: depth of single frames.
        steps: flow between its frames.
        num_frames: of the video.
        anchor_index, anchor_rgb: the anchor, [H, W, 3] uint8.
        static: [H, W] bool, pixels of a frame that the user knows to be static, or `None`.
    """

    def __init__(
        self,
        geometry: AnchoredGeometry,
        prior: DepthPrior,
        steps: StepFlows,
        *,
        num_frames: int,
        anchor_index: int,
        anchor_rgb: np.ndarray,
        static: Callable[[int], np.ndarray] | None = None,
    ) -> None:
        self._geometry, self._prior, self._static = geometry, prior, static
        self._num_frames, self._anchor_index = num_frames, anchor_index
        self._steps = steps
        self._focal_px = geometry.focal_px
        self._pairs = None if geometry.cameras is None else PairFlows(steps.read, geometry.cameras, self._focal_px)
        height, width = anchor_rgb.shape[:2]
        self._grid = pixel_grid(height, width)
        self._rays = pixel_rays(self._grid, self._focal_px, (height, width)).astype(np.float32)
        self._carried_depth = CarriedDepth(self._rays, self._focal_px)
        # a fixed camera is known in all frames, so that the anchor has its dynamic pixels too
        self._cameras = {k: np.eye(4) for k in (range(num_frames) if geometry.kind == "fixed" else (anchor_index,))}
        if geometry.cameras is not None:
            known = np.isfinite(geometry.cameras).all(axis=(1, 2))
            self._cameras |= {int(k): geometry.cameras[k] for k in np.flatnonzero(known)}
        self._object_depth, self._last_index = ObjectDepth(), anchor_index
        self._alignment: Alignment | None = None
        self._median_depth = PRIOR_DEPTH
        self._anchor = self._of_frame(anchor_index, anchor_rgb, geometry.anchor_view)
        self._start = self._rays * self._anchor.fused.depth[..., None]
        self._tracks = LiftedTracks(self._start, self._focal_px)
        self._anchor_alignment, self._anchor_carried = self._alignment, copy(self._carried_depth)
        self._anchor_object_depth = copy(self._object_depth)

    @property
    def own(self) -> TwoPointmaps:
        """The anchor against itself."""
        points = Pointmap(self._start, _confidence(self._anchor.fused))
        return TwoPointmaps(points, replace(points, source=self._anchor.fused.source))

    def frames(self, frames: Iterable[Frame]) -> Iterator[tuple[int, np.ndarray, TwoPointmaps]]:
        """Number, image and pointmaps of frames, outward from the anchor: those after it in order, then those before it."""
        last = self._anchor_index
        for index, rgb, view in frames:
            if (index - self._anchor_index) * (last - self._anchor_index) < 0 or last == self._anchor_index:
                self._begin_way()
            assert view is not None
            yield index, rgb, self.own if index == self._anchor_index else self._pair(index, rgb, view)
            last = index

    def reconstructions(self, indices: Sequence[int]) -> Iterator[tuple[int, Pointmap]]:
        """Of none: without its place in the video, a frame has no camera."""
        return iter(())

    def _begin_way(self) -> None:
        self._tracks = LiftedTracks(self._start, self._focal_px)
        self._alignment = self._anchor_alignment
        self._median_depth = float(np.median(self._anchor.fused.depth))
        self._carried_depth, self._object_depth = copy(self._anchor_carried), copy(self._anchor_object_depth)
        self._last_index = self._anchor_index

    def _pair(self, index: int, rgb: np.ndarray, view: TwoView) -> TwoPointmaps:
        self._cameras[index] = view.anchor_from_frame
        frame = self._of_frame(index, rgb, view)
        confidence = _confidence(frame.fused)
        points = transform_maps(view.anchor_from_frame, self._rays * frame.fused.depth[..., None]).astype(np.float32)
        there = self._grid + view.forward_flow
        dynamic = self._anchor.dynamic | (sample_flow(frame.dynamic.astype(np.float32), there) > 0.5)
        tracking = self._tracks.next(view, frame.fused.depth, dynamic)
        seen = sample_flow(confidence, there)
        return TwoPointmaps(Pointmap(tracking, seen), Pointmap(points, confidence, source=frame.fused.source))

    def _of_frame(self, index: int, rgb: np.ndarray, view: TwoView) -> FrameGeometry:
        """Depth and dynamic pixels of a frame, aligned to the measured depth or, without it, as the frame before."""
        prior = self._prior(rgb, index, self._focal_px)
        measured, log_error = self._measured(index, view)
        alignment = align(prior, measured, log_error) or self._alignment
        if not self._geometry.measures_depth:
            # carried depth tells the scale; pixel by pixel, it would cut objects that turn into pieces
            measured = np.zeros_like(measured)
        if alignment is None:
            alignment = Alignment(PRIOR_DEPTH / float(np.median(prior.depth)))
            alignment = alignment if prior.kind == "depth" else Alignment(1 / alignment.scale)
        self._alignment = alignment
        measured = without_contradictions(prior, alignment, measured)
        static = fuse(prior, alignment, measured, log_error)
        dynamic = self._dynamic(index, static, view)
        fused = fuse(prior, alignment, measured, log_error, dynamic)
        static_depth_known = np.where(dynamic, 0, measured)
        self._carried_depth.keep(static_depth_known, log_error, self._steps.read(index), view.anchor_from_frame)
        depth = self._with_objects(index, standing_on_ground(fused.depth, dynamic), dynamic, view)
        fused = FusedDepth(depth, fused.log_error, fused.source)
        self._median_depth = float(np.median(fused.depth))
        return FrameGeometry(fused, dynamic)

    def _measured(self, index: int, view: TwoView) -> tuple[np.ndarray, np.ndarray]:
        """Measured depth of a frame [H, W], 0 where unknown, and its expected log error."""
        depth = view.anchor_depth if index == self._anchor_index else view.frame_depth
        if self._geometry.kind in WITHOUT_DEPTH and index != self._anchor_index:
            depth = self._carried(view)
        log_error = np.where(depth > 0, CARRIED_ERROR, np.inf).astype(np.float32)
        cameras = self._geometry.cameras
        if cameras is None or self._pairs is None or not np.isfinite(cameras[index]).all():
            return depth, log_error
        found = static_depth(self._pairs, index, cameras, self._focal_px, self._median_depth, depth.shape)
        triangulated, error = self._with_points(index, found.depth, found.log_error)
        carried, carried_error = self._carried_depth.seen(self._steps.read(index), cameras[index])
        triangulated, error = (
            np.where(triangulated > 0, here, before) for here, before in ((triangulated, carried), (error, carried_error))
        )
        given = (depth > 0) & self._geometry.knows_depth
        return np.where(given, depth, triangulated), np.where(given, log_error, error)

    def _with_points(self, index: int, depth: np.ndarray, log_error: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Measured depth with the solver's points where nothing else is known."""
        points = self._geometry.points_of(index)
        inside = inside_image(points[:, :2], *depth.shape) & (points[:, 2] > 0)
        row, column = nearest_pixel(points[inside, :2], *depth.shape)
        missing = depth[row, column] == 0
        depth, log_error = depth.copy(), log_error.copy()
        depth[row[missing], column[missing]] = points[inside, 2][missing]
        log_error[row[missing], column[missing]] = POINT_ERROR
        return depth, log_error

    def _carried(self, view: TwoView) -> np.ndarray:
        """The anchor's depth of static points in a frame of a camera that does not translate: all frames have one scale."""
        returned = returns(view.backward_flow, view.forward_flow)
        back = self._grid + view.backward_flow
        static = sample_flow((~self._anchor.dynamic).astype(np.float32), back) > 0.99
        points = sample_flow(self._start, back) @ view.anchor_from_frame[:3, :3].astype(np.float32)
        return np.where(returned & static & (points[..., 2] > 0), points[..., 2], 0).astype(np.float32)

    def _dynamic(self, index: int, static: FusedDepth, view: TwoView) -> np.ndarray:
        """Dynamic pixels [H, W] of a frame."""
        camera = view.anchor_from_frame
        others = [
            OtherFrame(self._steps.read(k), self._steps.chain(index, k), invert_rigid(self._cameras[k]) @ camera)
            for k in self._neighbours(index)
            if k in self._cameras
        ]
        found = dynamic_pixels(
            self._steps.read(index), static.depth, static.source == DepthSource.MEASURED, others, self._focal_px
        )
        return found if self._static is None else found & ~self._static(index)

    def _with_objects(self, index: int, depth: np.ndarray, dynamic: np.ndarray, view: TwoView) -> np.ndarray:
        """Depth [H, W] of a frame with that of dynamic objects corrected."""
        motion = np.zeros_like(self._grid)
        for other in (index - 1, index + 1):
            if other in self._cameras and 0 <= other < self._num_frames:
                static = transform_maps(
                    invert_rigid(self._cameras[other]) @ view.anchor_from_frame, self._rays * depth[..., None]
                )
                pixel = static[..., :2] / np.maximum(static[..., 2:], 1e-3) * self._focal_px + np.array(depth.shape[::-1]) / 2
                motion = self._grid + self._steps.chain(index, other)[0] - pixel
        last, self._last_index = self._last_index, index
        back = None if last == index else self._steps.chain(index, last)[0]
        return self._object_depth.next(depth, dynamic, motion, back)

    def _neighbours(self, index: int) -> Sequence[int]:
        return [index + offset for offset in OFFSETS if 0 <= index + offset < self._num_frames]


def _confidence(fused: FusedDepth) -> np.ndarray:
    """Confidence [H, W] > 1: one over the expected log error."""
    return (1 + 1 / np.maximum(fused.log_error, 1e-3)).astype(np.float32)
