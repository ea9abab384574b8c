"""Depth prior of a fixed camera."""

import numpy as np

from st4rtrack.hints.depth_prior import PriorDepth
from st4rtrack.hints.depth_prior.steady import SteadyPrior

HEIGHT, WIDTH, FRAMES = 48, 64, 5
TRUE = np.linspace(2, 8, HEIGHT)[:, None].repeat(WIDTH, axis=1)


class Unsteady:
    """True depth, each frame with its own contrast and scale, and a near object that moves."""

    name = "unsteady"

    def __init__(self, contrast: list[float]) -> None:
        self.contrast = contrast

    def __call__(self, rgb: np.ndarray, index: int, focal_px: float | None = None) -> PriorDepth:
        depth = TRUE.copy()
        depth[20:30, 10 * index : 10 * index + 8] = 2.0
        values = ((1 + index) * depth ** self.contrast[index]).astype(np.float32)
        return PriorDepth("depth", values, np.full(values.shape, 0.2, np.float32))


def test_frames_of_a_fixed_camera_have_the_median_depth_and_keep_their_objects() -> None:
    frames = [(index, np.zeros((HEIGHT, WIDTH, 3), np.uint8)) for index in range(FRAMES)]
    single = Unsteady([0.5, 1.0, 1.05, 0.95, 1.0])
    steady = SteadyPrior(single, frames, 60.0)
    for index, rgb in frames:
        found = steady(rgb, index, 60.0).values
        background = np.ones_like(TRUE, bool)
        background[14:36, max(0, 10 * index - 6) : 10 * index + 14] = False
        errors = [np.log(depth / TRUE)[background] for depth in (found, single(rgb, index).values)]
        before, after = (float(np.abs(error - np.median(error)).mean()) for error in reversed(errors))
        assert after < 0.03 and (index > 0 or after < 0.3 * before)
        row, column = 25, 10 * index
        assert np.log(found[row, column + 10] / found[row, column + 4]) > 0.5 * np.log(TRUE[row, 0] / 2.0)
