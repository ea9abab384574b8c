"""Supervised pointmap error, piece by piece (paper section 3.2; DUSt3R's confidence-weighted regression, its Eq. 3 and 4).

Symbols: x predicted and y true point of a pixel, e their distance in normalised units, c confidence, alpha the price of being
unsure, M the labelled pixels. Maps are torch tensors [batch, height, width(, 3)]. Every function computes in float32 or more, and
what is at pixels outside its mask, be it NaN, changes neither value nor gradient.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from st4rtrack.types import Pointmap, TwoPointmaps

SMALLEST_SCALE = 1e-8
"""What a scale is never below, as published."""

NEAREST = 0.1
"""True distance, in normalised units, below which the half-relative error is no further relaxed."""


@dataclass
class LossParts:
    """A loss and what it is made of; all but `total` are detached means in the units and the error of the configuration.

    Attributes:
        total: differentiable.
        tracking_error, reconstruction_error: over the labelled pixels of either branch.
        motion_error: of the displacement of moving pixels, where the configuration asks for it.
    """

    total: Tensor
    tracking_error: Tensor
    reconstruction_error: Tensor
    motion_error: Tensor | None = None


def at_least_float32(values: Tensor) -> Tensor:
    """Half precision raised to float32, anything else as it is."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def keep(values: Tensor, mask: Tensor, otherwise: float = 0.0) -> Tensor:
    """Values [..., 3] or [...] where the mask [...] is set, in float32 or more; elsewhere a constant, without gradient."""
    wide = mask[..., None] if values.ndim > mask.ndim else mask
    return torch.where(wide, at_least_float32(values), otherwise)


def length(vectors: Tensor) -> Tensor:
    """Euclidean length |v| over the last axis; gradient v / |v|, and 0 at 0.

    Each vector's power of two is taken out first, so that squares neither overflow nor vanish; it costs no digit.
    """
    if not vectors.numel():
        return vectors.sum(-1)
    size = power_of_two(vectors.detach().abs().amax(-1, keepdim=True))
    return (vectors / size).norm(dim=-1) * size[..., 0]


def power_of_two(size: Tensor) -> Tensor:
    """The power of two above each size [...] >= 0, to divide by without costing a digit; its reciprocal is a number too."""
    return torch.ldexp(torch.ones_like(size), torch.frexp(size).exponent.clamp(-125, 126))


def labelled(predicted: Pointmap, true: Pointmap) -> tuple[Pointmap, Pointmap]:
    """Prediction and truth of a branch with everything outside the truth's mask set aside: points 0, confidence 1.

    Raises:
        ValueError: the prediction has no confidence, or the truth no mask.
    """
    if predicted.confidence is None or true.valid is None:
        raise ValueError("a regression needs predicted confidence and the truth's valid mask")
    mask = true.valid
    kept = Pointmap(keep(predicted.points_world, mask), keep(predicted.confidence, mask, 1.0))
    return kept, Pointmap(keep(true.points_world, mask), valid=mask)


def joint_scale(maps: TwoPointmaps, valid: TwoPointmaps) -> Tensor:
    """Mean distance from the origin over the labelled pixels of both maps of a pair: s = sum_M |x| / |M|, differentiable.

    Args:
        maps: what is measured, prediction or truth.
        valid: truth, whose masks count.
    Returns:
        [batch], at least `SMALLEST_SCALE`.
    Raises:
        ValueError: a mask is missing.
    Source:
        DUSt3R section 3.1 ("avg_dis").
    """
    sums, counts = [], []
    for points, mask in (
        (maps.tracking.points_world, valid.tracking.valid),
        (maps.reconstruction.points_world, valid.reconstruction.valid),
    ):
        if mask is None:
            raise ValueError("a regression needs the truth's valid mask")
        sums.append(length(keep(points, mask)).flatten(1).sum(1))
        counts.append(mask.flatten(1).sum(1))
    total, count = sums[0] + sums[1], counts[0] + counts[1]
    return (total / count.clamp(min=1)).clamp(min=SMALLEST_SCALE)


def by_clip(values: Tensor, frames: int) -> Tensor:
    """[batch, ...] as [clips, frames, ...].

    Raises:
        ValueError: the batch is not so many frames a clip.
    """
    if frames < 1 or len(values) % frames:
        raise ValueError(f"a batch of {len(values)} pairs does not split into clips of {frames} frames")
    return values.unflatten(0, (-1, frames))


def euclidean_error(predicted: Tensor, true: Tensor) -> Tensor:
    """e = |x - y| of normalised points [..., 3] -> [...] (DUSt3R Eq. 3)."""
    return length(predicted - true)


def half_relative_error(predicted: Tensor, true: Tensor) -> Tensor:
    """e = |x - y| / sqrt(max(|y|, 0.1)) of normalised points [..., 3] -> [...]: half-way between absolute and relative.

    Far points are neither all of the loss, as with the distance alone, nor as loud as near ones, as with the relative distance.
    """
    return length(predicted - true) / length(true).clamp(min=NEAREST).sqrt()


def weighted_mean(values: Tensor, weights: Tensor, *, over: Literal["pixels", "pairs"] = "pixels") -> Tensor:
    """Mean of values under weights >= 0, both [batch, height, width]; 0 where all weights are 0.

    Args:
        values: finite also where the weight is 0.
        weights: 0 where there is no label.
        over: "pixels", one mean over the whole batch, as published; "pairs", the mean over pairs (those with any label) of the
            mean of each, so that in a mixed batch a pair with some hundred labelled vertices counts as much as one that is
            labelled densely.
    """
    total, weight = (values * weights).flatten(1).sum(1), weights.flatten(1).sum(1)
    if over == "pixels":
        total, weight = total.sum(0, keepdim=True), weight.sum(0, keepdim=True)
    present = weight > 0
    return (total / torch.where(present, weight, 1.0)).sum() / present.sum().clamp(min=1)


def confidence_weighted(
    error: Tensor,
    confidence: Tensor,
    mask: Tensor,
    *,
    alpha: float,
    weight: Tensor | None = None,
) -> Tensor:
    """L = mean over M of c e - alpha log c (DUSt3R Eq. 4); for an error e the best confidence is alpha / e, but no less than 1.

    Args:
        error: [batch, height, width] in normalised units.
        confidence: [batch, height, width], > 0.
        mask: [batch, height, width] bool, M; may be sparse or empty (then L = 0).
        alpha: price of being unsure.
        weight: [batch, height, width] how often each pixel is counted, default once.
    """
    error, confidence = keep(error, mask), keep(confidence, mask, 1.0)
    weights = mask.to(error.dtype) if weight is None else keep(weight, mask).to(error.dtype)
    return weighted_mean(confidence * error - alpha * confidence.log(), weights)
