"""Sampling of the video, frames and tracks of a step: a function of seed and step, so that a resumed adaptation is identical."""

from dataclasses import dataclass

import numpy as np

from st4rtrack.adapt.config import AdaptConfig


@dataclass(frozen=True)
class Batch:
    """Video, frames and tracks of one optimiser step.

    Attributes:
        video: index of the video.
        frames: [F] frame indices, the anchor first, then increasing.
        points: [P] indices into the training tracks; dynamic tracks may be repeated.
    """

    video: int
    frames: np.ndarray
    points: np.ndarray


def batch(step: int, lengths: list[int], moving: list[np.ndarray], frames: list[int], config: AdaptConfig) -> Batch:
    """Sample the batch of a step. Every video is used once before any is used again.

    Args:
        lengths: number of frames of each video.
        moving: [tracks] bool of each video, dynamic training tracks.
        frames: frames per step of each video.
    """
    video, rng = turn_of(step, len(lengths), config.seed)
    points = _points(moving[video], config, rng)
    return Batch(video, clip_frames(lengths[video], frames[video], config.largest_stride, rng), points)


def turn_of(step: int, count: int, seed: int) -> tuple[int, np.random.Generator]:
    """Video of a step among `count`, each used once per turn, and the random numbers of the step."""
    turn, place = divmod(step, count)
    return int(np.random.default_rng([seed, 2, turn]).permutation(count)[place]), np.random.default_rng([seed, 3, step])


def _points(moving: np.ndarray, config: AdaptConfig, rng: np.random.Generator) -> np.ndarray:
    """Random tracks; dynamic ones are repeated up to `moving_share` of all, if there are dynamic and static ones."""
    points = np.arange(len(moving))
    if len(points) > config.points_per_step:
        points = np.sort(rng.permutation(points)[: config.points_per_step])
    those, others = points[moving[points]], int((~moving[points]).sum())
    wanted = round(others * config.moving_share / (1 - config.moving_share))
    return np.concatenate([points, np.resize(those, wanted - len(those))]) if 0 < len(those) < wanted else points


def clip_frames(length: int, count: int, largest_stride: int, rng: np.random.Generator) -> np.ndarray:
    """Frame indices of the anchor and count - 1 other frames with random stride and start; all frames of a shorter video.

    The stride is limited to those that fit into the video; 1 always fits.
    """
    others = min(count, length) - 1
    stride = int(rng.integers(1, max(1, min(largest_stride, (length - 1) // others)) + 1))
    start = int(rng.integers(1, length - (others - 1) * stride))
    return np.concatenate([[0], start + stride * np.arange(others)])
