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


def test_scale_drift_is_the_spread_of_the_scales_of_the_frames() -> None:
    rng = np.random.default_rng(SEED)
    logs, depth = np.array([-0.5, 0.5, 0.0, -0.5, 0.5]), RelativeDepth()
    for log in logs:
        true = rng.uniform(2, 6, (9, 12))
        depth.add(true * np.exp(log), true)
    depth.add(np.full((2, 2), np.nan), np.ones((2, 2)))  # no scale of its own
    assert depth.scale_drift() == pytest.approx(logs.std(), abs=1e-6)
    assert np.isnan(RelativeDepth().scale_drift())


def test_groups_share_the_scale_of_all_pixels_but_precision_is_their_own() -> None:
    true, depth, far = np.full((4, 5), 2.0), RelativeDepth(), np.zeros((4, 5), bool)
    far[:, :2] = True
    predicted = np.where(far, 1.1, 1.0) * true / 3
    predicted[3, 0] *= 1.05
    predicted[0, 0] = np.nan
    depth.add(predicted, true, {"far": far, "near": ~far})
    depth.add(true / 3, true)  # a frame without groups
    found = depth.result("far")
    assert found.abs_rel == pytest.approx((6 * 0.1 + 0.155) / 7) and (found.points, found.non_finite) == (8, 1)
    assert found.delta_1_25 == pytest.approx(100 * 7 / 8) and found.delta_1_03 == pytest.approx(100 * 6 / 8)
    assert depth.result("near").delta_1_03 == 100 and depth.result("near").points == 12
    assert depth.result().points == 40 and np.isnan(depth.result("none").abs_rel)
