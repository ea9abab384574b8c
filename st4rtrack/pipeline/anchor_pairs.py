"""Pairs of a further anchor with its neighbouring frames: network predictions, or lifted from fused geometry.

The pass of the first anchor has given every frame a camera and a depth, so that fused geometry needs only the flow from the new
anchor.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import Protocol

import cv2
import numpy as np

from st4rtrack.classical.anchored import MOTION_ENLARGE
from st4rtrack.classical.flow import FlowChain, bidirectional_flow, sample_flow
from st4rtrack.classical.two_view import TwoView, pixel_rays
from st4rtrack.geometry.camera import pixel_grid
from st4rtrack.geometry.transforms import invert_rigid, transform_maps
from st4rtrack.hints.depth_prior import DepthPrior
from st4rtrack.hints.lifting import LiftedTracks, TrackedFrame, appearance
from st4rtrack.hints.steps import Flows
from st4rtrack.io.scene import SceneSink
from st4rtrack.model.network import St4RTrack
from st4rtrack.pipeline.pointmaps import TokenFile, encode_anchor, predict_frames
from st4rtrack.scene import FrameSurface
from st4rtrack.types import DepthSource, Pointmap, TwoPointmaps

KEPT_BYTES = 256 << 20
"""Memory for the flow that anchors share: all of it up to 340 frames at 256x192."""
MOST_AT_ONCE = 8
"""Maximum batch size: pairs predicted beyond the visible range of an anchor are wasted."""


class Pairs(Protocol):
    """Interface for pair prediction; points are in the camera frame of the anchor, at any scale."""

    def along(self, anchor: int, step: int) -> Iterator[tuple[int, TwoPointmaps]]:
        """Index and pointmaps of the anchor with itself and the frames after it (step 1), or those before it (step -1)."""
        ...


def pairs_of(
    model: St4RTrack, prior: DepthPrior | None, sink: SceneSink, batch_size: int, kept: TokenFile | None
) -> "NetworkPairs | LiftedPairs":
    """Pairs of a scene: with a depth prior from its fused geometry, else predicted by the network; see `NetworkPairs`."""
    return NetworkPairs(model, sink, batch_size, kept) if prior is None else LiftedPairs(sink)


class NetworkPairs:
    """Pairs predicted by a network in batches; tokens in `kept` are reused and extended."""

    def __init__(self, model: St4RTrack, sink: SceneSink, batch_size: int, kept: TokenFile | None = None) -> None:
        self._model, self._sink, self._batch_size, self._kept = model, sink, min(batch_size, MOST_AT_ONCE), kept

    def along(self, anchor: int, step: int) -> Iterator[tuple[int, TwoPointmaps]]:
        """See `Pairs`; frames are read, and pairs predicted, one batch ahead."""
        encoded = encode_anchor(self._model, self._sink.read("rgb", anchor))
        direction = range(anchor, self._sink.header.num_frames) if step > 0 else range(anchor - 1, -1, -1)
        frames = ((index, self._sink.read("rgb", index)) for index in direction)
        for index, _, maps in predict_frames(self._model, encoded, frames, batch_size=self._batch_size, kept=self._kept):
            yield index, maps


class LiftedPairs:
    """Pairs from the fused geometry of a scene: its depth, cameras, and flow, which all anchors share."""

    def __init__(self, sink: SceneSink) -> None:
        self._sink = sink
        kept = KEPT_BYTES // (16 * sink.header.height * sink.header.width)
        self._flow_after = lru_cache(kept)(self._uncached_flow_after)

    def along(self, anchor: int, step: int) -> Iterator[tuple[int, TwoPointmaps]]:
        """See `Pairs`; in units of the median depth of the anchor."""
        surface, rgb = surface_of(self._sink, anchor), self._sink.read("rgb", anchor)
        unit = float(np.nanmedian(surface.depth)) if np.isfinite(surface.depth).any() else 1.0
        size, grid = (rgb.shape[0], rgb.shape[1]), pixel_grid(*rgb.shape[:2])
        tracks = LiftedTracks(self._tracked(anchor, rgb, _depth(surface, unit)), float(surface.intrinsics[0, 0]))
        chain, last = FlowChain(*size), anchor
        flows = chain.forward, chain.backward
        for index in range(anchor, self._sink.header.num_frames) if step > 0 else range(anchor - 1, -1, -1):
            if index != anchor:
                flows, last = self._step(last, index), index
                chain.extend(*flows)
            view, rgb = _view(surface, surface_of(self._sink, index), chain, unit), self._sink.read("rgb", index)
            rays = pixel_rays(grid, view.focal_px, size)
            points = transform_maps(view.anchor_from_frame, rays * view.frame_depth[..., None]).astype(np.float32)
            confidence = np.asarray(self._sink.read("reconstruction_confidence", index))
            tracks.next(self._tracked(index, rgb, view.frame_depth), view, flows)
            tracking = Pointmap(tracks.points, sample_flow(confidence, tracks.pixels))
            yield index, TwoPointmaps(tracking, Pointmap(points, confidence))

    def _tracked(self, index: int, rgb: np.ndarray, depth: np.ndarray) -> TrackedFrame:
        dynamic = np.asarray(self._sink.read("reconstruction_source", index)) == DepthSource.DYNAMIC
        return TrackedFrame(depth, dynamic, appearance(rgb))

    def _step(self, start: int, end: int) -> Flows:
        """Flow from a frame to a neighbour and back."""
        forward, backward = self._flow_after(min(start, end))
        return (forward, backward) if start < end else (backward, forward)

    def _uncached_flow_after(self, index: int) -> Flows:
        grey, after = (cv2.cvtColor(self._sink.read("rgb", k), cv2.COLOR_RGB2GRAY) for k in (index, index + 1))
        return bidirectional_flow(grey, after, enlarge=MOTION_ENLARGE)


def _view(anchor: FrameSurface, frame: FrameSurface, chain: FlowChain, unit: float) -> TwoView:
    """Two-view geometry of an anchor and a frame with the flow between them."""
    anchor_from_frame = invert_rigid(anchor.world_from_camera) @ frame.world_from_camera
    anchor_from_frame[:3, 3] /= unit
    depths = _depth(anchor, unit), _depth(frame, unit)
    return TwoView(chain.forward, chain.backward, *depths, anchor_from_frame, float(frame.intrinsics[0, 0]))


def _depth(surface: FrameSurface, unit: float) -> np.ndarray:
    """z-depth [height, width] in some unit, 0 where unknown."""
    return np.nan_to_num(surface.depth / unit).astype(np.float32)


def surface_of(sink: SceneSink, index: int) -> FrameSurface:
    """Surface of a frame that is already written to the scene."""
    points = np.asarray(sink.read("reconstruction_points", index), np.float32)
    confidence = sink.read("reconstruction_confidence", index)
    return FrameSurface(points, confidence, sink.read("world_from_camera", index), sink.read("intrinsics", index))
