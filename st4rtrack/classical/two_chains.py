"""2D tracks of points of a first frame from two kinds of optical flow: chained in fine steps, and looked for directly. No weights.

What moves by itself is followed best from frame to frame in fine images; its look changes, so looking for it directly finds what lies
behind it. What is static is found best by looking directly, which has no drift and finds again what was hidden. Which of the two a
point is says the comparison: where the direct flow keeps to what the steps found, and the steps are brought back to it, it is static.
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
"""Images are enlarged by a whole number to about this for the search."""
AGREE_LONG_SIDES = 0.012
"""Distance of the direct flow from a step, in long sides of the image, up to which they agree."""
AGREEING_SHARE = 0.9
MIN_COMPARED = 5
MIN_LIKENESS = 0.8
"""Correlation with its first look that a lost point must have to be found again."""
PATCH_RADIUS = 4


def flows_from_first(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Flow of every frame after the first.

    Args:
        frames: RGB images [height, width, 3] uint8, in order; read once.
    Yields:
        [4, height, width, 2] float32 pixels: from the frame before and back, from the first frame and back.
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


def follow_two_ways(frames: Iterable[np.ndarray], flows: Iterable[np.ndarray], query_px: np.ndarray) -> FlowTracks:
    """Follows points of the first frame through all others.

    Args:
        frames: RGB images [height, width, 3] uint8, in order; read once.
        flows: of `flows_from_first` for these frames.
        query_px: [points, 2] pixels of the first frame.
    Returns:
        `FlowTracks`. What is static may be hidden and found again; what moves stays lost.
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
    """Points [N, 2] of a frame, and whether they have not been lost [N]."""

    pixels_px: np.ndarray
    visible: np.ndarray

    def step(self, forward: np.ndarray, backward: np.ndarray, **tolerance: float) -> "_Points":
        then, returns = flow_step(self.pixels_px, forward, backward, **tolerance)
        return _Points(then, self.visible & returns)


def _patches(grey: np.ndarray, pixels_px: np.ndarray) -> np.ndarray:
    """What points [N, 2] look like: pixels around them [N, pixels] without mean, of unit length (less where there is no texture)."""
    side = np.arange(-PATCH_RADIUS, PATCH_RADIUS + 1, dtype=np.float32)
    offsets = np.stack(np.meshgrid(side, side), axis=-1).reshape(-1, 2)
    values = remap(grey, pixels_px[:, None] + offsets).astype(np.float32)
    values -= values.mean(axis=1, keepdims=True)
    return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), len(offsets) ** 0.5)
