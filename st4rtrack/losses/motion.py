"""Errors of movement rather than of place: from frame to frame (velocity), and from the anchor's time to the frame's (motion)."""

from torch import Tensor

from st4rtrack.losses.regression import by_clip, keep, length, weighted_mean


def velocity_error(predicted: Tensor, true: Tensor, valid: Tensor, *, frames: int) -> tuple[Tensor, Tensor]:
    """v_t = |(x_t - x_(t-1)) - (y_t - y_(t-1))| for every frame of a clip but its first.

    A pixel counts where it is labelled in both frames; for vertices, whose mask is that of the anchor at all times, this is the
    published mask. An offset that does not change with time is no error.

    Args:
        predicted, true: [clips * frames, height, width, 3] tracking points in normalised units.
        valid: [clips * frames, height, width] bool, of the truth.
        frames: of each clip, in order.
    Returns:
        Error and mask, [clips * (frames - 1), height, width] each; 0 outside the mask.
    Raises:
        ValueError: the batch is not so many frames a clip.
    Source:
        The release's velocity term (`velo_loss`), which is not in the paper.
    """
    difference, valid = by_clip(keep(predicted, valid) - keep(true, valid), frames), by_clip(valid, frames)
    both = (valid[:, 1:] & valid[:, :-1]).flatten(0, 1)
    change = (difference[:, 1:] - difference[:, :-1]).flatten(0, 1)
    return length(keep(change, both)), both


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
