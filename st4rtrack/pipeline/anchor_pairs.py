"""Pairs of a further anchor with its neighbouring frames: network predictions, or lifted from fused geometry.

The pass of the first anchor has given every frame a camera and a depth, so that fused geometry needs only the flow from the new
anchor.
"""

from collections import OrderedDict
from collections.abc import Iterator
from itertools import islice
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
        while batch := list(islice(frames, self._batch_size)):
            for index, _, maps in predict_frames(self._model, encoded, batch, batch_size=self._batch_size, kept=self._kept):
                yield index, maps


class LiftedPairs:
    """Pairs from the fused geometry of a scene: its depth, cameras, and flow."""

    def __init__(self, sink: SceneSink) -> None:
        self._sink, self._flows = sink, _SharedFlows(sink)

    def along(self, anchor: int, step: int) -> Iterator[tuple[int, TwoPointmaps]]:
        """See `Pairs`."""
        rgb = self._sink.read("rgb", anchor)
        views = _Views(self._sink, anchor, self._flows)
        size, grid = (rgb.shape[0], rgb.shape[1]), pixel_grid(*rgb.shape[:2])
        tracks = LiftedTracks(self._tracked(anchor, rgb, views.own.anchor_depth), views.own.focal_px)
        for index in range(anchor, self._sink.header.num_frames) if step > 0 else range(anchor - 1, -1, -1):
            rgb = self._sink.read("rgb", index)
            view = views.next(index)
            rays = pixel_rays(grid, view.focal_px, size)
            points = transform_maps(view.anchor_from_frame, rays * view.frame_depth[..., None]).astype(np.float32)
            confidence = np.asarray(self._sink.read("reconstruction_confidence", index))
            tracks.next(self._tracked(index, rgb, view.frame_depth), view, views.step)
            tracking = Pointmap(tracks.points, sample_flow(confidence, tracks.pixels))
            yield index, TwoPointmaps(tracking, Pointmap(points, confidence))

    def _tracked(self, index: int, rgb: np.ndarray, depth: np.ndarray) -> TrackedFrame:
        dynamic = np.asarray(self._sink.read("reconstruction_source", index)) == DepthSource.DYNAMIC
        return TrackedFrame(depth, dynamic, appearance(rgb))


class _SharedFlows:
    """Flow between neighbouring frames of a scene, cached for all anchors."""

    def __init__(self, sink: SceneSink) -> None:
        self._sink = sink
        self._most = KEPT_BYTES // (16 * sink.header.height * sink.header.width)
        self._kept: OrderedDict[int, Flows] = OrderedDict()

    def step(self, start: int, end: int) -> Flows:
        """Flow from a frame to a neighbour and back."""
        first = min(start, end)
        if first not in self._kept:
            grey, after = (cv2.cvtColor(self._sink.read("rgb", k), cv2.COLOR_RGB2GRAY) for k in (first, first + 1))
            self._kept[first] = bidirectional_flow(grey, after, enlarge=MOTION_ENLARGE)
            if len(self._kept) > self._most:
                self._kept.popitem(last=False)
        forward, backward = self._kept[first]
        return (forward, backward) if start < end else (backward, forward)


class _Views:
    """Two-view geometry of an anchor and the frames in one direction from it, in units of the anchor's median depth."""

    def __init__(self, sink: SceneSink, anchor: int, flows: _SharedFlows) -> None:
        self._sink, self._anchor, self._flows, self._last = sink, anchor, flows, anchor
        self._surface = surface_of(sink, anchor)
        depth = self._surface.depth
        self._unit = float(np.nanmedian(depth)) if np.isfinite(depth).any() else 1.0
        self._chain = FlowChain(*depth.shape)
        self.step = self._chain.forward, self._chain.backward

    @property
    def own(self) -> TwoView:
        """Two-view geometry of the anchor with itself."""
        zero = np.zeros((*self._surface.depth.shape, 2), np.float32)
        return self._view(zero, zero, self._surface)

    def next(self, index: int) -> TwoView:
        """Two-view geometry of the anchor and the next frame."""
        if index == self._anchor:
            return self.own
        self.step = self._flows.step(self._last, index)
        self._chain.extend(*self.step)
        self._last = index
        return self._view(self._chain.forward, self._chain.backward, surface_of(self._sink, index))

    def _view(self, forward: np.ndarray, backward: np.ndarray, surface: FrameSurface) -> TwoView:
        anchor_from_frame = invert_rigid(self._surface.world_from_camera) @ surface.world_from_camera
        anchor_from_frame[:3, 3] /= self._unit
        anchor_depth, frame_depth = (
            np.nan_to_num(each.depth / self._unit).astype(np.float32) for each in (self._surface, surface)
        )
        return TwoView(forward, backward, anchor_depth, frame_depth, anchor_from_frame, float(surface.intrinsics[0, 0]))


def surface_of(sink: SceneSink, index: int) -> FrameSurface:
    """Surface of a written frame."""
    points = np.asarray(sink.read("reconstruction_points", index), np.float32)
    confidence = sink.read("reconstruction_confidence", index)
    return FrameSurface(points, confidence, sink.read("world_from_camera", index), sink.read("intrinsics", index))
