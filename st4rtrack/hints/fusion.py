"""Fusion of the depth prior of a frame with its measured static depth.

The prior has the shape of every object, up to scale (and shift); the measurement is accurate to a few percent where it exists.
The result is the robustly aligned prior times a correction: the weighted mean of the ratios of measurement to prior, over few
pixels where these are accurate, over many where they are noisy or not available nearby. So it agrees with accurate measurements
and keeps the edges of the prior. Dynamic objects have the aligned prior without the correction, which belongs to the background.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from st4rtrack.hints.depth_prior import PriorDepth
from st4rtrack.types import DepthSource

MIN_MEASURED = 30
"""Minimum number of pixels with measured depth for an alignment; with fewer, that of the previous frame is used."""
FIT_POINTS = 4000
FIT_ROUNDS = 8
MIN_NOISE = 0.02
"""Minimum spread of the residuals (log depth): smaller values are not plausible."""
SHIFT_PRECISION = 0.02
"""Weight of the prior expectation that the shift of inverse depth is 0, in shares of all measurements: without it, a narrow range
of depths gives a negative scale."""
MAX_RANGE = 20.0
"""Maximum of an aligned prior depth, over the median of the measured depth."""
UNIT_ERROR, MIN_ERROR = 0.03, 0.001
"""Expected log error of a measurement of weight 1, and the smallest one."""
PIXEL_WEIGHT, SQUARE_WEIGHT = 0.3, 8.0
"""Weight of the surroundings in the correction of a pixel, and of a square of pixels: one wrong measurement changes little."""
CORRECTION_REACH = 0.3
"""Distance from measured pixels, in long sides of the image, over which the correction fades."""
CONTRADICTION, CONTRADICTION_SPREADS = np.log(1.5), 4.0
"""Log depth, and spreads of the log ratio of measurement to prior, beyond which the prior contradicts a far measurement."""
FAR = 2.0
"""Multiple of the median depth that such a measurement exceeds: nearer, it has parallax of its own, and the prior is wrong."""
PRIOR_DEPTH = 1.0


@dataclass(frozen=True)
class Alignment:
    """Alignment of a prior: z = scale * values, or 1 / z = scale * values + shift."""

    scale: float
    shift: float = 0.0

    def depth(self, prior: PriorDepth, farthest: float) -> np.ndarray:
        """z-depth [H, W], at most `farthest`, also where the prior is unknown."""
        if prior.kind == "depth":
            return np.where(prior.values > 0, np.minimum(self.scale * prior.values, farthest), farthest)
        return 1 / np.maximum(self.scale * prior.values + self.shift, 1 / farthest)


@dataclass(frozen=True)
class FusedDepth:
    """Dense depth of a frame, [H, W] each.

    Attributes:
        depth: z-depth float32.
        log_error: expected |log-depth error| float32.
        source: uint8 `DepthSource`.
    """

    depth: np.ndarray
    log_error: np.ndarray
    source: np.ndarray


def align(prior: PriorDepth, measured: np.ndarray, log_error: np.ndarray) -> Alignment | None:
    """Robustly align a prior to measured depth [H, W] (0 where unknown); `None` with too few measurements.

    Args:
        log_error: [H, W], expected log error of the measured depth.
    """
    both = (measured > 0) & (prior.values > 0)
    if both.sum() < MIN_MEASURED:
        return None
    chosen = np.flatnonzero(both)
    chosen = chosen[:: max(1, len(chosen) // FIT_POINTS)]
    values, depth = prior.values.ravel()[chosen].astype(np.float64), measured.ravel()[chosen].astype(np.float64)
    weight = 1 / np.maximum(log_error.ravel()[chosen].astype(np.float64), MIN_NOISE) ** 2
    if prior.kind == "depth":
        return Alignment(float(np.exp(weighted_median(np.log(depth / values), weight))))
    return _scale_and_shift(values, 1 / depth, weight)


def fuse(
    prior: PriorDepth, alignment: Alignment, measured: np.ndarray, log_error: np.ndarray, dynamic: np.ndarray | None = None
) -> FusedDepth:
    """Fuse the prior with the measured depth of a frame.

    Args:
        alignment: alignment of the prior to the unit of the measured depth.
        measured, log_error: [H, W]; depth 0 where unknown.
        dynamic: [H, W] bool, pixels whose measured depth is ignored.
    """
    known = measured > 0 if dynamic is None else (measured > 0) & ~dynamic
    farthest = MAX_RANGE * (float(np.median(measured[known])) if known.any() else PRIOR_DEPTH)
    depth = alignment.depth(prior, farthest)
    if known.any():
        correction = np.where(known, np.log(np.maximum(measured, 1e-6) / depth), 0.0).astype(np.float32)
        weight = np.where(known, (UNIT_ERROR / np.maximum(log_error, MIN_ERROR)) ** 2, 0.0).astype(np.float32)
        maps = torch.from_numpy(correction)[None], torch.from_numpy(weight)[None]
        smooth = fill_in(*maps, pixel_weight=PIXEL_WEIGHT, square_weight=SQUARE_WEIGHT)[0].numpy()
        distance = cv2.distanceTransform((~known).astype(np.uint8), cv2.DIST_L2, 3) / max(known.shape)
        strength = np.exp(-distance / CORRECTION_REACH)
        strength = strength if dynamic is None else np.where(dynamic, 0.0, strength)
        depth = depth * np.exp(smooth * strength)
    expected = np.where(known, log_error, prior.log_error).astype(np.float32)
    return FusedDepth(
        depth.astype(np.float32), expected, np.where(known, DepthSource.MEASURED, DepthSource.PRIOR).astype(np.uint8)
    )


def without_contradictions(prior: PriorDepth, alignment: Alignment, measured: np.ndarray) -> np.ndarray:
    """Measured depth [H, W], set to 0 where a reliable prior contradicts it.

    An object that moves along with the camera has the flow of a distant one; a prior that is accurate elsewhere contradicts it.
    """
    known = (measured > 0) & (prior.values > 0)
    if not known.any():
        return measured
    with np.errstate(divide="ignore"):
        farther = np.log(measured / alignment.depth(prior, np.inf))
    spread = 1.4826 * float(np.median(np.abs(farther[known] - np.median(farther[known]))))
    contradicts = (farther > max(CONTRADICTION, CONTRADICTION_SPREADS * spread)) & (measured > FAR * np.median(measured[known]))
    return np.where(known & contradicts, 0, measured).astype(np.float32)


def fill_in(values: Tensor, weight: Tensor, *, pixel_weight: float = 0.0, square_weight: float = 0.0) -> Tensor:
    """Fill in values [batch, height, width] of weight 0 smoothly from the others; 0 if all have weight 0.

    Every pixel, and every square of an image pyramid, has the weighted mean of its values and of the next larger square.

    Args:
        weight: [batch, height, width] >= 0, or a mask.
        pixel_weight, square_weight: weight of the next larger square for pixels and for squares; 0: it counts only where no
            value is known.
    """
    weight = weight.to(values.dtype)
    levels = [((values * weight)[:, None], weight[:, None])]
    while max(levels[-1][0].shape[2:]) > 1:
        total, share = levels[-1]
        levels.append((4 * _halved(total), 4 * _halved(share)))
    whole = torch.zeros_like(levels[-1][0])
    for level, (total, share) in reversed(list(enumerate(levels))):
        coarse = F.interpolate(whole, size=total.shape[2:], mode="bilinear", align_corners=False)
        coarse_weight = 0.0 if level == len(levels) - 1 else square_weight if level else pixel_weight
        mean = (total + coarse_weight * coarse) / (share + coarse_weight).clamp(min=1e-9)
        whole = torch.where(share + coarse_weight > 0, mean, coarse)
    return whole[:, 0]


def _halved(maps: Tensor) -> Tensor:
    """Mean over squares of 2 x 2 pixels; an odd last row or column is averaged alone."""
    return F.avg_pool2d(maps, 2, ceil_mode=True, count_include_pad=False)


def weighted_median(values: np.ndarray, weight: np.ndarray) -> float:
    """Median of values [n] with positive weights [n]."""
    order = np.argsort(values)
    total = np.cumsum(weight[order])
    return float(values[order][np.searchsorted(total, total[-1] / 2)])


def _scale_and_shift(values: np.ndarray, inverse: np.ndarray, weight: np.ndarray) -> Alignment:
    """Fit 1 / z = scale * values + shift by re-weighted least squares (Cauchy, relative residuals); the scale stays positive."""
    only_scale = Alignment(weighted_median(inverse / values, weight))
    scale, shift = only_scale.scale, 0.0
    terms = np.stack([values, np.ones_like(values)], axis=1)
    for _ in range(FIT_ROUNDS):
        residual = np.maximum(scale * values + shift, 1e-3 * float(np.median(inverse))) / inverse - 1
        noise = max(1.4826 * float(np.median(np.abs(residual))), MIN_NOISE)
        robust = weight / (1 + (residual / (2 * noise)) ** 2) / inverse**2
        normal = (terms * robust[:, None]).T @ terms
        normal[1, 1] += SHIFT_PRECISION * robust.sum()
        scale, shift = np.linalg.solve(normal, (terms * robust[:, None]).T @ inverse)
        if scale <= 0:
            return only_scale
    return Alignment(float(scale), float(shift))
