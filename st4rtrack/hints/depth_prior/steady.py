"""Depth prior of a fixed camera: single frames compress depth differently, but the background of all of them is the same."""

from collections.abc import Iterable
from dataclasses import replace

import cv2
import numpy as np

from st4rtrack.hints.depth_prior import DepthPrior, PriorDepth

MAX_CHANGE = 2.0
"""Maximum factor of the contrast of log depth, and of its inverse."""
FIT_ROUNDS = 5
SMOOTH = 0.08
"""Standard deviation, in long sides of the image, of the smoothing of the difference to the median, which keeps the edges of objects."""


class SteadyPrior:
    """Depth prior whose log depth has, in every frame, the contrast of the median over several frames.

    Args:
        prior: depth prior of single frames.
        frames: index and image [height, width, 3] uint8 of frames of a fixed camera.
        focal_px: their focal length.
    """

    def __init__(self, prior: DepthPrior, frames: Iterable[tuple[int, np.ndarray]], focal_px: float) -> None:
        self._prior, self.name = prior, prior.name
        self._median = np.median([_centred(prior(rgb, index, focal_px).depth) for index, rgb in frames], axis=0)

    def __call__(self, rgb: np.ndarray, index: int, focal_px: float | None = None) -> PriorDepth:
        """See `DepthPrior`."""
        found = self._prior(rgb, index, focal_px)
        log_depth = _centred(found.depth)
        log_depth = _robust_slope(log_depth, self._median) * log_depth
        apart = self._median - log_depth
        limit = 3 * float(np.median(np.abs(apart)))
        sigma = SMOOTH * max(apart.shape)
        log_depth = log_depth + cv2.GaussianBlur(np.clip(apart, -limit, limit), (0, 0), sigma)
        return replace(found, kind="depth", values=np.where(found.values > 0, np.exp(log_depth), 0).astype(np.float32))


def _centred(depth: np.ndarray) -> np.ndarray:
    """Log depth minus its median."""
    log_depth = np.log(depth)
    return log_depth - np.median(log_depth)


def _robust_slope(values: np.ndarray, target: np.ndarray) -> float:
    """Slope of `target` over `values`, with an offset; re-weighted least squares, as objects move."""
    weight = np.ones_like(values)
    slope = 1.0
    for _ in range(FIT_ROUNDS):
        x, y = (each - (weight * each).sum() / weight.sum() for each in (values, target))
        slope = float((weight * x * y).sum() / max((weight * x * x).sum(), 1e-9))
        residual = np.abs(y - slope * x)
        weight = 1 / (1 + (residual / max(2 * float(np.median(residual)), 1e-3)) ** 2)
    return float(np.clip(slope, 1 / MAX_CHANGE, MAX_CHANGE))
