"""Flow between neighbouring frames, chained over a few of them."""

import cv2
import numpy as np
import pytest

from st4rtrack.hints.steps import KEPT, GreyFrames, StepFlows
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


SQUARE, ROW = 12, 40
COLUMNS = (10, 13, 19)
"""Of a square that moves by 3 pixels, then by 6: half of its side, more than a search from nothing finds."""


@pytest.fixture(scope="module")
def faster() -> np.ndarray:
    """A small square that gets faster before a texture."""
    rng = np.random.default_rng(0)
    wall = cv2.GaussianBlur(rng.integers(0, 256, (96, 160)).astype(np.uint8), (0, 0), 1.5)
    wall = cv2.normalize(wall, wall, 60, 200, cv2.NORM_MINMAX)
    square = cv2.resize(rng.integers(0, 256, (4, 4)).astype(np.uint8), (SQUARE, SQUARE), interpolation=cv2.INTER_NEAREST)
    frames = np.stack([wall] * len(COLUMNS))
    for frame, column in zip(frames, COLUMNS, strict=True):
        frame[ROW : ROW + SQUARE, column : column + SQUARE] = square
    return frames


def on_square(flow: np.ndarray, column: int) -> float:
    return float(np.median(flow[ROW + 2 : ROW + SQUARE - 2, column + 2 : column + SQUARE - 2, 0]))


def test_step_of_a_small_fast_object_is_found_as_its_motion_goes_on(faster: np.ndarray) -> None:
    assert abs(on_square(StepFlows(faster.__getitem__).step(1)[0], COLUMNS[1]) - 6) > 3, "found without the step before"
    steps = StepFlows(faster.__getitem__)
    steps.step(0)
    assert abs(on_square(steps.step(1)[0], COLUMNS[1]) - 6) < 0.5


def test_step_of_a_small_fast_object_is_found_from_the_step_after(faster: np.ndarray) -> None:
    steps = StepFlows(faster[::-1].__getitem__)
    steps.step(1)
    forward, backward = steps.step(0)
    assert abs(on_square(backward, COLUMNS[1]) - 6) < 0.5
    assert abs(on_square(forward, COLUMNS[2]) + 6) < 0.5


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
