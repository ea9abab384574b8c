import numpy as np
import pytest

from st4rtrack.metrics.tapvid3d import expected_calibration_error
from tests.seeds import SEED


def test_what_happens_as_often_as_said_is_calibrated() -> None:
    rng = np.random.default_rng(SEED)
    probability = rng.random((200, 500))
    assert expected_calibration_error(probability, rng.random(probability.shape) < probability) < 0.01


def test_too_sure_is_off_by_as_much() -> None:
    outcome = np.arange(1000) % 10 < 7
    assert expected_calibration_error(np.full(1000, 0.95), outcome) == pytest.approx(0.25)
    assert expected_calibration_error(np.where(outcome, 1.0, 0.0), outcome) == 0


def test_what_cannot_be_a_probability_is_refused() -> None:
    for probability, outcome in (([1.2], [True]), ([np.nan], [True]), ([0.5], [True, False])):
        with pytest.raises(ValueError, match="within 0 and 1"):
            expected_calibration_error(np.array(probability), np.array(outcome))
    assert np.isnan(expected_calibration_error(np.zeros(0), np.zeros(0, bool)))
