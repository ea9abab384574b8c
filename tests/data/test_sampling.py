"""Which clips an epoch has: published starts and weights, each clip once, and all of it a function of a number."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from st4rtrack.data.augment import Augmentation
from st4rtrack.data.raw import RawSequence
from st4rtrack.data.read_clip import Reading
from st4rtrack.data.sampling import FIRST_EPOCHS, Sampling, SequenceClips, clip_starts, stride_weights
from st4rtrack.types import UserError


class Numbered:
    """A data set whose images are their frame's number, of a wall that stays."""

    def __init__(self, **lengths: int) -> None:
        self.lengths = lengths

    def length(self, name: str) -> int:
        return self.lengths[name]

    def open(self, name: str) -> RawSequence:
        length, code = self.lengths[name], list(self.lengths).index(name)

        def read_tracks(start: int, stop: int, step: int = 1) -> tuple[np.ndarray, np.ndarray]:
            count = len(range(start, stop, step))
            return np.tile([[[0.0, 0.0, 2.0]]], (count, 1, 1)), np.ones((count, 1), bool)

        return RawSequence(
            name,
            np.tile(np.array([[8.0, 0, 4.0], [0, 8.0, 3.0], [0, 0, 1.0]]), (length, 1, 1)),
            None,
            read_rgb=lambda index: np.full((6, 8, 3), [index, code, 0], np.uint8),
            read_depth=lambda index: np.full((6, 8), 2.0, np.float32),
            read_tracks=read_tracks,
        )


def source(lengths: dict[str, int], sampling: Sampling, augmentation: Augmentation | None = None) -> SequenceClips:
    return SequenceClips(
        Numbered(**lengths), list(lengths), sampling, Reading(6, 8), augmentation or Augmentation(), label="walls"
    )


def frames_of(clips: SequenceClips, index: int) -> tuple[int, tuple[int, ...]]:
    """The sequence and the frames of a clip, from what its images show."""
    rgb = clips.clip(index).rgb[:, 0, 0]
    assert len(set(rgb[:, 1])) == 1
    return int(rgb[0, 1]), tuple(rgb[:, 0].tolist())


@given(st.integers(0, 300), st.integers(2, 24), st.integers(1, 20), st.integers(1, 40))
def test_starts_are_those_of_the_release(length: int, frames: int, stride: int, clip_step: int) -> None:
    starts, start = [], 0
    while start + frames * stride <= length:
        starts.append(start)
        start += clip_step
    assert list(clip_starts(length, frames, stride, clip_step)) == starts
    assert all(start + (frames - 1) * stride < length for start in starts)


def test_stride_weights_are_the_published_formula() -> None:
    epochs, count = 100, 16
    for epoch in range(epochs):
        weights = stride_weights(epoch, epochs, count)
        if epoch < FIRST_EPOCHS:
            assert weights.tolist() == [1.0] + [0.0] * (count - 1)
            continue
        share = epoch / epochs
        expected = [i / (count - 1) * share + (1 - i / (count - 1)) * (1 - share) for i in range(count)]
        np.testing.assert_allclose(weights, np.array(expected) / sum(expected), rtol=1e-12)
    assert stride_weights(50, 100, 1).tolist() == [1.0]
    np.testing.assert_allclose(stride_weights(200, 100, 3), [0, 1 / 3, 2 / 3])


def test_an_epoch_has_every_clip_once_and_then_again() -> None:
    clips = source({"a": 40, "b": 9, "c": 3}, Sampling(frames=4, strides=(1, 2), clip_step=8, samples_per_epoch=20))
    expected = {(0, tuple(range(s, s + 4))) for s in (0, 8, 16, 24, 32)} | {
        (0, tuple(range(s, s + 8, 2))) for s in (0, 8, 16, 24, 32)
    }
    expected |= {(1, (0, 1, 2, 3)), (1, (0, 2, 4, 6))}
    assert len(clips) == len(expected) == 12
    first = [frames_of(clips, k) for k in range(20)]
    assert set(first[:12]) == expected and len(set(first[12:])) == 8
    second = [frames_of(clips, k) for k in range(20, 40)]
    assert set(second[:12]) == expected and second != first


def test_a_clip_is_a_function_of_its_number() -> None:
    sampling = Sampling(frames=3, strides=(1, 2, 4), clip_step=2, samples_per_epoch=7, seed=5)
    augmentation = Augmentation(crop=True, focal=1.5, colour=1.0, mirror=0.5, reverse=0.5, random_anchor=0.5)
    clips = source({"a": 50, "b": 31}, sampling, augmentation)
    other = pickle.loads(pickle.dumps(clips))
    for k in (0, 6, 7, 30, 10_000):
        one, again, elsewhere = clips.clip(k), clips.clip(k), other.clip(k)
        for name in ("rgb", "intrinsics", "tracking_points_world"):
            np.testing.assert_array_equal(getattr(one, name), getattr(again, name))
            np.testing.assert_array_equal(getattr(one, name), getattr(elsewhere, name))
    seeded = source({"a": 50, "b": 31}, Sampling(frames=3, strides=(1, 2, 4), clip_step=2, samples_per_epoch=7, seed=6))
    plain = source({"a": 50, "b": 31}, sampling)
    assert [frames_of(plain, k) for k in range(7)] != [frames_of(seeded, k) for k in range(7)]


def test_the_curriculum_begins_with_the_smallest_stride_and_ends_with_the_large() -> None:
    sampling = Sampling(frames=2, strides=(1, 3, 9), clip_step=1, samples_per_epoch=200, epochs=40, curriculum=True)
    clips = source({"a": 60, "b": 12}, sampling)

    def shares(epoch: int) -> np.ndarray:
        strides = [np.diff(frames_of(clips, k)[1])[0] for k in range(epoch * 200, epoch * 200 + 200)]
        return np.array([strides.count(s) for s in (1, 3, 9)]) / 200

    assert shares(0).tolist() == shares(4).tolist() == [1, 0, 0]
    for epoch in (5, 20, 39):
        assert np.abs(shares(epoch) - stride_weights(epoch, 40, 3)).max() < 0.12


def test_the_curriculum_leaves_out_strides_that_no_sequence_is_long_enough_for() -> None:
    clips = source({"a": 10}, Sampling(frames=2, strides=(1, 100), clip_step=1, samples_per_epoch=20, epochs=10, curriculum=True))
    assert {np.diff(frames_of(clips, k)[1])[0] for k in range(180, 200)} == {1}


def test_what_is_wrong_is_named() -> None:
    with pytest.raises(
        UserError, match="walls: none of 2 sequences has the 48 frames that a clip of 24 frames at stride 2 needs"
    ):
        source({"a": 40, "b": 47}, Sampling(frames=24, strides=(2, 3)))
    for wrong in (
        {"frames": 1},
        {"strides": ()},
        {"strides": (0, 1)},
        {"strides": (2, 1)},
        {"clip_step": 0},
        {"samples_per_epoch": 0},
    ):
        with pytest.raises(UserError, match="sampling needs two or more frames"):
            Sampling(**wrong)
