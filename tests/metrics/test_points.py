import numpy as np
import pytest

from st4rtrack.geometry.align import median_scale, umeyama
from st4rtrack.metrics.points import ErrorTotals, average_points_within_distance, end_point_error, global_alignments
from tests.seeds import SEED
from tests.shared_data import shared


def test_known_errors() -> None:
    error = end_point_error(np.array([[0.0, 0, 0.05], [0, 0.2, 0], [0.6, 0, 0], [0, 0, 3]]), np.zeros((4, 3)))
    np.testing.assert_allclose(error, [0.05, 0.2, 0.6, 3])
    assert average_points_within_distance(error) == pytest.approx(100 * (0.25 + 0.5 + 0.5 + 0.75) / 4)
    assert np.isnan(average_points_within_distance(np.zeros(0)))


@pytest.mark.parametrize("case", ["a", "b"])
@pytest.mark.parametrize("subset", ["all", "dynamic"])
def test_agrees_with_the_published_evaluator(case: str, subset: str) -> None:
    oracle = np.load(shared("oracle/metrics.npz"))
    keep = oracle[f"{case}/dynamic"] if subset == "dynamic" else slice(None)
    gt, pred = oracle[f"{case}/gt"][:, keep], oracle[f"{case}/pred"][:, keep]
    aligned = {"median": pred * median_scale(pred, gt), "sim3": umeyama(pred, gt, allow_reflection_scale=True)(pred)}
    for alignment, points in aligned.items():
        error = end_point_error(points, gt)
        key = f"{case}/{subset}/{alignment}"
        assert error.mean() == pytest.approx(float(oracle[f"{key}/epe"]), rel=1e-6)
        assert average_points_within_distance(error) == pytest.approx(float(oracle[f"{key}/apd"]), rel=1e-6)


def test_points_that_are_missing_on_either_side_do_not_count() -> None:
    rng = np.random.default_rng(SEED)
    true = rng.normal(size=(3, 40, 3))
    predicted = 0.5 * true + rng.normal(0, 0.01, true.shape)
    whole = global_alignments(lambda: iter([(predicted[:, :30], true[:, :30])]))
    predicted[:, 30:35, 1], true[:, 35:, 2] = np.nan, np.inf
    for name, found in global_alignments(lambda: iter([(predicted, true)])).items():
        assert found.scale == pytest.approx(whole[name].scale, rel=1e-12) and found.scale == pytest.approx(2, rel=0.02)
        np.testing.assert_allclose(found.translation, whole[name].translation, atol=1e-12)


def test_errors_add_up_and_those_that_are_not_finite_are_misses() -> None:
    totals = ErrorTotals()
    for part in ([0.05, 0.2], [[0.6, 3.0]], [np.nan]):
        totals.add(np.array(part))
    assert (totals.points, totals.non_finite) == (5, 1)
    assert totals.epe == pytest.approx((0.05 + 0.2 + 0.6 + 3.0) / 4)
    assert totals.apd == pytest.approx(100 * (1 + 2 + 2 + 3) / (4 * 5))
