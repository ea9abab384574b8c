"""Depth prior averaged over neighbouring frames along the optical flow: that of single frames varies by a few percent."""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np

from st4rtrack.classical.flow import reached, returns, sample_flow
from st4rtrack.hints.depth_prior import DepthPrior, PriorDepth

REACH = 4
"""Largest distance in frames over which the prior is averaged."""
OFFSETS = (-REACH, -2, -1, 1, 2, REACH)
"""Offsets of the frames that count; flow over powers of two is cached."""
MIN_VALID = 0.3
"""Minimum share of pixels with reliable flow of a frame that counts."""
MAX_CHANGE = 0.25
"""Log depth beyond which a pixel of another frame shows another surface."""
CACHED = 3 * REACH
"""Number of frames whose depth is kept: those on both sides of the current one, and more."""


class AveragedPrior:
    """Mean log depth of a prior over neighbouring frames, each warped and scaled to the frame.

    Only frames that were added before, or already requested, count.

    Args:
        prior: depth prior of single frames.
        flows: function from two frame indices to the flow [H, W, 2] from the first to the second and back.
    """

    def __init__(self, prior: DepthPrior, flows: Callable[[int, int], tuple[np.ndarray, np.ndarray]]) -> None:
        self._prior, self._flows, self.name = prior, flows, prior.name
        self._cached: OrderedDict[int, PriorDepth] = OrderedDict()

    def add(self, frames: Iterable[tuple[int, np.ndarray]], focal_px: float | None = None) -> None:
        """Predict the depth of frames (index and image), which neighbouring ones may need."""
        for index, rgb in frames:
            self._single(rgb, index, focal_px)

    def __call__(self, rgb: np.ndarray, index: int, focal_px: float | None = None) -> PriorDepth:
        """See `DepthPrior`."""
        found = self._single(rgb, index, focal_px)
        known = found.values > 0
        own = np.log(np.where(known, found.values, 1))
        total, count = np.zeros_like(own), np.ones_like(own)
        for other in (index + offset for offset in OFFSETS):
            if other in self._cached:
                change, valid = self._change(own, index, other)
                total += np.where(valid & known, change, 0)
                count += valid & known
        return replace(found, values=np.where(known, np.exp(own + total / count), 0).astype(np.float32))

    def _change(self, own: np.ndarray, index: int, other: int) -> tuple[np.ndarray, np.ndarray]:
        """Log ratio [H, W] of the values of another frame, warped here, to `own`, with median 0; and where it is valid."""
        forward, backward = self._flows(index, other)
        values = sample_flow(self._cached[other].values, reached(forward))
        valid = returns(forward, backward) & (values > 0)
        if valid.mean() < MIN_VALID:
            return np.zeros_like(own), np.zeros_like(valid)
        change = np.log(np.maximum(values, 1e-9)) - own
        change -= np.median(change[valid])
        return change, valid & (np.abs(change) < MAX_CHANGE)

    def _single(self, rgb: np.ndarray, index: int, focal_px: float | None) -> PriorDepth:
        if index not in self._cached:
            self._cached[index] = self._prior(rgb, index, focal_px)
            while len(self._cached) > CACHED:
                self._cached.popitem(last=False)
        return self._cached[index]
