"""Building blocks of the supervised pointmap loss (paper section 3.2; confidence-weighted regression, DUSt3R Eq. 3 and 4).

Symbols: x predicted and y true point of a pixel, e their distance in normalised units, c confidence, alpha the weight of the
log-confidence regulariser, M the labelled pixels. Maps are torch tensors [batch, height, width(, 3)]. Every function computes in
float32 or more. Values outside the mask, even NaN, change neither the result nor its gradient.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from st4rtrack.types import Pointmap, TwoPointmaps

SMALLEST_SCALE = 1e-8
"""Minimum scale, as published."""

NEAREST = 0.1
"""Minimum true distance in the denominator of the half-relative error, in normalised units."""


@dataclass
class LossParts:
    """Training loss and its mean errors, which are detached, in the units and with the error measure of the configuration."""

    total: Tensor  # loss, differentiable
    # tracking_error, reconstruction_error: mean over the labelled pixels of that branch
    tracking_error: Tensor
    reconstruction_error: Tensor
    motion_error: Tensor | None = None  # mean displacement error of dynamic pixels; None if the configuration does not use it


def at_least_float32(values: Tensor) -> Tensor:
    """Convert float16 and bfloat16 to float32; leave other types unchanged."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def keep(values: Tensor, mask: Tensor, otherwise: float = 0.0) -> Tensor:
    """Replace values [..., 3] or [...] outside a mask [...] by a constant without gradient; float32 or more."""
    wide = mask[..., None] if values.ndim > mask.ndim else mask
    return torch.where(wide, at_least_float32(values), otherwise)


def length(vectors: Tensor) -> Tensor:
    """Euclidean length |v| over the last axis; gradient v / |v|, and 0 at 0.

    Vectors are first divided by a power of two, so that squares neither overflow nor underflow; this loses no precision.
    """
    if not vectors.numel():
        return vectors.sum(-1)
    size = power_of_two(vectors.detach().abs().amax(-1, keepdim=True))
    return (vectors / size).norm(dim=-1) * size[..., 0]


def power_of_two(size: Tensor) -> Tensor:
    """Power of two above each size [...] >= 0, for division without rounding; its reciprocal is finite too."""
    return torch.ldexp(torch.ones_like(size), torch.frexp(size).exponent.clamp(-125, 126))


def labelled(predicted: Pointmap, true: Pointmap) -> tuple[Pointmap, Pointmap]:
    """Mask prediction and ground truth of a branch: points 0 and confidence 1 at unlabelled pixels."""
    if predicted.confidence is None or true.valid is None:
        raise ValueError("a regression needs predicted confidence and a ground-truth valid mask")
    mask = true.valid
    kept = Pointmap(keep(predicted.points_world, mask), keep(predicted.confidence, mask, 1.0))
    return kept, Pointmap(keep(true.points_world, mask), valid=mask)


def joint_scale(maps: TwoPointmaps, valid: TwoPointmaps) -> Tensor:
    """Mean distance from the origin over the labelled pixels of both maps of a pair: [batch] s = sum_M |x| / |M|, differentiable.

    Args:
        maps: pointmaps to measure, prediction or ground truth.
        valid: ground truth with the masks of labelled pixels.
    Source:
        DUSt3R section 3.1 ("avg_dis").
    """
    sums, counts = [], []
    for points, mask in (
        (maps.tracking.points_world, valid.tracking.valid),
        (maps.reconstruction.points_world, valid.reconstruction.valid),
    ):
        if mask is None:
            raise ValueError("a regression needs a ground-truth valid mask")
        sums.append(length(keep(points, mask)).flatten(1).sum(1))
        counts.append(mask.flatten(1).sum(1))
    total, count = sums[0] + sums[1], counts[0] + counts[1]
    return (total / count.clamp(min=1)).clamp(min=SMALLEST_SCALE)


def by_clip(values: Tensor, frames: int) -> Tensor:
    """Reshape [batch, ...] to [clips, frames, ...]."""
    if frames < 1 or len(values) % frames:
        raise ValueError(f"a batch of {len(values)} pairs does not split into clips of {frames} frames")
    return values.unflatten(0, (-1, frames))


def euclidean_error(predicted: Tensor, true: Tensor) -> Tensor:
    """e = |x - y| of normalised points [..., 3] -> [...] (DUSt3R Eq. 3)."""
    return length(predicted - true)


def half_relative_error(predicted: Tensor, true: Tensor) -> Tensor:
    """e = |x - y| / sqrt(max(|y|, 0.1)) of normalised points [..., 3] -> [...]: half-way between absolute and relative."""
    return length(predicted - true) / length(true).clamp(min=NEAREST).sqrt()


def weighted_mean(values: Tensor, weights: Tensor, *, over: Literal["pixels", "pairs"] = "pixels") -> Tensor:
    """Weighted mean of finite values, with weights >= 0, both [batch, height, width]; 0 if all weights are 0.

    Args:
        over: "pixels", one mean over the whole batch, as published; "pairs", the mean of the means of the labelled pairs, so that
            in a mixed batch a pair with a few hundred labelled vertices counts as much as a densely labelled one.
    """
    total, weight = (values * weights).flatten(1).sum(1), weights.flatten(1).sum(1)
    if over == "pixels":
        total, weight = total.sum(0, keepdim=True), weight.sum(0, keepdim=True)
    present = weight > 0
    return (total / torch.where(present, weight, 1.0)).sum() / present.sum().clamp(min=1)


def confidence_weighted(error: Tensor, confidence: Tensor, mask: Tensor, *, alpha: float, weight: Tensor | None = None) -> Tensor:
    """Compute L = mean over M of c e - alpha log c (DUSt3R Eq. 4); the optimal confidence is max(1, alpha / e).

    Args:
        error: [batch, height, width] in normalised units.
        confidence: [batch, height, width], > 0.
        mask: [batch, height, width] bool, M; may be sparse or empty (then L = 0).
        alpha: weight of the log-confidence regulariser.
        weight: [batch, height, width] loss weight of each pixel, default 1.
    """
    error, confidence = keep(error, mask), keep(confidence, mask, 1.0)
    weights = mask.to(error.dtype) if weight is None else keep(weight, mask).to(error.dtype)
    return weighted_mean(confidence * error - alpha * confidence.log(), weights)
