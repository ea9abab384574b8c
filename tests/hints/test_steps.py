"""Flow between neighbouring frames, chained over a few of them."""

import cv2
import numpy as np
import pytest

from st4rtrack.hints.frames import GreyFrames
from st4rtrack.hints.steps import KEPT, StepFlows
from st4rtrack.io.video import open_video

SHIFT = 1.5
INSIDE = np.s_[16:-16, 24:-24]


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    """A texture that moves to the right by a constant shift."""
    noise = np.random.default_rng(0).random((32, 64)).astype(np.float32)
    texture = cv2.resize(noise, (160, 80), interpolation=cv2.INTER_CUBIC)
    moved = [cv2.warpAffine(texture, np.array([[1, 0, SHIFT * t], [0, 1, 0]], np.float32), (160, 80)) for t in range(5)]
    return (255 * np.clip(np.stack(moved), 0, 1)).astype(np.uint8)


def test_chain_of_a_constant_shift_is_the_sum_of_its_steps_both_ways(frames: np.ndarray) -> None:
    steps = StepFlows(frames.__getitem__)
    for start, end in ((0, 4), (4, 0), (1, 3)):
        forward, backward = steps.chain(start, end)
        np.testing.assert_allclose(np.median(forward[INSIDE], axis=(0, 1)), [SHIFT * (end - start), 0], atol=0.1)
        np.testing.assert_allclose(np.median(backward[INSIDE], axis=(0, 1)), [SHIFT * (start - end), 0], atol=0.1)
    same, _ = steps.chain(2, 2)
    assert not same.any()


def test_step_flows_keep_the_last_ones(frames: np.ndarray) -> None:
    reads: list[int] = []

    def read(index: int) -> np.ndarray:
        reads.append(index)
        return frames[index % 2]

    steps = StepFlows(read)
    steps.step(0)
    steps.step(0)
    assert reads == [0, 1]
    for index in range(1, KEPT + 1):
        steps.step(index)
    steps.step(0)
    assert reads.count(0) == 2


def test_grey_frames_give_any_frame_of_a_video(frames: np.ndarray) -> None:
    rgb = np.repeat(frames[..., None], 3, axis=-1)
    grey = GreyFrames(open_video(rgb))
    for index in (3, 0, 4):
        assert np.abs(grey(index).astype(int) - frames[index]).max() <= 1
