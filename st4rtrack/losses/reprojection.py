"""Self-supervised adaptation terms (paper section 3.3, Eq. 5-10): reprojection, depth and agreement against teachers.

Symbols: F frames, N points, p projected point and g its teacher track (both in pixels of the network image), c the image centre,
z depth; a hat marks the prediction after scaling.

Choices of normalisation where the paper leaves them open:

- Each term is the mean over the valid points (or pixels) of a frame, then the mean over the frames that have any: one with few
  visible points weighs as much as any other. Eq. 10 is printed as a sum; it is a mean here too, otherwise its weight would depend
  on the number of tracks. A frame without valid points contributes value 0, gradient 0, and is not counted.
- Valid are points that the teacher marks visible (Eq. 7, 10) and pixels with teacher depth (Eq. 9).
- Squared distances are in pixels of the network image (Eq. 7), world units (Eq. 10) and mean teacher depths of the frame (Eq. 9):
  a teacher in millimetres needs the same weight as one in metres.
- Both scales apply to the prediction, one per frame, and carry gradients. That of Eq. 6 excludes points near the centre, where
  the ratio of distances is uninformative and unbounded.

Every function computes in float32 or more. Values at invalid points, even NaN, change neither the result nor its gradient.
The functions `released_...` reproduce the released scripts instead; their docstrings state the differences.
"""

import torch
from torch import Tensor

from st4rtrack.losses.regression import keep, length, power_of_two, weighted_mean

CENTRAL = 0.05
"""Radius around the image centre, in half image diagonals, within which tracks are excluded from the scale of a frame."""

SMALLEST = 1e-30
"""Magnitude below which values count as 0 in a scale: the gradient of a scale grows with its reciprocal and must stay finite."""


def trajectory_loss(projected_px: Tensor, tracks_px: Tensor, visible: Tensor, centre_px: Tensor) -> Tensor:
    """Compute L = mean over visible points of |p^ - g|^2, p^ = (p - c) s + c, s = mean of |g - c| / |p - c| per frame.

    Invariant to a scaling of p about c, which a wrong focal length causes.

    Args:
        projected_px: [F, N, 2] p, differentiable.
        tracks_px: [F, N, 2] g.
        visible: [F, N] bool.
        centre_px: [2] c, half of the image size.
    Returns:
        A scalar in square pixels.
    Source: paper Eq. 5-7. Denominators are at least half of the radius within which points are excluded from s; s is 1 if all
        points are excluded.
    """
    predicted, wanted = (keep(each - centre_px, visible) for each in (projected_px, tracks_px))
    radius = CENTRAL * length(centre_px.to(wanted))
    wanted_length = length(wanted)
    outer = wanted_length >= radius
    size = _size(predicted)[:, None]
    predicted = predicted / size[..., None]
    ratio = wanted_length / length(predicted).maximum(radius / 2 / size)
    scale = torch.where(outer.any(dim=1), (ratio * outer).sum(1) / outer.sum(1).clamp(min=1), size[:, 0])
    return mean_of_frames((predicted * scale[:, None, None] - wanted).square().sum(-1), visible)


def depth_loss(depth: Tensor, teacher_depth: Tensor, valid: Tensor) -> Tensor:
    """Compute L = mean over valid pixels of (a z - t)^2, a = sum z t / sum z^2, t teacher depth over its mean, per frame.

    Invariant to the scale of the predicted and of the teacher depth of a frame.

    Args:
        depth: [F, ...] z, pixels or points, differentiable.
        teacher_depth: [F, ...].
        valid: [F, ...] bool, where the teacher's depth is known, > 0.
    Returns:
        A scalar, in squares of the teacher's mean depth.
    Source: paper Eq. 8 and 9.
    """
    predicted, wanted, counts = (each.flatten(1) for each in (keep(depth, valid), keep(teacher_depth, valid), valid))
    mean = wanted.sum(1) / counts.sum(1).clamp(min=1)
    wanted = wanted / torch.where(mean > 0, mean, 1.0)[:, None]
    return mean_of_frames((_scaled_to(predicted, wanted) - wanted).square(), counts)


def agreement_loss(tracking_points: Tensor, reconstruction_points: Tensor, both_visible: Tensor) -> Tensor:
    """Compute L = mean of |X - X'|^2, the agreement of both branches over points visible in the anchor and the frame.

    Args:
        tracking_points: [F, N, 3] X, of the tracking branch at the queries in the anchor.
        reconstruction_points: [F, N, 3] X', of the reconstruction branch at the teacher's 2D positions in the frame
            (`geometry.sampling.sample_frames`).
        both_visible: [F, N] bool.
    Returns:
        A scalar in square world units.
    Source: paper Eq. 10.
    """
    difference = keep(tracking_points, both_visible) - keep(reconstruction_points, both_visible)
    return mean_of_frames(difference.square().sum(-1), both_visible)


def released_trajectory_loss(projected_px: Tensor, tracks_px: Tensor, visible: Tensor, centre_px: Tensor) -> Tensor:
    """`trajectory_loss` as released: root mean square of coordinates (not of distances), in pixels.

    One scale for all frames, over all points including occluded ones (`visible` is ignored); denominators + 1e-6 pixels."""
    everywhere = torch.ones_like(visible)
    predicted, wanted = (keep(each - centre_px, everywhere) for each in (projected_px, tracks_px))
    count = max(1, visible.numel())
    scale = (length(wanted) / (length(predicted) + 1e-6)).sum() / count
    return length((predicted * scale - wanted).flatten()) / (2 * count) ** 0.5


def released_depth_loss(depth: Tensor, teacher_depth: Tensor, valid: Tensor) -> Tensor:
    """`depth_loss` as released: sum over frames of the per-frame means, in squared units of the teacher."""
    predicted, wanted, counts = (each.flatten(1) for each in (keep(depth, valid), keep(teacher_depth, valid), valid))
    square = (_scaled_to(predicted, wanted, 1e-8) - wanted).square()
    return ((square * counts).sum(1) / counts.sum(1).clamp(min=1)).sum()


def released_agreement_loss(tracking_points: Tensor, reconstruction_points: Tensor, both_visible: Tensor) -> Tensor:
    """`agreement_loss` as released: mean distance, not squared, over the points of all frames together, in world units."""
    distance = length(keep(tracking_points, both_visible) - keep(reconstruction_points, both_visible))
    return weighted_mean(distance, both_visible.to(distance.dtype))


def mean_of_frames(values: Tensor, counts: Tensor) -> Tensor:
    """Mean of per-frame means over valid entries, skipping frames without any; values and mask `counts` [F, N]."""
    return weighted_mean(values, counts.to(values.dtype), over="pairs")


def _scaled_to(predicted: Tensor, wanted: Tensor, least: float = 0.0) -> Tensor:
    """Predictions [F, N] scaled per frame by least squares to the target `wanted`; 0 for all-zero predictions."""
    predicted = keep(predicted, predicted.abs() >= SMALLEST)
    size = _size(predicted)
    predicted = predicted / size[:, None]
    square = predicted.square().sum(1) + least / size / size
    scale = (predicted * wanted).sum(1) / torch.where(square > 0, square, 1.0)
    return predicted * scale[:, None]


def _size(values: Tensor) -> Tensor:
    """Power of two [F] above all values of each frame [F, ...], without gradient.

    After division by it, squares and the gradients of their quotients neither overflow nor underflow."""
    return power_of_two(torch.nn.functional.pad(values.detach().abs().flatten(1), (0, 1)).amax(1))
