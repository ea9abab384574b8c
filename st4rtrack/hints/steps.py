"""Optical flow between neighbouring frames of a video, computed once, and chained over a few frames."""

from collections import OrderedDict
from collections.abc import Callable

import numpy as np

from st4rtrack.classical.anchored import both_ways
from st4rtrack.classical.flow import FlowChain

Flows = tuple[np.ndarray, np.ndarray]
"""Flow [height, width, 2] forth and back, network pixels."""
KEPT = 24
"""Flows of each span that are kept: more than the frames on both sides of one that are looked at."""
ENLARGE = 2


class StepFlows:
    """Flow from frame to frame of a video.

    Args:
        read: a frame [height, width] uint8 grey by its number.
    """

    def __init__(self, read: Callable[[int], np.ndarray]) -> None:
        self.read = read
        self._kept: dict[int, OrderedDict[int, Flows]] = {}

    def step(self, index: int) -> Flows:
        """From a frame to the next one and back."""
        return self._over(index, 1)

    def chain(self, start: int, end: int) -> Flows:
        """From one frame to another a few frames away and back."""
        low, high = min(start, end), max(start, end)
        height, width = self.read(start).shape
        chain = FlowChain(height, width)
        while low < high:
            span = 1 << (high - low).bit_length() - 1
            chain.extend(*self._over(low, span))
            low += span
        return (chain.forward, chain.backward) if start < end else (chain.backward, chain.forward)

    def _over(self, index: int, span: int) -> Flows:
        """From a frame to the one a power of two of frames later and back: of two halves, which neighbours share."""
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
                found = both_ways(self.read(index), self.read(index + 1), enlarge=ENLARGE)
            kept[index] = found
            while len(kept) > KEPT:
                kept.popitem(last=False)
        return found
