"""Supervised pointmap error (paper section 3.2; DUSt3R's confidence-weighted regression).

Symbols: e Euclidean error of a pixel in normalised units, c its confidence, alpha the price of being unsure.
Maps are torch tensors [batch, height, width, 3]; truth carries `valid` masks.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from st4rtrack.types import Pointmap, TwoPointmaps


@dataclass
class LossParts:
    """A loss and what it is made of: `total` (differentiable), mean errors of either branch in normalised units (detached)."""

    total: Tensor
    tracking_error: Tensor
    reconstruction_error: Tensor


def joint_scale(maps: TwoPointmaps, valid: TwoPointmaps) -> Tensor:
    """Mean distance from the origin over the valid pixels of both maps of a pair, [batch] (DUSt3R's `avg_dis`)."""
    total, count = 0.0, 0.0
    for points, mask in ((maps.tracking, valid.tracking.valid), (maps.reconstruction, valid.reconstruction.valid)):
        if mask is None:
            raise ValueError("a regression needs the truth's valid mask")
        total = total + (points.points_world.norm(dim=-1) * mask).flatten(1).sum(1)
        count = count + mask.flatten(1).sum(1)
    return (total / torch.as_tensor(count).clamp(min=1)).clamp(min=1e-8)


def confidence_weighted(error: Tensor, confidence: Tensor, mask: Tensor, *, alpha: float, weight: Tensor | None = None) -> Tensor:
    """Mean over masked pixels of c * e - alpha * log c, each pixel counted `weight` times."""
    terms = confidence * error - alpha * confidence.log()
    weights = mask.to(error.dtype) if weight is None else mask * weight
    return (terms * weights).sum() / weights.sum().clamp(min=1)


def scale_invariant_regression(prediction: TwoPointmaps, truth: TwoPointmaps, *, alpha: float = 0.2) -> LossParts:
    """DUSt3R's loss: prediction and truth each divided by their joint scale, confidence-weighted, both branches added.

    Source: DUSt3R Eq. 3-4, which the paper trains with; masks as intended there.
    """
    predicted_scale, true_scale = joint_scale(prediction, truth), joint_scale(truth, truth)
    return _regression(prediction, truth, predicted_scale, true_scale, alpha=alpha)


def anchored_regression(
    prediction: TwoPointmaps,
    truth: TwoPointmaps,
    unit: Tensor,
    *,
    alpha: float = 0.2,
    moving: Tensor | None = None,
    moving_weight: float = 3.0,
) -> LossParts:
    """Regression in units of the anchor's own mean distance, so that all pairs of one anchor must agree on their scale.

    Errors are divided by the square root of the true distance (half-way to relative), and moving pixels of the tracking branch
    count `moving_weight` times: what moves is little and is the point.

    Args:
        prediction, truth: pointmaps; truth in its own units.
        unit: [batch] length of one network unit in the truth's units.
        alpha: price of being unsure.
        moving: [batch, height, width] bool, of the anchor's pixels.
        moving_weight: see above.
    """
    weight = None if moving is None else 1 + (moving_weight - 1) * moving.float()
    return _regression(prediction, truth, torch.ones_like(unit), unit, alpha=alpha, tracking_weight=weight, half_relative=True)


def _regression(
    prediction: TwoPointmaps,
    truth: TwoPointmaps,
    predicted_unit: Tensor,
    true_unit: Tensor,
    *,
    alpha: float,
    tracking_weight: Tensor | None = None,
    half_relative: bool = False,
) -> LossParts:
    losses, errors = [], []
    for predicted, true, weight in (
        (prediction.tracking, truth.tracking, tracking_weight),
        (prediction.reconstruction, truth.reconstruction, None),
    ):
        if predicted.confidence is None or true.valid is None:
            raise ValueError("a regression needs predicted confidence and the truth's valid mask")
        error = _distance(predicted, predicted_unit, true, true_unit, half_relative=half_relative)
        losses.append(confidence_weighted(error, predicted.confidence, true.valid, alpha=alpha, weight=weight))
        errors.append((error.detach() * true.valid).sum() / true.valid.sum().clamp(min=1))
    return LossParts(losses[0] + losses[1], errors[0], errors[1])


def _distance(predicted: Pointmap, predicted_unit: Tensor, true: Pointmap, true_unit: Tensor, *, half_relative: bool) -> Tensor:
    target = true.points_world / true_unit[:, None, None, None]
    error = (predicted.points_world / predicted_unit[:, None, None, None] - target).norm(dim=-1)
    return error / target.norm(dim=-1).clamp(min=0.1).sqrt() if half_relative else error
