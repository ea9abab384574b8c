import numpy as np
import pytest

from st4rtrack.metrics.depth import RelativeDepth
from tests.seeds import SEED


def test_by_hand() -> None:
    depth = RelativeDepth()
    depth.add(np.array([[1.0, 2.0], [3.0, 1.0]]), np.array([[2.0, 4.0], [6.0, 0.0]]))
    depth.add(np.array([[4.0, np.nan], [1.5, -1.0]]), np.array([[4.0, 5.0], [3.0, 2.0]]))
    scores = depth.result()
    # usable: predicted 1 2 3 4 1.5 (median 2), true 2 4 6 4 3 (median 4): scale 2, one wrong by a factor 2
    assert scores.scale == 2 and scores.points == 7 and scores.non_finite == 2
    assert scores.abs_rel == pytest.approx(1.0 / 5) and scores.delta_1_25 == pytest.approx(100 * 4 / 7)


def test_the_factor_counts_both_ways_and_is_itself_outside() -> None:
    depth = RelativeDepth()
    depth.add(np.array([[1.0, 1.0, 1.0, 1.0, 1.25, 1.24, 0.5, 0.81]]), np.ones((1, 8)))
    scores = depth.result()
    assert scores.scale == 1 and scores.delta_1_25 == pytest.approx(100 * 6 / 8)


def test_scale_is_taken_out_once_for_all_frames() -> None:
    rng = np.random.default_rng(SEED)
    true = rng.uniform(1, 5, (6, 20, 30))
    same, drifting = RelativeDepth(), RelativeDepth()
    for t, frame in enumerate(true):
        same.add(0.01 * frame, frame)
        drifting.add(frame * 1.2**t, frame)
    assert same.result().abs_rel == pytest.approx(0, abs=1e-6) and same.result().delta_1_25 == 100
    assert drifting.result().abs_rel > 0.2


def test_nothing_to_count() -> None:
    empty = RelativeDepth()
    assert np.isnan(empty.result().abs_rel) and np.isnan(empty.result().delta_1_25)
    empty.add(np.full((2, 2), np.nan), np.ones((2, 2)))
    assert empty.result().delta_1_25 == 0 and empty.result().non_finite == 4
