"""Which clips a data set is trained on: starts, strides, epochs and the curriculum of strides, all functions of a number."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from st4rtrack.data.augment import Augmentation, augment_clip, draw_frames, draw_framing
from st4rtrack.data.clip import Clip
from st4rtrack.data.raw import RawSequence
from st4rtrack.data.read_clip import Reading, read_clip
from st4rtrack.types import UserError

FIRST_EPOCHS = 5
"""Epochs of the curriculum that use the smallest stride only."""


class ClipDataset(Protocol):
    """A raw data set whose sequences know their lengths without being opened."""

    def length(self, name: str) -> int:
        """Frames of a sequence."""
        ...

    def open(self, name: str) -> RawSequence:
        """A sequence."""
        ...


@dataclass(frozen=True)
class Sampling:
    """What is drawn from a data set.

    Attributes:
        frames: per clip; two are pairs.
        strides: between the frames of a clip, in frames of the video, increasing.
        clip_step: between the starts of clips, in frames of the video.
        samples_per_epoch: clips.
        epochs: of the whole training, which the curriculum is stretched over.
        curriculum: whether large strides come later, by `stride_weights`.
        seed: of what is drawn.
    """

    frames: int = 24
    strides: tuple[int, ...] = (1, 2, 3, 4, 5, 6)
    clip_step: int = 32
    samples_per_epoch: int = 600
    epochs: int = 50
    curriculum: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        counts = (self.frames - 1, self.clip_step, self.samples_per_epoch, self.epochs, *self.strides)
        if min(counts) < 1 or list(self.strides) != sorted(set(self.strides)) or not self.strides:
            raise UserError(
                "clips need two frames or more, strides that increase from at least 1, and a step, samples and epochs of at "
                f"least 1; they are {self}"
            )


def clip_starts(length: int, frames: int, stride: int, clip_step: int) -> range:
    """First frames of the clips of a video of `length` frames, as released: 0, clip_step, ... while start + frames * stride
    <= length.
    """
    return range(0, length - frames * stride + 1, clip_step)


def stride_weights(epoch: int, epochs: int, count: int) -> np.ndarray:
    """Probabilities [count] of strides, from the smallest to the largest, as released for training on pairs.

    The i-th has the weight b e / E + (1 - b) (1 - e / E) with b = i / (count - 1), from small strides at first to large ones at
    last; during the first `FIRST_EPOCHS` epochs only the smallest is used.

    Args:
        epoch: e, from 0.
        epochs: E.
        count: of strides, at least 1.
    """
    if epoch < FIRST_EPOCHS or count == 1:
        return np.eye(count)[0]
    done = min(epoch / epochs, 1.0)
    large = np.linspace(0, 1, count)
    weights = large * done + (1 - large) * (1 - done)
    return weights / weights.sum()


@dataclass(frozen=True)
class SequenceClips:
    """Clips of raw sequences, a `ClipSource`. Number k is the k modulo `samples_per_epoch`-th of its epoch.

    In an epoch no clip comes twice before all have come once (without the curriculum, which draws strides by weight).

    Args:
        dataset: to read from.
        names: of the sequences to use; those too short for any clip are passed over.
        sampling, reading, augmentation: what is drawn, how it is read, how it is varied.
        label: of the data set, for messages.
    Raises:
        UserError: no sequence is long enough, or one is incomplete.
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
        """How many different clips there are, without augmentation."""
        return sum(map(len, self.by_stride))

    def clip(self, index: int) -> Clip:
        """Clip `index` >= 0.

        Raises:
            UserError: a file is absent or damaged; it is named.
        """
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
        """[samples_per_epoch, 2]: which stride, and which of its clips."""
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
