"""Re-weighting of dynamic pixels with five times the largest static confidence (release, after the paper).

Most labelled pixels are static, and a network can ignore dynamic pixels by lowering their confidence, where a large error costs
little. So the confidence of dynamic pixels of the tracking branch is replaced by a constant that the network cannot lower.
Two rules detect dynamic pixels: from the ends of a clip, or from the displacement of each pair. Static data is unchanged.
"""

import torch
from torch import Tensor

from st4rtrack.losses.regression import by_clip, keep, length

STILL = 1e-3
"""Displacement over distance below which a difference is rounding, not motion. Our addition: the published pair rule (at or
above a quantile) marks a whole static scene as dynamic."""


@torch.no_grad()
def moving_by_clip(points: Tensor, valid: Tensor, *, frames: int) -> Tensor:
    """Dynamic pixels by the clip rule: |y_T - y_1|_1 / (|y_1| + 1e-8) above its mean over the labelled pixels of the clip.

    The release measures in the world frame of the data set; the anchor frame used here is independent of the data set's origin.

    Args:
        points: [clips * frames, height, width, 3] true tracking points.
        valid: [clips * frames, height, width] bool; only pixels labelled in the first and last frame are classified.
        frames: number of frames per clip, in order.
    Returns:
        Mask [clips * frames, height, width] bool, equal in all frames of a clip.
    """
    ends = by_clip(keep(points, valid), frames)
    first, last = ends[:, 0], ends[:, -1]
    judged = by_clip(valid, frames)[:, 0] & by_clip(valid, frames)[:, -1]
    score = torch.where(judged, (last - first).abs().sum(-1) / (length(first) + 1e-8), 0.0)
    mean = score.flatten(1).sum(1) / judged.flatten(1).sum(1).clamp(min=1)
    moving = judged & (score > mean[:, None, None]) & (score > STILL)
    return moving.repeat_interleave(frames, dim=0)


@torch.no_grad()
def moving_by_pair(points: Tensor, anchor_points: Tensor, valid: Tensor, *, at_median: Tensor | None = None) -> Tensor:
    """Dynamic pixels by the pair rule: squared displacement |y_j - y_i|^2 at or above a threshold.

    The threshold is max(mean, 0.75-quantile) over the labelled pixels of the whole batch. Pairs with `at_median` use the median
    of those pairs instead, because all labels of Kubric are on the foreground, much of which is dynamic.

    Args:
        points, anchor_points: [batch, height, width, 3] true tracking points, and the same content at the anchor time.
        valid: [batch, height, width] bool.
        at_median: [batch] bool, pairs of Kubric; default none.
    Returns:
        Mask [batch, height, width] bool.
    """
    start = keep(anchor_points, valid)
    square = (keep(points, valid) - start).square().sum(-1)
    moving = valid & (square > (STILL * length(start)).square())
    by_median = torch.zeros_like(valid[:, 0, 0]) if at_median is None else at_median
    for median in (False, True):
        kind = valid & (by_median == median)[:, None, None]
        if kind.any():
            moving &= ~kind | (square >= _threshold(square[kind], median=median))
    return moving


@torch.no_grad()
def static_reference(confidence: Tensor, static: Tensor, group: Tensor) -> Tensor:
    """Largest confidence [batch] of `static` labelled pixels per group [batch] of pairs, at least 1."""
    confidence, together = keep(confidence, static), group[:, None] == group
    return torch.where(together, confidence.flatten(1).amax(1), 0.0).amax(1).clamp(min=1)


def reweighted_confidence(confidence: Tensor, mask: Tensor, moving: Tensor, group: Tensor, *, scale: float = 5.0) -> Tensor:
    """Confidence c' for c' e - alpha log c': constant max(1, scale * reference) at dynamic pixels, c elsewhere.

    Args:
        confidence: [batch, height, width] of the tracking branch.
        mask, moving: [batch, height, width] bool, labelled and dynamic pixels.
        group: [batch] int64, pairs that share a reference (see `static_reference`).
        scale: 5 in the released "reweightMax5" weights.
    """
    constant = (scale * static_reference(confidence, mask & ~moving, group)).clamp(min=1)
    return torch.where(mask & moving, constant[:, None, None], keep(confidence, mask, 1.0))


def _threshold(square: Tensor, *, median: bool) -> Tensor:
    """Threshold of the pair rule from squared displacements [pixels]; sorted, because `torch.quantile` limits the input size."""
    ordered = square.sort().values
    if median:
        return ordered[(len(ordered) - 1) // 2]
    position = 0.75 * (len(ordered) - 1)
    low, high = ordered[int(position)], ordered[min(int(position) + 1, len(ordered) - 1)]
    return torch.maximum(ordered.mean(), low + (high - low) * (position - int(position)))
