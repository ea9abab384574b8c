"""Validation metrics of monocular depth and focal length."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from st4rtrack.losses.monocular import (
    MonocularTruth,
    masked_median,
)
from st4rtrack.types import MonocularDepth

FACTOR = 1.25
TOLERANCE = 0.25
"""Relative error of inverse depth at which the Cauchy weight of a pixel is one half in the fit of scale and shift."""


@dataclass(frozen=True)
class MonocularScore:
    """Monocular validation metrics; NaN without data of that kind."""

    picture_loss: float  # scale- and shift-invariant loss against the teacher on held-out images
    # abs_rel, share: AbsRel and share of pixels within 1.25, on rendered frames after scale and shift per frame in inverse depth
    abs_rel: float
    share: float
    scaled_share: float  # share of pixels within 1.25 after scale only
    focal_error: float  # median |log-focal error|
    error_ratio: float  # mean |log-depth error| over the mean predicted error; 1 is calibrated

    def __str__(self) -> str:
        return (
            f"pictures {self.picture_loss:.3f}; rendered, scale and shift: AbsRel {self.abs_rel:.3f}, {100 * self.share:.1f} %, "
            f"scale alone: {100 * self.scaled_share:.1f} %; focal {self.focal_error:.3f}, error ratio {self.error_ratio:.2f}"
        )

    @property
    def overall(self) -> float:
        """Model selection score: share of rendered pixels within 1.25 minus the image loss, whichever are finite."""
        known = [value for value in (self.share, -self.picture_loss) if np.isfinite(value)]
        return float(np.sum(known)) if known else float("-inf")


def predict_depth(network: nn.Module, images: Tensor, precision: str) -> MonocularDepth:
    """Predict depth of images [batch, 3, height, width], with matrix products in `precision`."""
    with torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        return network(images)


def frame_metrics(prediction: MonocularDepth, truth: MonocularTruth) -> tuple[float, ...]:
    """Compute the metrics of one frame [1, height, width] with ground truth up to scale.

    Returns:
        AbsRel and share within 1.25 after scale and shift in inverse depth; that share after one scale; |log-focal error|;
        mean |log-depth error| after one scale; mean predicted error.
    """
    near = truth.valid & (truth.inverse_depth > 0)
    target = truth.inverse_depth[near].double()
    predicted = torch.exp(-prediction.log_depth)[near].double()
    scale, shift = fit_inverse_depth(predicted, target)
    ratio = (scale * predicted + shift).clamp(min=1e-6) / target
    log_error = prediction.log_depth + torch.where(near, truth.inverse_depth, 1.0).log()
    log_error = (log_error - masked_median(log_error, near)[:, None, None])[near].abs()
    focal = (prediction.log_focal - truth.log_focal).abs()
    return (
        float((1 / ratio - 1).abs().clamp(max=10).mean()),
        float((torch.maximum(ratio, 1 / ratio) < FACTOR).double().mean()),
        float((log_error < np.log(FACTOR)).double().mean()),
        float(focal),
        float(log_error.mean()),
        float(prediction.log_error.exp()[near].mean()),
    )


def fit_inverse_depth(predicted: Tensor, target: Tensor, rounds: int = 10) -> tuple[Tensor, Tensor]:
    """Robustly fit scale and shift of inverse depths [pixels] to a target, minimising the relative error.

    Iteratively reweighted least squares with Cauchy weights, initialised from median and median absolute deviation.
    """
    (low, spread), (target_low, target_spread) = _location_and_spread(predicted), _location_and_spread(target)
    scale = target_spread / spread
    shift = target_low - scale * low
    design = torch.stack([predicted, torch.ones_like(predicted)], dim=1)
    for _ in range(rounds):
        relative = (scale * predicted + shift - target) / target
        weighted = design * (1 / (target.square() * (1 + (relative / TOLERANCE).square())))[:, None]
        scale, shift = torch.linalg.lstsq(weighted.T @ design, weighted.T @ target).solution.unbind()
    return scale, shift


def _location_and_spread(values: Tensor) -> tuple[Tensor, Tensor]:
    median = values.median()
    return median, (values - median).abs().median().clamp(min=1e-9)
