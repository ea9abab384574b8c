"""Noise goes, motion stays: at rest, accelerated, and in a collision."""

import numpy as np
import pytest
import torch
from torch import Tensor

from st4rtrack.pipeline.device_maps import median_of_few
from st4rtrack.pipeline.smoothing import noise_variance, smoothed, squared_third_difference
from tests.seeds import SEED

NOISE = 0.01
TIMES = np.arange(9.0) - 4
MOTIONS = {
    "rest": np.zeros(9),
    "even": 0.1 * TIMES,
    "accelerated": 0.1 * TIMES + 0.03 * TIMES**2,
    "collision": 0.2 * np.abs(TIMES),
    "stop": 0.2 * np.minimum(TIMES, 0),
}


def alike(squares: Tensor) -> Tensor:
    """All tracks here have the same motion."""
    return squares.mean(dim=-1, keepdim=True).expand_as(squares)


def noise_of(window: np.ndarray) -> Tensor:
    """Noise variance of a window [time, points, 3]."""
    positions = torch.from_numpy(window).transpose(1, 2)
    return noise_variance([squared_third_difference(list(positions[k : k + 4])) for k in range(len(window) - 3)])


def smoothed_at(window: np.ndarray, index: int, variance: float, pooled=alike) -> np.ndarray:
    """Smoothed positions [points, 3] at one time of a window [time, points, 3]."""
    found = smoothed(
        [torch.from_numpy(each.T.copy()) for each in window], index, torch.full(window.shape[1:2], variance), pooled=pooled
    )
    return found.T.numpy()


def tracks(motion: str, points: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """[time, points, 3] with noise, and the truth."""
    true = np.zeros((9, points, 3))
    true[..., 0] = MOTIONS[motion][:, None]
    noisy = true + NOISE * np.random.default_rng(SEED).standard_normal(true.shape)
    return noisy.astype(np.float32), true


@pytest.mark.parametrize("motion", MOTIONS)
def test_the_noise_is_measured_whatever_moves(motion: str) -> None:
    measured = np.sqrt(noise_of(tracks(motion)[0]).numpy().mean())
    assert measured == pytest.approx(NOISE, rel=0.4 if motion in ("collision", "stop") else 0.1)


@pytest.mark.parametrize("motion", ["rest", "even", "accelerated"])
@pytest.mark.parametrize("index", [0, 4, 8])
def test_noise_goes_and_there_is_no_lag(motion: str, index: int) -> None:
    noisy, true = tracks(motion)
    found = smoothed_at(noisy, index, NOISE**2)
    error = found - true[index]
    remains = np.sqrt((error**2).mean()) / NOISE
    assert remains < (0.5 if motion != "accelerated" else 0.6) if index == 4 else remains < 0.95
    if index == 4:
        assert abs(error[:, 0].mean()) < 0.05 * NOISE


@pytest.mark.parametrize("motion", ["collision", "stop"])
def test_a_sudden_turn_stays_sharp(motion: str) -> None:
    noisy, true = tracks(motion)
    found = smoothed_at(noisy, 4, NOISE**2)
    blurred = np.polynomial.Polynomial.fit(TIMES, MOTIONS[motion], 3)(0.0) - MOTIONS[motion][4]
    assert abs((found - true[4])[:, 0].mean()) < 0.05 * abs(blurred)


def test_without_noise_nothing_changes() -> None:
    for motion in MOTIONS:
        exact = tracks(motion)[1].astype(np.float32)
        for index in range(9):
            np.testing.assert_allclose(smoothed_at(exact, index, 0.0, pooled=lambda squares: squares), exact[index], atol=2e-6)


@pytest.mark.parametrize("count", range(1, 9))
def test_median_of_few_is_numpys(count: int) -> None:
    samples = np.random.default_rng(count).normal(size=(count, 50, 3)).astype(np.float32)
    samples[count // 2, 3] = np.nan
    samples[0, 7] = np.inf
    found = median_of_few(list(torch.from_numpy(samples)))
    np.testing.assert_array_equal(found.numpy(), np.median(samples, axis=0))
