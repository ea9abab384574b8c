"""What a network is trained on, chosen by a `LossConfig`: normalise, compare, weigh by confidence, add up.

`objective` is the one function that the trainer calls; the pieces are in `regression.py` and `reweighting.py`.
Tracking may be supervised sparsely (vertices of a mesh) or densely: what is labelled is the truth's mask, and every mean is over
labelled pixels.
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
    """Truth of a batch of pairs, on the network's device.

    Attributes:
        truth: metres, points [batch, height, width, 3] with `valid` [batch, height, width].
        anchor_points: [batch, height, width, 3] metres, content of the anchor at the anchor's time; known where the tracking is.
        moving: [batch, height, width] bool, of the anchor's pixels, or None where nobody knows.
        frames_per_clip: the batch is clips x frames, frames of one clip in order; 1 for pairs that are no clip.
        unit: [batch] metres, length of one network unit, or None.
        foreground_only: [batch] bool, pairs labelled on what moves alone (Kubric), or None if there are none.
    """

    truth: TwoPointmaps
    anchor_points: Tensor
    moving: Tensor | None = None
    frames_per_clip: int = 1
    unit: Tensor | None = None
    foreground_only: Tensor | None = None


@dataclass(frozen=True)
class LossConfig:
    """Everything about the objective that can be chosen; the defaults are what the paper says it trains with.

    Attributes:
        normalization: what points are divided by before they are compared. "joint": prediction and truth each by their mean
            distance over both maps of the pair (DUSt3R), so a global scale does not matter; "anchored": the truth by
            `Supervision.unit`, so that all pairs of one anchor must agree on their scale.
        error: "euclidean", or "half_relative" (divided by the square root of the true distance).
        alpha: price of being unsure.
        reweighting: of moving pixels of the tracking branch, see `reweighting.py`: by the rule for clips or the rule for pairs.
        reweight_scale: moving pixels get so many times the largest confidence of static ones.
        moving_weight: how often each moving pixel of the tracking branch is counted (`Supervision.moving`).
        motion_weight: of the error of the displacement of moving pixels.
        anchor_weight: of the regression of the anchor's own points, from which the tracking of a network with hints starts.
    """

    normalization: Literal["joint", "anchored"] = "joint"
    error: Literal["euclidean", "half_relative"] = "euclidean"
    alpha: float = 0.2
    reweighting: Literal["none", "clip", "pair"] = "none"
    reweight_scale: float = 5.0
    moving_weight: float = 1.0
    motion_weight: float = 0.0
    anchor_weight: float = 0.0

    def __post_init__(self) -> None:
        for name, kind in get_type_hints(type(self)).items():
            value, choices = getattr(self, name), get_args(kind)
            if choices and value not in choices:
                raise UserError(f"{name} of the loss is one of {', '.join(choices)}, not {value}")
            if not choices and not 0 <= value < float("inf"):
                raise UserError(f"{name} of the loss is a finite number that is not negative, not {value}")


PUBLISHED: dict[str, LossConfig] = {
    "paper": LossConfig(),
    "seq-reweight": LossConfig(reweighting="clip"),
    "pair-reweight": LossConfig(reweighting="pair"),
    "tiny": LossConfig(normalization="anchored", error="half_relative", moving_weight=4.0, motion_weight=1.0, anchor_weight=1.0),
}
"""Objectives with a name.

"paper" and the two "reweight": as the paper and the release describe them, with masks and scale as intended. "tiny": the
embedded model's.
"""


def objective(
    prediction: TwoPointmaps, supervision: Supervision, config: LossConfig, *, predicted_anchor: Pointmap | None = None
) -> LossParts:
    """L = tracking + reconstruction + motion_weight * motion + anchor_weight * anchor.

    Each but motion is a confidence-weighted regression (`confidence_weighted`) of normalised points. Unlabelled pixels never matter.

    Args:
        prediction: points [batch, height, width, 3] and confidence [batch, height, width] of both branches.
        supervision: truth of the same pixels.
        config: what is compared, and how.
        predicted_anchor: the prediction for the anchor's content at the anchor's time, shaped and in units as `prediction`; only for
            the motion and anchor terms.
    Returns:
        `LossParts`; `total` is differentiable, 0 with gradient 0 where nothing is labelled.
    Raises:
        ValueError: confidence, a mask, the unit or `predicted_anchor` is missing, or the batch is not whole clips.
        UserError: the configuration asks what moves and the data does not say.
    """
    truth = supervision.truth
    tracking, true_tracking = labelled(prediction.tracking, truth.tracking)
    reconstruction, true_reconstruction = labelled(prediction.reconstruction, truth.reconstruction)
    predicted_unit, true_unit = units(prediction, supervision, config)
    for pointmap in (tracking, reconstruction):
        pointmap.points_world = pointmap.points_world / predicted_unit[:, None, None, None]
    for pointmap in (true_tracking, true_reconstruction):
        pointmap.points_world = pointmap.points_world / true_unit[:, None, None, None]
    tracking.confidence = _reweighted(tracking, supervision, config)
    weight = None if config.moving_weight == 1 else 1 + (config.moving_weight - 1) * _moving(supervision).to(true_unit.dtype)
    total, tracking_error = _branch(tracking, true_tracking, config, weight)
    reconstruction_loss, reconstruction_error = _branch(reconstruction, true_reconstruction, config, None)
    parts = LossParts(total + reconstruction_loss, tracking_error, reconstruction_error)
    if config.motion_weight:
        anchor = _required(predicted_anchor, "motion")
        loss = _motion(prediction.tracking, anchor.points_world, supervision, predicted_unit, true_unit)
        parts.total, parts.motion_error = parts.total + config.motion_weight * loss, loss.detach()
    if config.anchor_weight:
        anchor = _required(predicted_anchor, "anchor")
        own, true_own = labelled(anchor, Pointmap(supervision.anchor_points, valid=truth.tracking.valid))
        own.points_world = own.points_world / predicted_unit[:, None, None, None]
        true_own.points_world = true_own.points_world / true_unit[:, None, None, None]
        loss, _ = _branch(own, true_own, config, weight)
        parts.total = parts.total + config.anchor_weight * loss
    return parts


def _required(predicted_anchor: Pointmap | None, term: str) -> Pointmap:
    if predicted_anchor is None:
        raise ValueError(f"the {term} term needs the prediction for the anchor's own time, predicted_anchor")
    return predicted_anchor


def units(prediction: TwoPointmaps, supervision: Supervision, config: LossConfig) -> tuple[Tensor, Tensor]:
    """What prediction and truth are divided by, [batch] each; see `LossConfig.normalization`.

    Raises:
        ValueError: the anchored normalisation without a unit.
    """
    truth = supervision.truth
    if config.normalization == "joint":
        return joint_scale(prediction, truth), joint_scale(truth, truth)
    if supervision.unit is None:
        raise ValueError("the anchored normalisation needs the length of a network unit, Supervision.unit")
    unit = at_least_float32(supervision.unit)
    return torch.ones_like(unit), unit


def _branch(predicted: Pointmap, true: Pointmap, config: LossConfig, weight: Tensor | None) -> tuple[Tensor, Tensor]:
    """Loss of a branch in normalised units, and its mean error, detached."""
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
    """L = mean over the mask of |d' - d / s|: error of the displacement between the anchor's time and the frame's.

    A pointmap can be near the truth and yet stand still; this term sees only how far and where to its points move. An error
    of the anchor's own geometry cancels.

    Args:
        prediction_motion: [batch, height, width, 3] d', predicted tracking points minus predicted points of the anchor at its own
            time, in the prediction's units.
        true_motion: [batch, height, width, 3] d, the same of the truth.
        mask: [batch, height, width] bool, labelled pixels that move; may be empty (then L = 0).
        scale: [batch] s, length of one unit of the prediction in those of the truth.
    Returns:
        A single number, in the prediction's units.
    """
    difference = keep(prediction_motion, mask) - keep(true_motion, mask) / scale[:, None, None, None]
    error = length(difference)
    return weighted_mean(error, mask.to(error.dtype))


def _moving(supervision: Supervision) -> Tensor:
    if supervision.moving is None:
        raise UserError("this loss counts moving pixels (moving_weight, motion_weight) and the data does not say which move")
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
