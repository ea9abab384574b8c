import numpy as np
import pytest

from st4rtrack.adapt.config import AdaptConfig
from st4rtrack.adapt.objective import batch, clip_frames

CONFIG = AdaptConfig(points_per_step=20)


@pytest.mark.parametrize(("length", "count"), [(2, 2), (3, 2), (10, 10), (10, 4), (64, 24), (7, 24)])
def test_frames_are_the_anchor_and_others_a_stride_apart(length: int, count: int) -> None:
    strides = set()
    for seed in range(40):
        frames = clip_frames(length, count, 6, np.random.default_rng(seed))
        assert frames[0] == 0 and len(frames) == min(count, length)
        assert (frames[1:] >= 1).all() and (frames < length).all()
        steps = np.diff(frames[1:])
        assert (steps == steps[:1].sum()).all() and (steps <= 6).all() and (steps >= 1).all()
        strides |= set(steps.tolist())
    if (length, count) == (10, 4):
        assert strides == {1, 2, 3}


def test_a_batch_is_a_function_of_seed_and_step() -> None:
    for step in (0, 7):
        first, again = (batch(step, [30, 40], [100, 10], [8, 8], CONFIG) for _ in range(2))
        assert first.video == again.video
        np.testing.assert_array_equal(first.frames, again.frames)
        np.testing.assert_array_equal(first.points, again.points)
    others = [batch(step, [30], [100], [8], CONFIG) for step in range(20)]
    assert len({tuple(each.frames) for each in others}) > 5
    assert all(len(np.unique(each.points)) == 20 for each in others)


def test_each_video_is_met_once_before_any_is_met_again() -> None:
    met = [batch(step, [9] * 4, [5] * 4, [3] * 4, CONFIG).video for step in range(12)]
    for turn in range(3):
        assert sorted(met[4 * turn : 4 * turn + 4]) == [0, 1, 2, 3]
    assert met[:4] != met[4:8] or met[:4] != met[8:]
