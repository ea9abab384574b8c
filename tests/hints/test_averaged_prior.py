"""Depth prior averaged over neighbouring frames."""

import numpy as np

from st4rtrack.hints.depth_prior import PriorDepth
from st4rtrack.hints.depth_prior.averaged import AveragedPrior
from tests.seeds import SEED

SIZE = (40, 64)
TRUE = np.linspace(2, 8, SIZE[0])[:, None] + np.linspace(0, 2, SIZE[1])
NO_FLOW = np.zeros((*SIZE, 2), np.float32)
RGB = np.zeros((*SIZE, 3), np.uint8)


class Noisy:
    """True depth, each frame with its own scale and smooth noise."""

    name = "noisy"

    def __init__(self) -> None:
        self.requested: list[int] = []

    def __call__(self, rgb: np.ndarray, index: int, focal_px: float | None = None) -> PriorDepth:
        self.requested.append(index)
        rng = np.random.default_rng(SEED + index)
        noise = np.kron(rng.normal(0, 0.1, (5, 8)), np.ones((8, 8)))
        return PriorDepth("depth", ((1 + index) * TRUE * np.exp(noise)).astype(np.float32), np.full(SIZE, 0.2, np.float32))


def error(depth: np.ndarray) -> float:
    log_ratio = np.log(depth / TRUE)
    return float(np.abs(log_ratio - np.median(log_ratio)).mean())


def test_mean_over_neighbours_has_less_noise_and_the_scale_of_the_frame() -> None:
    prior = AveragedPrior(Noisy(), lambda a, b: (NO_FLOW, NO_FLOW))
    alone = prior(RGB, 5).values
    prior.add((index, RGB) for index in range(1, 10))
    averaged = prior(RGB, 5).values
    assert error(averaged) < 0.6 * error(alone)
    assert abs(np.log(np.median(averaged) / np.median(alone))) < 0.05


def test_each_frame_is_predicted_once() -> None:
    single = Noisy()
    prior = AveragedPrior(single, lambda a, b: (NO_FLOW, NO_FLOW))
    for index in range(6):
        prior.add([(index, RGB), (index + 1, RGB)])
        prior(RGB, index)
    assert single.requested == list(range(7))


def test_frames_without_consistent_flow_do_not_count() -> None:
    apart = np.full_like(NO_FLOW, 7.0)  # the flow back does not return
    prior = AveragedPrior(Noisy(), lambda a, b: (apart, apart))
    alone = prior(RGB, 5).values
    prior.add((index, RGB) for index in range(1, 10))
    np.testing.assert_allclose(prior(RGB, 5).values, alone, rtol=1e-5)


def test_a_surface_that_appears_in_another_frame_does_not_count() -> None:
    class Covered(Noisy):
        def __call__(self, rgb: np.ndarray, index: int, focal_px: float | None = None) -> PriorDepth:
            depth = TRUE.copy()
            if index != 5:
                depth[10:20, 10:20] = 0.5  # an object passes
            return PriorDepth("depth", depth.astype(np.float32), np.full(SIZE, 0.2, np.float32))

    prior = AveragedPrior(Covered(), lambda a, b: (NO_FLOW, NO_FLOW))
    prior.add((index, RGB) for index in range(1, 10))
    np.testing.assert_allclose(prior(RGB, 5).values, TRUE, rtol=1e-3)
