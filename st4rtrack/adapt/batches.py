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
        points: [P] indices into the training tracks.
    """

    video: int
    frames: np.ndarray
    points: np.ndarray


def batch(step: int, lengths: list[int], tracks: list[int], frames: list[int], config: AdaptConfig) -> Batch:
    """Sample the batch of a step. Every video is used once before any is used again.

    Args:
        lengths: number of frames of each video.
        tracks: number of training tracks of each video.
        frames: frames per step of each video.
    """
    video, rng = turn_of(step, len(lengths), config.seed)
    points = np.arange(tracks[video])
    if len(points) > config.points_per_step:
        points = np.sort(rng.permutation(points)[: config.points_per_step])
    return Batch(video, clip_frames(lengths[video], frames[video], config.largest_stride, rng), points)


def turn_of(step: int, count: int, seed: int) -> tuple[int, np.random.Generator]:
    """Video of a step among `count`, each used once per turn, and the random numbers of the step."""
    turn, place = divmod(step, count)
    return int(np.random.default_rng([seed, 2, turn]).permutation(count)[place]), np.random.default_rng([seed, 3, step])


def clip_frames(length: int, count: int, largest_stride: int, rng: np.random.Generator) -> np.ndarray:
    """Frame indices of the anchor and count - 1 other frames with random stride and start; all frames of a shorter video.

    The stride is limited to those that fit into the video; 1 always fits.
    """
    others = min(count, length) - 1
    stride = int(rng.integers(1, max(1, min(largest_stride, (length - 1) // others)) + 1))
    start = int(rng.integers(1, length - (others - 1) * stride))
    return np.concatenate([[0], start + stride * np.arange(others)])
