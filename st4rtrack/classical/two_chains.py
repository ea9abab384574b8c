"""2D tracks of points of a first frame from two kinds of optical flow: chained in fine steps, and direct. No learned weights.

Dynamic points are tracked best from frame to frame in enlarged images: their appearance changes, so that direct flow matches the
background. Static points are tracked best by direct flow, which has no drift and recovers points after an occlusion. A point
counts as static if the direct flow agrees with the chained one, and the chained flow passes the forward-backward check.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from st4rtrack.classical.flow import FlowChain, dense_flow
from st4rtrack.classical.flow_tracks import FlowTracks, flow_step
from st4rtrack.geometry.sampling import inside_image, remap
from st4rtrack.geometry.vectors import length

SEARCH_LONG_SIDE = 512
"""Images are enlarged for flow by an integer factor to about this long side."""
AGREE_LONG_SIDES = 0.012
"""Distance between direct and chained flow, in long sides of the image, up to which they agree."""
AGREEING_SHARE = 0.9
MIN_COMPARED = 5
MIN_LIKENESS = 0.8
"""Correlation with its first appearance that a lost point needs to be recovered."""
PATCH_RADIUS = 4


def flows_from_first(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Chained and direct flow of every frame after the first.

    Args:
        frames: RGB images [height, width, 3] uint8, in order; read once.
    Yields:
        [4, height, width, 2] float32 pixels: from the previous frame and back, from the first frame and back.
    """
    greys = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames)
    first = previous = next(greys)
    enlarge = max(1, round(SEARCH_LONG_SIDE / max(first.shape)))
    chain = FlowChain(*first.shape)
    for grey in greys:
        step = [dense_flow(*pair, enlarge=enlarge, to_pixels=True) for pair in ((previous, grey), (grey, previous))]
        chain.extend(*step)
        direct = dense_flow(first, grey, chain.forward, enlarge=enlarge)
        direct_back = dense_flow(grey, first, chain.backward, enlarge=enlarge)
        chain.correct(direct, direct_back)
        yield np.stack([*step, direct, direct_back])
        previous = grey


def follow_forward_backward(frames: Iterable[np.ndarray], flows: Iterable[np.ndarray], query_px: np.ndarray) -> FlowTracks:
    """Track points of the first frame through all others.

    Args:
        frames: RGB images [height, width, 3] uint8, in order; read once.
        flows: from `flows_from_first` for these frames.
        query_px: [points, 2] pixels of the first frame.
    Returns:
        `FlowTracks`. Static points may be occluded and recovered; lost dynamic points stay lost.
    """
    query = np.asarray(query_px, np.float64).reshape(-1, 2)
    greys = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames)
    first = next(greys)
    look = _patches(first, query)
    seen = inside_image(query, *first.shape)
    stepped, held = [_Points(query, seen)], [_Points(query, seen)]
    compared, agreed = np.zeros(len(query)), np.zeros(len(query))
    for grey, (forward, backward, direct, direct_back) in zip(greys, flows, strict=True):
        stepped.append(stepped[-1].step(forward, backward))
        now, found = held[-1].step(forward, backward), _Points(query, seen).step(direct, direct_back, share=0.0)
        near = length(found.pixels_px - now.pixels_px) < AGREE_LONG_SIDES * max(first.shape)
        compared += now.visible & found.visible
        agreed += now.visible & found.visible & near
        alike = (look * _patches(grey, found.pixels_px)).sum(axis=1) > MIN_LIKENESS
        taken = found.visible & np.where(now.visible, near, alike)
        held.append(_Points(np.where(taken[:, None], found.pixels_px, now.pixels_px), taken | now.visible))
    static = (compared >= MIN_COMPARED) & (agreed >= AGREEING_SHARE * compared)
    pixels = [np.where(static[:, None], a.pixels_px, b.pixels_px) for a, b in zip(held, stepped, strict=True)]
    visible = [np.where(static, a.visible, b.visible) for a, b in zip(held, stepped, strict=True)]
    return FlowTracks(np.stack(pixels), np.stack(visible), np.zeros(len(query), np.int64))


@dataclass(frozen=True)
class _Points:
    """Points [N, 2] in a frame, and whether each is still tracked [N]."""

    pixels_px: np.ndarray
    visible: np.ndarray

    def step(self, forward: np.ndarray, backward: np.ndarray, **tolerance: float) -> "_Points":
        then, returns = flow_step(self.pixels_px, forward, backward, **tolerance)
        return _Points(then, self.visible & returns)


def _patches(grey: np.ndarray, pixels_px: np.ndarray) -> np.ndarray:
    """Appearance of points [N, 2]: surrounding pixels [N, pixels], zero mean and unit norm (less where there is no texture)."""
    side = np.arange(-PATCH_RADIUS, PATCH_RADIUS + 1, dtype=np.float32)
    offsets = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    values = remap(grey, pixels_px[:, None] + offsets).astype(np.float32)
    values -= values.mean(axis=1, keepdims=True)
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), len(offsets) ** 0.5)
