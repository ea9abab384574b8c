"""Deterministic sampling of training clips: starts, strides, epochs and stride curriculum by clip index."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from st4rtrack.data.augment import Augmentation, augment_clip, draw_frames, draw_framing
from st4rtrack.data.clip import Clip
from st4rtrack.data.raw import RawDataset
from st4rtrack.data.read_clip import Reading, read_clip
from st4rtrack.types import UserError

FIRST_EPOCHS = 5
"""Epochs at the start of the curriculum that use only the smallest stride."""


class ClipDataset(RawDataset, Protocol):
    """Raw data set that knows the length of its sequences without opening them."""

    def length(self, name: str) -> int:
        """Number of frames of a sequence."""
        ...


@dataclass(frozen=True)
class Sampling:
    """Clip sampling of one data set."""

    frames: int = 24  # frames per clip; two make a pair
    strides: tuple[int, ...] = (1, 2, 3, 4, 5, 6)  # strides between the frames of a clip, in video frames, increasing
    clip_step: int = 32  # step between the starts of clips, in video frames
    samples_per_epoch: int = 600  # clips per epoch
    epochs: int = 50  # length of the training, over which the curriculum is spread
    curriculum: bool = False  # whether large strides come later, by `stride_weights`
    seed: int = 0  # random seed

    def __post_init__(self) -> None:
        counts = (self.frames - 1, self.clip_step, self.samples_per_epoch, self.epochs, *self.strides)
        if min(counts) < 1 or list(self.strides) != sorted(set(self.strides)) or not self.strides:
            raise UserError(
                "sampling needs two or more frames, increasing strides >= 1, and clip_step, samples_per_epoch and epochs "
                f">= 1; got {self}"
            )


def clip_starts(length: int, frames: int, stride: int, clip_step: int) -> range:
    """First frames of the clips of a video, as released: 0, clip_step, ... while start + frames * stride <= length."""
    return range(0, length - frames * stride + 1, clip_step)


def stride_weights(epoch: int, epochs: int, count: int) -> np.ndarray:
    """Sampling probabilities [count] of strides, smallest first, as released for training on pairs.

    Stride i has the weight b e / E + (1 - b) (1 - e / E) with b = i / (count - 1), e = `epoch`, E = `epochs`: small ones first.
    The first `FIRST_EPOCHS` epochs use only the smallest stride.
    """
    if epoch < FIRST_EPOCHS or count == 1:
        return np.eye(count)[0]
    done = min(epoch / epochs, 1.0)
    large = np.linspace(0, 1, count)
    weights = large * done + (1 - large) * (1 - done)
    return weights / weights.sum()


@dataclass(frozen=True)
class SequenceClips:
    """Training clips of raw sequences (a `ClipSource`), indexed over all epochs; sequences too short for any clip are skipped.

    Clip k is number k modulo `samples_per_epoch` of its epoch. An epoch uses all clips before one repeats (without curriculum).
    """

    dataset: ClipDataset
    names: Sequence[str]
    sampling: Sampling
    reading: Reading = field(default_factory=Reading)
    augmentation: Augmentation = field(default_factory=Augmentation)
    label: str = "the data set"
    by_stride: tuple[np.ndarray, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        lengths = [self.dataset.length(name) for name in self.names]
        s = self.sampling
        clips = tuple(
            np.array([(k, i) for k, n in enumerate(lengths) for i in clip_starts(n, s.frames, stride, s.clip_step)], int).reshape(
                -1, 2
            )
            for stride in s.strides
        )
        object.__setattr__(self, "by_stride", clips)
        if not len(self):
            raise UserError(
                f"{self.label}: none of {len(self.names)} sequences has the {s.frames * s.strides[0]} frames that a clip of "
                f"{s.frames} frames at stride {s.strides[0]} needs; use fewer frames or smaller strides"
            )

    def __len__(self) -> int:
        """Number of different clips, without augmentation."""
        return sum(map(len, self.by_stride))

    def clip(self, index: int) -> Clip:
        """Return clip `index` >= 0."""
        epoch, k = divmod(index, self.sampling.samples_per_epoch)
        stride, row = self._draw(epoch)[k]
        sequence, start = self.by_stride[stride][row]
        frames = range(start, start + self.sampling.frames * self.sampling.strides[stride], self.sampling.strides[stride])
        rng = np.random.default_rng((self.sampling.seed, 1, epoch, k))
        order = draw_frames(frames, self.augmentation, rng)
        framing = draw_framing(self.augmentation, rng)
        clip = read_clip(self.dataset.open(self.names[int(sequence)]), order, self.reading, framing)
        return augment_clip(clip, self.augmentation, rng)

    def _draw(self, epoch: int) -> np.ndarray:
        """Draw the clips of an epoch: [samples_per_epoch, 2], index of the stride and of the clip at that stride."""
        rng = np.random.default_rng((self.sampling.seed, 0, epoch))
        counts = np.array([len(clips) for clips in self.by_stride])
        wanted = self.sampling.samples_per_epoch
        if not self.sampling.curriculum:
            rounds = [rng.permutation(len(self)) for _ in range(-(-wanted // len(self)))]
            number, ends = np.concatenate(rounds)[:wanted], np.cumsum(counts)
            strides = np.searchsorted(ends, number, side="right")
            return np.stack([strides, number - (ends - counts)[strides]], axis=1)
        usable = counts.nonzero()[0]
        weights = stride_weights(epoch, self.sampling.epochs, len(counts))[usable]
        weights = weights / weights.sum() if weights.sum() > 0 else np.eye(len(usable))[0]
        strides = usable[rng.choice(len(usable), wanted, p=weights)]
        return np.stack([strides, rng.integers(counts[strides])], axis=1)
