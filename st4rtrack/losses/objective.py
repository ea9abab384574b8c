"""Training loss of the network, configured by `LossConfig`: confidence-weighted regression of normalised pointmaps.

Tracking may be supervised sparsely (mesh vertices) or densely: the ground-truth mask marks the labelled pixels, over which every
mean is taken.
"""

from dataclasses import dataclass
from typing import Literal, get_args, get_type_hints

import torch
from torch import Tensor

from st4rtrack.losses.regression import (
    LossParts,
    at_least_float32,
    confidence_weighted,
    euclidean_error,
    half_relative_error,
    joint_scale,
    keep,
    labelled,
    length,
    weighted_mean,
)
from st4rtrack.losses.reweighting import moving_by_clip, moving_by_pair, reweighted_confidence
from st4rtrack.types import Pointmap, TwoPointmaps, UserError


@dataclass
class Supervision:
    """Ground truth of a batch of pairs, on the network's device."""

    truth: TwoPointmaps  # pointmaps in metres, points [batch, height, width, 3] with `valid` [batch, height, width]
    anchor_points: Tensor  # [batch, height, width, 3] metres, anchor content at the anchor time; valid where tracking is valid
    moving: Tensor | None = None  # [batch, height, width] bool, dynamic pixels of the anchor, or None if unknown
    frames_per_clip: int = 1  # the batch is clips x frames, frames of a clip in order; 1 for independent pairs
    unit: Tensor | None = None  # [batch] metres, length of one network unit, or None
    # [batch] bool, pairs labelled on the foreground only (Kubric), or None if there are none
    foreground_only: Tensor | None = None


@dataclass(frozen=True)
class LossConfig:
    """Configuration of the training loss; the defaults follow the paper."""

    # scale by which points are divided before comparison. "joint": prediction and ground truth each by their mean distance over
    # both maps of the pair (DUSt3R), which makes the loss scale-invariant; "anchored": the ground truth by `Supervision.unit`, so
    # that all pairs of one anchor must agree on their scale.
    normalization: Literal["joint", "anchored"] = "joint"
    # "euclidean", or "half_relative" (divided by the square root of the true distance)
    error: Literal["euclidean", "half_relative"] = "euclidean"
    alpha: float = 0.2  # weight of the log-confidence regulariser (DUSt3R Eq. 4).
    # re-weighting of dynamic pixels of the tracking branch by the clip or the pair rule, see `reweighting.py`
    reweighting: Literal["none", "clip", "pair"] = "none"
    reweight_scale: float = 5.0  # confidence of dynamic pixels as a multiple of the largest confidence of static ones
    moving_weight: float = 1.0  # loss weight of dynamic pixels (`Supervision.moving`) of the tracking branch
    motion_weight: float = 0.0  # weight of the displacement error of dynamic pixels
    # weight of the regression of the anchor points, from which the tracking of a network with hints starts
    anchor_weight: float = 0.0

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self)).items():
            value, choices = getattr(self, name), get_args(kind)
            if choices and value not in choices:
                raise UserError(f"{name} of the loss must be one of {', '.join(choices)}, got {value}")
            if not choices and not 0 <= value < float("inf"):
                raise UserError(f"{name} of the loss must be finite and not negative, got {value}")


PUBLISHED: dict[str, LossConfig] = {
    "paper": LossConfig(),
    "seq-reweight": LossConfig(reweighting="clip"),
    "pair-reweight": LossConfig(reweighting="pair"),
    "tiny": LossConfig(normalization="anchored", error="half_relative", moving_weight=4.0, motion_weight=1.0, anchor_weight=1.0),
}
"""Preset training losses.

"paper" and the two "reweight": as the paper and the release describe them, with masks and scale as intended. "tiny": that of the
small pair network.
"""


def objective(
    prediction: TwoPointmaps, supervision: Supervision, config: LossConfig, *, predicted_anchor: Pointmap | None = None
) -> LossParts:
    """Compute L = tracking + reconstruction + motion_weight * motion + anchor_weight * anchor.

    All terms except motion are a confidence-weighted regression (`confidence_weighted`) of normalised points.

    Args:
        prediction: points [batch, height, width, 3] and confidence [batch, height, width] of both branches.
        supervision: ground truth of the same pixels.
        config: normalisation, error and weights.
        predicted_anchor: prediction of the anchor content at the anchor time, same shape and units as `prediction`; only for
            the motion and anchor terms.
    Returns:
        `LossParts`; `total` is differentiable, 0 with gradient 0 if no pixel is labelled.
    Raises:
        UserError: the configuration needs dynamic masks and the data has none.
    """
    truth = supervision.truth
    scales = units(prediction, supervision, config)
    tracking, true_tracking = _normalised(prediction.tracking, truth.tracking, scales)
    reconstruction, true_reconstruction = _normalised(prediction.reconstruction, truth.reconstruction, scales)
    tracking.confidence = _reweighted(tracking, supervision, config)
    weight = None if config.moving_weight == 1 else 1 + (config.moving_weight - 1) * _moving(supervision).to(scales[1].dtype)
    total, tracking_error = _branch(tracking, true_tracking, config, weight)
    reconstruction_loss, reconstruction_error = _branch(reconstruction, true_reconstruction, config, None)
    parts = LossParts(total + reconstruction_loss, tracking_error, reconstruction_error)
    if not (config.motion_weight or config.anchor_weight):
        return parts
    if predicted_anchor is None:
        raise ValueError("the motion and anchor terms need predicted_anchor, the prediction at the anchor time")
    if config.motion_weight:
        loss = _motion(prediction.tracking, predicted_anchor.points_world, supervision, *scales)
        parts.total, parts.motion_error = parts.total + config.motion_weight * loss, loss.detach()
    if config.anchor_weight:
        true_anchor = Pointmap(supervision.anchor_points, valid=truth.tracking.valid)
        loss, _ = _branch(*_normalised(predicted_anchor, true_anchor, scales), config, weight)
        parts.total = parts.total + config.anchor_weight * loss
    return parts


def _normalised(predicted: Pointmap, true: Pointmap, scales: tuple[Tensor, Tensor]) -> tuple[Pointmap, Pointmap]:
    """Prediction and ground truth of a branch, without unlabelled pixels, divided by their scales."""
    maps = labelled(predicted, true)
    for pointmap, scale in zip(maps, scales):
        pointmap.points_world = pointmap.points_world / scale[:, None, None, None]
    return maps


def units(prediction: TwoPointmaps, supervision: Supervision, config: LossConfig) -> tuple[Tensor, Tensor]:
    """Normalisation scales of prediction and ground truth, [batch] each; see `LossConfig.normalization`."""
    truth = supervision.truth
    if config.normalization == "joint":
        return joint_scale(prediction, truth), joint_scale(truth, truth)
    if supervision.unit is None:
        raise ValueError("anchored normalization needs Supervision.unit, the length of a network unit")
    unit = at_least_float32(supervision.unit)
    return torch.ones_like(unit), unit


def _branch(predicted: Pointmap, true: Pointmap, config: LossConfig, weight: Tensor | None) -> tuple[Tensor, Tensor]:
    """Loss and detached mean error of one branch, in normalised units."""
    assert predicted.confidence is not None and true.valid is not None
    measure = half_relative_error if config.error == "half_relative" else euclidean_error
    error = measure(predicted.points_world, true.points_world)
    loss = confidence_weighted(error, predicted.confidence, true.valid, alpha=config.alpha, weight=weight)
    return loss, weighted_mean(error.detach(), true.valid.to(error.dtype))


def _motion(
    predicted: Pointmap, anchor_points: Tensor, supervision: Supervision, predicted_unit: Tensor, true_unit: Tensor
) -> Tensor:
    true = supervision.truth.tracking
    motion = at_least_float32(predicted.points_world) - at_least_float32(anchor_points)
    true_motion = at_least_float32(true.points_world) - at_least_float32(supervision.anchor_points)
    assert true.valid is not None
    mask = true.valid & _moving(supervision)
    return motion_error(keep(motion, mask) / predicted_unit[:, None, None, None], true_motion, mask, true_unit)


def motion_error(prediction_motion: Tensor, true_motion: Tensor, mask: Tensor, scale: Tensor) -> Tensor:
    """Compute L = mean over the mask of |d' - d / s|, the displacement error from the anchor time to the frame time.

    A pointmap can be close to the ground truth and yet static; here errors of the anchor geometry cancel.

    Args:
        prediction_motion: [batch, height, width, 3] d', predicted tracking points minus predicted anchor points.
        true_motion: [batch, height, width, 3] d, the same difference of the ground truth.
        mask: [batch, height, width] bool, labelled dynamic pixels; may be empty (then L = 0).
        scale: [batch] s, length of one prediction unit in ground-truth units.
    """
    difference = keep(prediction_motion, mask) - keep(true_motion, mask) / scale[:, None, None, None]
    error = length(difference)
    return weighted_mean(error, mask.to(error.dtype))


def _moving(supervision: Supervision) -> Tensor:
    if supervision.moving is None:
        raise UserError(
            "moving_weight and motion_weight need masks of dynamic pixels, which the data does not have; use another loss"
        )
    return supervision.moving


def _reweighted(tracking: Pointmap, supervision: Supervision, config: LossConfig) -> Tensor:
    """Confidence of the tracking branch after re-weighting."""
    confidence, true = tracking.confidence, supervision.truth.tracking
    assert confidence is not None and true.valid is not None
    if config.reweighting == "none":
        return confidence
    if config.reweighting == "pair":
        kind = supervision.foreground_only
        moving = moving_by_pair(true.points_world, supervision.anchor_points, true.valid, at_median=kind)
        group = torch.zeros_like(true.valid[:, 0, 0]).long() if kind is None else kind.long()
    else:
        frames = supervision.frames_per_clip
        moving = moving_by_clip(true.points_world, true.valid, frames=frames)
        group = torch.arange(len(confidence), device=confidence.device) // frames
    return reweighted_confidence(confidence, true.valid, moving, group, scale=config.reweight_scale)
