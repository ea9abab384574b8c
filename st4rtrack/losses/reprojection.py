"""Terms by which a video without labels is adapted to (paper section 3.3, Eq. 5-10): its own projection, compared with what teachers say.

Symbols: F frames, N points, p projected point and g the teacher's track of it (both pixels of the network's image), c the centre of the
image, z depth, a hat over what the prediction becomes after it is scaled.

Which means were chosen, where the paper leaves it open:

- Each term is the mean over the points (or pixels) of a frame that count, then the mean over the frames in which any does: a frame in
  which few points are visible weighs as much as any other. Eq. 10 is printed as a sum; it is a mean here too, or its weight would depend
  on how many points are followed. A frame with nothing to say has the value 0, gradient 0, and is not counted.
- What counts: points that the teacher says are visible (Eq. 7, 10), pixels with a depth of the teacher (Eq. 9).
- Squares are of distances, in pixels of the network's image (Eq. 7), world units (Eq. 10) and mean depths of the teacher in the frame
  (Eq. 9): a teacher in millimetres asks for no other weight than one in metres.
- Both scales are the prediction's, one per frame, and carry gradients. That of Eq. 6 leaves out what lies near the centre, where a ratio of
  distances says nothing and has no bound.

Every function computes in float32 or more, and what is at points that do not count, be it NaN, changes neither value nor gradient.
The functions `released_...` repeat the released scripts instead; their docstrings say in what they differ.
"""

import torch
from torch import Tensor

from st4rtrack.losses.regression import keep, length, power_of_two, weighted_mean

CENTRAL = 0.05
"""Of half the diagonal of the image: tracks nearer to its centre do not take part in the scale of a frame."""

SMALLEST = 1e-30
"""What is smaller counts as 0 where a scale is found: the gradient of a scale grows as its reciprocal, and must be a number."""


def trajectory_loss(projected_px: Tensor, tracks_px: Tensor, visible: Tensor, centre_px: Tensor) -> Tensor:
    """L = mean over visible points of |p^ - g|^2, p^ = (p - c) s + c, s = mean of |g - c| / |p - c| per frame.

    Scaling p about c, as a wrong focal length does, changes nothing.

    Args:
        projected_px: [F, N, 2] p, differentiable.
        tracks_px: [F, N, 2] g.
        visible: [F, N] bool.
        centre_px: [2] c, half of the size of the image.
    Returns:
        A single number in square pixels.
    Source: paper Eq. 5-7. A denominator is at least half of the radius within which points do not take part in s; without any further
        out s is 1.
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
    """L = mean over valid pixels of (a z - t)^2, a = sum z t / sum z^2 per frame; t the teacher's depth over its mean in the frame.

    Scaling the depth of a frame, predicted or the teacher's, changes nothing.

    Args:
        depth: [F, ...] z, pixels or points, differentiable.
        teacher_depth: [F, ...].
        valid: [F, ...] bool, where the teacher knows it, > 0.
    Returns:
        A single number, in squares of the teacher's mean depth.
    Source: paper Eq. 8 and 9.
    """
    predicted, wanted, counts = (each.flatten(1) for each in (keep(depth, valid), keep(teacher_depth, valid), valid))
    mean = wanted.sum(1) / counts.sum(1).clamp(min=1)
    wanted = wanted / torch.where(mean > 0, mean, 1.0)[:, None]
    return mean_of_frames((_scaled_to(predicted, wanted) - wanted).square(), counts)


def agreement_loss(tracking_points: Tensor, reconstruction_points: Tensor, both_visible: Tensor) -> Tensor:
    """L = mean over points visible in the anchor and the frame of |X - X'|^2: both branches say where the same content is.

    Args:
        tracking_points: [F, N, 3] X, of the tracking branch at the queries in the anchor.
        reconstruction_points: [F, N, 3] X', of the reconstruction branch where the teacher sees them in the frame
            (`geometry.sampling.sample_frames`).
        both_visible: [F, N] bool.
    Returns:
        A single number in square world units.
    Source: paper Eq. 10.
    """
    difference = keep(tracking_points, both_visible) - keep(reconstruction_points, both_visible)
    return mean_of_frames(difference.square().sum(-1), both_visible)


def released_trajectory_loss(projected_px: Tensor, tracks_px: Tensor, visible: Tensor, centre_px: Tensor) -> Tensor:
    """`trajectory_loss` as released: the root of the mean square of coordinates (not of distances), one scale for all frames, over all
    points, the hidden ones too; 1e-6 pixels are added to denominators. In pixels. `visible` is not looked at.
    """
    everywhere = torch.ones_like(visible)
    predicted, wanted = (keep(each - centre_px, everywhere) for each in (projected_px, tracks_px))
    count = max(1, visible.numel())
    scale = (length(wanted) / (length(predicted) + 1e-6)).sum() / count
    return length((predicted * scale - wanted).flatten()) / (2 * count) ** 0.5


def released_depth_loss(depth: Tensor, teacher_depth: Tensor, valid: Tensor) -> Tensor:
    """`depth_loss` as released: the sum over frames of their means, in the squared unit of the teacher."""
    predicted, wanted, counts = (each.flatten(1) for each in (keep(depth, valid), keep(teacher_depth, valid), valid))
    square = (_scaled_to(predicted, wanted, 1e-8) - wanted).square()
    return ((square * counts).sum(1) / counts.sum(1).clamp(min=1)).sum()


def released_agreement_loss(tracking_points: Tensor, reconstruction_points: Tensor, both_visible: Tensor) -> Tensor:
    """`agreement_loss` as released: the mean distance, not squared, over the points of all frames together. In world units."""
    distance = length(keep(tracking_points, both_visible) - keep(reconstruction_points, both_visible))
    return weighted_mean(distance, both_visible.to(distance.dtype))


def mean_of_frames(values: Tensor, counts: Tensor) -> Tensor:
    """Mean over the frames in which anything counts of the mean over what does; values and counts [F, N]."""
    return weighted_mean(values, counts.to(values.dtype), over="pairs")


def _scaled_to(predicted: Tensor, wanted: Tensor, least: float = 0.0) -> Tensor:
    """Predictions [F, N] at the scale per frame that brings them nearest to what is wanted, which is 0 for predictions that are all 0."""
    predicted = keep(predicted, predicted.abs() >= SMALLEST)
    size = _size(predicted)
    predicted = predicted / size[:, None]
    square = predicted.square().sum(1) + least / size / size
    scale = (predicted * wanted).sum(1) / torch.where(square > 0, square, 1.0)
    return predicted * scale[:, None]


def _size(values: Tensor) -> Tensor:
    """[F] power of two above all of each frame [F, ...], without gradient: squares of what is divided by it do not leave the range of
    numbers, nor do the gradients of a quotient of them."""
    return power_of_two(torch.nn.functional.pad(values.detach().abs().flatten(1), (0, 1)).amax(1))
