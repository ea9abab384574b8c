"""Adaptation terms as relative errors (of image size, depth or distance), averaged without squaring.

For a network that starts from classical base geometry. Initially tracks are tens of pixels off and depth a few percent: squared
as in Eq. 5-10, track errors outweigh depth errors ten thousand times, far pixels dominate Eq. 9 and distort near geometry, and
one drifted track weighs as much as a hundred good ones. Here an error of 1 % counts the same in each term. Symbols and means as
in `reprojection.py`; the scale of Eq. 6 is a median, which is robust to outliers and carries no gradient.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from st4rtrack.losses.regression import keep, length
from st4rtrack.losses.reprojection import CENTRAL, mean_of_frames

LOST = 2.0
"""Maximum track error, in half image diagonals."""


@dataclass
class KnownDepth:
    """Predicted and teacher depth of pixels or points; F frames, or 1 where all frames share one scale."""

    depth: Tensor  # [F, ...] predicted, differentiable
    teacher: Tensor  # [F, ...] depth of the teacher; in units of the prediction for "relative", at any scale for the other forms
    valid: Tensor  # [F, ...] bool, where the teacher's depth is known, > 0

    def as_one_frame(self) -> "KnownDepth":
        """Merge all frames into one [1, ...] with a single scale."""
        return KnownDepth(*(each.flatten()[None] for each in (self.depth, self.teacher, self.valid)))

    def log_ratio(self) -> tuple[Tensor, Tensor]:
        """Log z / t [F, ...] and its mask, without predictions behind or in the camera, where 1 / z is not finite."""
        counts = self.valid & (self.depth > torch.finfo(torch.float32).tiny)
        return keep(self.depth, counts, 1.0).log() - keep(self.teacher, counts, 1.0).log(), counts


def relative_trajectory_loss(projected_px: Tensor, tracks_px: Tensor, visible: Tensor, centre_px: Tensor) -> Tensor:
    """Compute L = mean over visible points of |p^ - g| / |c|: `trajectory_loss` with a median s and errors clamped at `LOST`."""
    predicted, wanted = (keep(each - centre_px, visible) for each in (projected_px, tracks_px))
    half_diagonal = length(centre_px.to(wanted))
    lengths = length(wanted)
    ratio = lengths / length(predicted).detach().clamp(min=CENTRAL * half_diagonal / 2)
    outer = lengths >= CENTRAL * half_diagonal
    scale = torch.where(outer, ratio, torch.nan).nanmedian(dim=1).values.nan_to_num(1.0)
    far = length(predicted * scale[:, None, None] - wanted) / half_diagonal
    return mean_of_frames(far.clamp(max=LOST), visible)


def relative_depth_loss(pixels: KnownDepth, tracks: KnownDepth | None = None) -> Tensor:
    """Compute L = mean of |log z / t| over valid pixels of the reconstruction, plus the same mean over visible tracks.

    t is in units of the prediction (`adapt/prepare.py`): with a scale estimated in each step, as in Eq. 8, a network whose
    cameras do not come from its depth lets all depth shrink.
    """
    return sum((_mean_log_ratio(each) for each in (pixels, tracks) if each is not None), start=pixels.depth.new_zeros(()))


def _mean_log_ratio(known: KnownDepth) -> Tensor:
    ratio, counts = (each.flatten(1) for each in known.log_ratio())
    return mean_of_frames(ratio.abs(), counts)


def relative_agreement_loss(tracking_points: Tensor, reconstruction_points: Tensor, both_visible: Tensor) -> Tensor:
    """Compute L = mean of |X - X'| / |X'| over points visible in both frames, the relative form of `agreement_loss`."""
    tracking, reconstruction = keep(tracking_points, both_visible), keep(reconstruction_points, both_visible)
    return mean_of_frames(_share(tracking - reconstruction, reconstruction), both_visible)


@dataclass
class PoseTerm:
    """Poses `camera_from_world` [F, 4, 4] of the same frames, of the network (differentiable) and of a teacher in any unit."""

    now: Tensor
    teacher: Tensor


def pose_loss(poses: PoseTerm) -> Tensor:
    """Compute L = mean of |R - R'| + |s c - c'| / mean |c'|: rotation matrices and camera centres, one scale s for all frames.

    |R - R'| is the Frobenius norm over the square root of 2, for small angles the angle in radians.
    """
    rotation, teacher_rotation = poses.now[:, :3, :3], poses.teacher[:, :3, :3]
    centre, teacher_centre = (-(each[:, :3, :3].transpose(1, 2) @ each[:, :3, 3:])[..., 0] for each in (poses.now, poses.teacher))
    turned = length((rotation - teacher_rotation).flatten(1)) / 2**0.5
    size = length(teacher_centre).mean().clamp(min=1e-9)
    scale = (centre.detach() * teacher_centre).sum() / centre.detach().square().sum().clamp(min=1e-12)
    return (turned + length(scale * centre - teacher_centre) / size).mean() if len(centre) else centre.sum()


@dataclass
class RetentionTerm:
    """Inputs of the retention term, for geometry that no teacher measures: S frames, any pixels; F frames, N points."""

    now: Tensor  # [S, ..., 3] current reconstruction, differentiable
    before: Tensor  # [S, ..., 3] reconstruction of the base model, NaN where it may change
    # depth of tracks, with the depth of the static point in place of a teacher's; `None`: not constrained
    tracks: KnownDepth | None = None


def retention_loss(held: RetentionTerm) -> Tensor:
    """Retention term L = mean of |X' - X'0| / |X'0| over retained pixels, plus mean of |log z / z0| over retained tracks.

    A 2D track does not constrain motion along the ray; the depth of a static point is the best estimate (docs/adaptation.md).
    """
    counts = held.before.isfinite().all(dim=-1)
    before, now = keep(held.before.to(held.now), counts), keep(held.now, counts)
    kept = mean_of_frames(_share(now - before, before).flatten(1), counts.flatten(1))
    return kept if held.tracks is None else kept + _mean_log_ratio(held.tracks)


def _share(difference: Tensor, points: Tensor) -> Tensor:
    """Length of a difference [..., 3] over the detached distance of a point [..., 3] from the anchor camera."""
    return length(difference) / length(points.detach()).clamp(min=1e-6)
