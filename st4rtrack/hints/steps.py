"""Optical flow between neighbouring frames of a video, computed once, and chained over a few frames."""

from collections import OrderedDict
from collections.abc import Callable

import numpy as np

from st4rtrack.classical.anchored import both_ways
from st4rtrack.classical.flow import FlowChain

Flows = tuple[np.ndarray, np.ndarray]
"""Flow [height, width, 2] forth and back, network pixels."""
KEPT = 24
"""Steps that are kept: more than the frames on both sides of one that are looked at."""
ENLARGE = 2


class StepFlows:
    """Flow from frame to frame of a video.

    Args:
        read: a frame [height, width] uint8 grey by its number.
    """

    def __init__(self, read: Callable[[int], np.ndarray]) -> None:
        self.read = read
        self._steps: OrderedDict[int, Flows] = OrderedDict()

    def step(self, index: int) -> Flows:
        """From a frame to the next one and back."""
        if index not in self._steps:
            self._steps[index] = both_ways(self.read(index), self.read(index + 1), enlarge=ENLARGE)
            while len(self._steps) > KEPT:
                self._steps.popitem(last=False)
        return self._steps[index]

    def chain(self, start: int, end: int) -> Flows:
        """From one frame to another a few frames away and back."""
        height, width = self.read(start).shape
        chain = FlowChain(height, width)
        for index in range(start, end):
            chain.extend(*self.step(index))
        for index in range(start - 1, end - 1, -1):
            chain.extend(*self.step(index)[::-1])
        return chain.forward, chain.backward
