"""Monocular depth losses for ground truth up to scale and shift (from a teacher) or up to scale (rendered, multi-view).

Source: Ranftl et al., "Towards robust monocular depth estimation", 2020 (scale- and shift-invariant loss in inverse depth,
multi-scale gradient term).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from st4rtrack.types import MonocularDepth

SCALES = 4
MAX_RESIDUAL = 4.0
"""Clamp of residuals in units of the mean absolute deviation, so that outliers of the ground truth do not dominate a step."""
MIN_SPREAD = 0.05
"""Minimum mean absolute deviation, relative to the median: training starts near constant depth, where gradients would explode."""


@dataclass
class MonocularTruth:
    """Ground truth of a batch of images."""

    inverse_depth: Tensor  # [batch, height, width], 0 at infinity, NaN where unknown
    scaled: Tensor  # [batch] bool, True: known up to scale; False: up to scale and shift
    log_focal: Tensor  # [batch] logarithm of the focal length over the long side, NaN where unknown
    subject: Tensor  # [batch, height, width] bool, dynamic objects, people and animals, whose pixels have a larger weight

    @property
    def valid(self) -> Tensor:
        """Pixels with ground truth, [batch, height, width] bool."""
        return self.inverse_depth.isfinite()


@dataclass(frozen=True)
class MonocularLossConfig:
    """Weights of the terms of `MonocularLoss`; `subject` is the weight of subject pixels within each term."""

    relative: float = 1.0
    gradient: float = 0.5
    log_depth: float = 1.0
    log_gradient: float = 1.0
    error: float = 0.05
    focal: float = 0.2
    subject: float = 3.0


@dataclass
class MonocularLoss:
    """Terms of the monocular loss; scalars, free of NaN even if a batch has no ground truth for a term."""

    total: Tensor  # weighted sum
    relative: Tensor  # mean absolute residual of normalised inverse depth, invariant to scale and shift
    gradient: Tensor  # gradient of that residual over four scales; weighted by how much the depth improves on a constant
    log_depth: Tensor  # mean |log-depth residual| after subtracting its median, on `scaled` images
    log_gradient: Tensor  # gradient of the log-depth residual over four scales, weighted as `gradient`
    error: Tensor  # negative log-likelihood of the log-depth residuals under the predicted error (Laplace)
    focal: Tensor  # negative log-likelihood of the log focal length (Laplace), plus its absolute error


def monocular_loss(prediction: MonocularDepth, truth: MonocularTruth, config: MonocularLossConfig) -> MonocularLoss:
    """Compute the monocular loss of a batch; `total` is differentiable."""
    valid = truth.valid
    target = torch.where(valid, truth.inverse_depth, 0.0)
    residual = relative_residual(torch.exp(-prediction.log_depth), target, valid)
    near = valid & (target > 0) & truth.scaled[:, None, None]
    log_residual = prediction.log_depth + torch.where(near, target, 1.0).log()
    log_residual = log_residual - masked_median(log_residual.detach(), near)[:, None, None]
    bounded = log_residual.clamp(-2, 2)
    pixels = 1 + (config.subject - 1) * truth.subject.float()
    weight = (near * pixels).sum().clamp(min=1)
    magnitude = log_residual.detach().abs()
    likelihood = magnitude * torch.exp(-prediction.log_error) + prediction.log_error
    relative = _mean_per_picture(residual.abs(), valid * pixels)
    # constant depth has a relative error of 1: near it, the gradient terms would only flatten the depth and training collapses
    shaped = (2 * (1 - relative.detach())).clamp(0, 1)
    terms = {
        "relative": relative,
        "gradient": shaped * gradient_term(residual, valid),
        "log_depth": (bounded.abs() * near * pixels).sum() / weight * truth.scaled.float().mean(),
        "log_gradient": shaped * gradient_term(bounded, near),
        "error": (likelihood * near * pixels).sum() / weight,
        "focal": _focal_term(prediction, truth.log_focal),
    }
    total = sum((getattr(config, name) * value for name, value in terms.items()), start=target.new_zeros(()))
    return MonocularLoss(total=total, **terms)


def relative_residual(predicted: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Residual [batch, height, width] of two inverse depths, each normalised by median and mean absolute deviation."""
    return (_normalised(predicted, valid) - _normalised(target, valid)).clamp(-MAX_RESIDUAL, MAX_RESIDUAL)


def gradient_term(residual: Tensor, valid: Tensor) -> Tensor:
    """Sum over strides 1, 2, 4, 8 and both axes of the mean |gradient| of a residual [batch, height, width]."""
    total = residual.new_zeros(())
    for scale in range(SCALES):
        step = 2**scale
        part, mask = residual[:, ::step, ::step], valid[:, ::step, ::step]
        for axis in (1, 2):
            length = part.shape[axis] - 1
            if length < 1:
                continue
            difference = (part.narrow(axis, 1, length) - part.narrow(axis, 0, length)).abs()
            both = mask.narrow(axis, 1, length) & mask.narrow(axis, 0, length)
            total = total + _mean_per_picture(difference, both)
    return total


def masked_median(values: Tensor, mask: Tensor) -> Tensor:
    """Median [batch] of values [batch, height, width] within a mask, 0 for an empty mask."""
    return torch.where(mask, values, torch.nan).flatten(1).nanmedian(dim=1).values.nan_to_num(0.0)


def _normalised(values: Tensor, valid: Tensor) -> Tensor:
    median = masked_median(values, valid)
    centred = values - median[:, None, None]
    count = valid.sum((1, 2)).clamp(min=1)
    deviation = (centred.abs() * valid).sum((1, 2)) / count
    least = MIN_SPREAD * median.detach().abs() + 1e-6
    return torch.where(valid, centred / torch.maximum(deviation, least)[:, None, None], 0.0)


def _mean_per_picture(values: Tensor, mask: Tensor) -> Tensor:
    """Mean over the batch of the mean over pixels, weighted by a mask or by weights [batch, height, width]."""
    means = (values * mask).sum((1, 2)) / mask.sum((1, 2)).clamp(min=1)
    return means.mean()


def _focal_term(prediction: MonocularDepth, log_focal: Tensor) -> Tensor:
    known = log_focal.isfinite()
    error = (prediction.log_focal - torch.where(known, log_focal, 0.0)).abs()
    likelihood = error.detach() * torch.exp(-prediction.log_focal_error) + prediction.log_focal_error
    return ((error + 0.1 * likelihood) * known).sum() / known.sum().clamp(min=1)
