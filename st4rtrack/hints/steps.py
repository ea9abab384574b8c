"""Optical flow between neighbouring frames of a video, cached, and chained over a few frames."""

import tempfile
from collections import OrderedDict
from collections.abc import Callable, Mapping

import cv2
import numpy as np

from st4rtrack.classical.flow import FlowChain, bidirectional_flow, carried_flow, dense_flow
from st4rtrack.timing import timed
from st4rtrack.types import Video

Flows = tuple[np.ndarray, np.ndarray]
"""Forward and backward flow [height, width, 2], network pixels."""
KEPT = 24
"""Number of cached flows per span: more than the neighbours on both sides of a frame."""
ENLARGE = 2


class GreyFrames:
    """Grey frames [height, width] uint8 of a video by index, in a temporary file: random access in constant memory."""

    def __init__(self, video: Video) -> None:
        shape = (len(video), video.height, video.width)
        with tempfile.TemporaryFile(prefix="st4rtrack-") as file:  # the mapping outlives the file
            self._frames = np.memmap(file, np.uint8, "w+", shape=shape)
        for index, rgb in enumerate(video.frames()):
            self._frames[index] = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)

    def __call__(self, index: int) -> np.ndarray:
        return np.asarray(self._frames[index])


class StepFlows:
    """Cached flow between frames of a video.

    Args:
        read: function from a frame index to the frame [height, width] uint8 grey.
    """

    def __init__(self, read: Callable[[int], np.ndarray]) -> None:
        self.read = read
        self._kept: dict[int, OrderedDict[int, Flows]] = {}

    def step(self, index: int) -> Flows:
        """Flow from a frame to the next one and back."""
        return self._over(index, 1)

    @timed("geometry")
    def chain(self, start: int, end: int) -> Flows:
        """Flow from a frame to another one a few frames away and back."""
        low, high = min(start, end), max(start, end)
        height, width = self.read(start).shape
        chain = FlowChain(height, width)
        while low < high:
            span = 1 << (high - low).bit_length() - 1
            chain.extend(*self._over(low, span))
            low += span
        return (chain.forward, chain.backward) if start < end else (chain.backward, chain.forward)

    def _over(self, index: int, span: int) -> Flows:
        """Flow over a span of a power of two frames and back: chained from two halves, which are shared."""
        kept = self._kept.setdefault(span, OrderedDict())
        found = kept.get(index)
        if found is None:
            half = span // 2
            if half:
                chain = FlowChain(*self.read(index).shape)
                chain.extend(*self._over(index, half))
                chain.extend(*self._over(index + half, half))
                found = chain.forward, chain.backward
            else:
                found = self._search(index, kept)
            kept[index] = found
            while len(kept) > KEPT:
                kept.popitem(last=False)
        return found

    def _search(self, index: int, kept: Mapping[int, Flows]) -> Flows:
        """Flow from a frame to the next one and back; initialised by constant motion, to match fast and small objects."""
        now, after = self.read(index), self.read(index + 1)
        if index - 1 in kept:
            return _continued(now, after, *kept[index - 1])
        if index + 1 in kept:
            forward, backward = kept[index + 1]
            backward, forward = _continued(after, now, backward, forward)
            return forward, backward
        return bidirectional_flow(now, after, enlarge=ENLARGE)


def _continued(now: np.ndarray, after: np.ndarray, forward: np.ndarray, backward: np.ndarray) -> Flows:
    """Flow between two images and back, initialised with the flow of the previous step."""
    there = dense_flow(now, after, carried_flow(forward, forward), enlarge=ENLARGE)
    return there, dense_flow(after, now, carried_flow(backward, there), enlarge=ENLARGE)
