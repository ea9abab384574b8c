"""Which video, frames and tracks a step looks at: a function of the seed and the step, so that an interrupted adaptation goes on alike."""

from dataclasses import dataclass

import numpy as np

from st4rtrack.adapt.config import AdaptConfig


@dataclass(frozen=True)
class Batch:
    """Of one step.

    Attributes:
        video: which of the videos.
        frames: [F] frame numbers, the anchor first, then increasing.
        points: [P] which of the tracks that may be learnt from; what moves may be among them more than once.
    """

    video: int
    frames: np.ndarray
    points: np.ndarray


def batch(step: int, lengths: list[int], moving: list[np.ndarray], frames: list[int], config: AdaptConfig) -> Batch:
    """The batch of a step. Each video is met once before any is met again.

    Args:
        lengths: frames of each video.
        moving: [tracks] bool of each video, of those that may be learnt from.
        frames: of each video per step.
    """
    turn, place = divmod(step, len(lengths))
    video = int(np.random.default_rng([config.seed, 2, turn]).permutation(len(lengths))[place])
    rng = np.random.default_rng([config.seed, 3, step])
    points = _points(moving[video], config, rng)
    return Batch(video, clip_frames(lengths[video], frames[video], config.largest_stride, rng), points)


def _points(moving: np.ndarray, config: AdaptConfig, rng: np.random.Generator) -> np.ndarray:
    """Tracks at random; those that move repeated until they are `moving_share` of all, where any do and any do not."""
    points = np.arange(len(moving))
    if len(points) > config.points_per_step:
        points = np.sort(rng.permutation(points)[: config.points_per_step])
    those, others = points[moving[points]], int((~moving[points]).sum())
    wanted = round(others * config.moving_share / (1 - config.moving_share))
    return np.concatenate([points, np.resize(those, wanted - len(those))]) if 0 < len(those) < wanted else points


def clip_frames(length: int, count: int, largest_stride: int, rng: np.random.Generator) -> np.ndarray:
    """The anchor and count - 1 other frames, a random stride apart from a random start; all frames where there are no more.

    The strides are those that fit: 1 always does.
    """
    others = min(count, length) - 1
    stride = int(rng.integers(1, max(1, min(largest_stride, (length - 1) // others)) + 1))
    start = int(rng.integers(1, length - (others - 1) * stride))
    return np.concatenate([[0], start + stride * np.arange(others)])
