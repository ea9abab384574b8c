"""The terms of adaptation as shares: of the image, of depth, of distance; means of lengths, not of squares.

For a network whose geometry starts from a skeleton of classical geometry. At its start tracks are tens of pixels off and depth a few
percent: in the squares of Eq. 5-10 the former outweigh the latter ten thousand times, far pixels rule Eq. 9 and pull what is near, and
one drifted track weighs as much as a hundred good ones. Here an error of 1 % counts the same in each term. Symbols and means as in
`reprojection.py`; the scale of Eq. 6 is a median, which what is wrong by much does not move, and carries no gradient.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from st4rtrack.losses.regression import keep, length
from st4rtrack.losses.reprojection import CENTRAL, mean_of_frames

LOST = 2.0
"""Of half the diagonal of the image: how far off a track can count."""


@dataclass
class KnownDepth:
    """Depth of pixels or points, and what a teacher says of it; F frames, or 1 where all frames share one scale.

    Attributes:
        depth: [F, ...] predicted, differentiable.
        teacher: [F, ...]; "relative" takes it in the units of the prediction, the others at any scale.
        valid: [F, ...] bool, where the teacher knows it, > 0.
    """

    depth: Tensor
    teacher: Tensor
    valid: Tensor

    def as_one_frame(self) -> "KnownDepth":
        """All frames as one [1, ...], which has one scale."""
        return KnownDepth(*(each.flatten()[None] for each in (self.depth, self.teacher, self.valid)))

    def log_ratio(self) -> tuple[Tensor, Tensor]:
        """log z / t [F, ...], and where it counts [F, ...] bool: what the prediction has behind the camera does not, nor in it, where
        the gradient 1 / z is not a number."""
        counts = self.valid & (self.depth > torch.finfo(torch.float32).tiny)
        return keep(self.depth, counts, 1.0).log() - keep(self.teacher, counts, 1.0).log(), counts


def relative_trajectory_loss(projected_px: Tensor, tracks_px: Tensor, visible: Tensor, centre_px: Tensor) -> Tensor:
    """L = mean over visible points of |p^ - g| / |c|, as `trajectory_loss` but for the median s; a track further off than `LOST` is lost.

    Returns:
        A single number, a share of half the image's diagonal.
    """
    predicted, wanted = (keep(each - centre_px, visible) for each in (projected_px, tracks_px))
    half_diagonal = length(centre_px.to(wanted))
    lengths = length(wanted)
    ratio = lengths / length(predicted).detach().clamp(min=CENTRAL * half_diagonal / 2)
    outer = lengths >= CENTRAL * half_diagonal
    scale = torch.where(outer, ratio, torch.nan).nanmedian(dim=1).values.nan_to_num(1.0)
    far = length(predicted * scale[:, None, None] - wanted) / half_diagonal
    return mean_of_frames(far.clamp(max=LOST), visible)


def relative_depth_loss(pixels: KnownDepth, tracks: KnownDepth | None = None) -> Tensor:
    """L = mean over valid pixels of |log z / t|, of the reconstruction; and the same mean over tracks.

    t is in units of the prediction (`adapt/prepare.py`): with a scale that is found anew in each step, as in Eq. 8, a network whose cameras
    do not come from its depth lets all depth shrink. Eq. 9 looks at the reconstruction alone; a teacher of depth knows that of the
    tracks it sees as well.
    """
    return sum((_mean_log_ratio(each) for each in (pixels, tracks) if each is not None), start=pixels.depth.new_zeros(()))


def _mean_log_ratio(known: KnownDepth) -> Tensor:
    ratio, counts = (each.flatten(1) for each in known.log_ratio())
    return mean_of_frames(ratio.abs(), counts)


def relative_agreement_loss(tracking_points: Tensor, reconstruction_points: Tensor, both_visible: Tensor) -> Tensor:
    """L = mean over points visible in both of |X - X'| / |X'|, as `agreement_loss`."""
    tracking, reconstruction = keep(tracking_points, both_visible), keep(reconstruction_points, both_visible)
    return mean_of_frames(_share(tracking - reconstruction, reconstruction), both_visible)


@dataclass
class Held:
    """What no teacher measures: S frames, any pixels; F frames, N points.

    Attributes:
        now: [S, ..., 3] reconstruction, differentiable.
        before: [S, ..., 3] what the base made of it, NaN where it may change.
        tracks: depth of tracks, and in place of a teacher's that which they would have if they stood still; `None`: they are free.
    """

    now: Tensor
    before: Tensor
    tracks: KnownDepth | None = None


def held_loss(held: Held) -> Tensor:
    """L = mean over pixels that are held of |X' - X'0| / |X'0|, plus the mean over tracks that are of |log z / z0|.

    A track in an image says nothing of motion along the ray. The depth of a point that stands still is the best guess that was found: in
    the benchmark's sequences never further from the truth than a constant depth or one from how much things grow, often half as
    far (docs/adaptation.md).
    """
    counts = held.before.isfinite().all(dim=-1)
    before, now = keep(held.before.to(held.now), counts), keep(held.now, counts)
    kept = mean_of_frames(_share(now - before, before).flatten(1), counts.flatten(1))
    return kept if held.tracks is None else kept + _mean_log_ratio(held.tracks)


def _share(difference: Tensor, points: Tensor) -> Tensor:
    """Length of a difference [..., 3] relative to the distance of a point [..., 3] from the anchor's camera, which has no gradient."""
    return length(difference) / length(points.detach()).clamp(min=1e-6)
