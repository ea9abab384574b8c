"""Per-pixel work on the device of the network."""

from typing import Any

import cv2
import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from st4rtrack.geometry.camera import intrinsics_from_focal
from st4rtrack.pipeline.device_maps import box_mean, median_filter, sample_bilinear, sampled_median
from st4rtrack.pipeline.smoothing import smoothed_frames
from st4rtrack.pipeline.visibility import visibility_probability
from st4rtrack.types import Pointmap, TwoPointmaps

HEIGHT, WIDTH = 48, 64


class NoFloat64(TorchDispatchMode):
    """Fail when an operation makes a float64 tensor, which MPS cannot."""

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for each in found if isinstance(found, tuple | list) else (found,):
            assert not isinstance(each, torch.Tensor) or each.dtype != torch.float64, f"{func} made a float64 tensor"
        return found


def frames(count: int = 12) -> list[tuple[int, np.ndarray, TwoPointmaps]]:
    """Frames of a noisy plane, as float64."""
    rng = np.random.default_rng(0)
    x, y = np.meshgrid(np.linspace(-1, 1, WIDTH), np.linspace(-1, 1, HEIGHT))
    plane, confidence = np.stack([x, y, np.full_like(x, 2.0)], axis=-1), np.full((HEIGHT, WIDTH), 2.0)
    maps = [[Pointmap(plane + 0.01 * rng.standard_normal(plane.shape), confidence) for _ in range(2)] for _ in range(count)]
    return [(k, rng.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8), TwoPointmaps(*each)) for k, each in enumerate(maps)]


def test_per_pixel_work_makes_no_float64_tensor() -> None:
    given, intrinsics = frames(), intrinsics_from_focal(60.0, HEIGHT, WIDTH)
    error = np.full((HEIGHT, WIDTH), 0.01)
    with NoFloat64():
        for _, rgb, maps in smoothed_frames(given, given[0][2].tracking, 0):
            likely = visibility_probability(maps, np.eye(4), intrinsics, given[0][1], rgb, cycle_error=error)
            assert likely.dtype == np.float32


def test_box_mean_is_that_of_opencv() -> None:
    values = np.random.default_rng(0).random((2, HEIGHT, WIDTH), np.float32)
    found = box_mean(torch.from_numpy(values), 7).numpy()
    np.testing.assert_allclose(found, [cv2.blur(each, (7, 7)) for each in values], atol=1e-6)


def test_median_filter_removes_specks_and_leaves_an_edge() -> None:
    values = torch.zeros(HEIGHT, WIDTH)
    values[:, WIDTH // 2 :] = 1
    noisy = values.clone()
    noisy[3::7, 3::7] = 5
    assert torch.equal(median_filter(noisy, 5), values)


def test_sample_bilinear_at_pixel_centres_and_beyond_the_border() -> None:
    values = torch.arange(12.0).view(1, 3, 4)
    u, v = torch.tensor([[0.5, 2.5, 4.0, 1.0]]), torch.tensor([[0.5, 1.5, 3.0, 0.5]])
    np.testing.assert_allclose(sample_bilinear(values, u, v)[0, 0], [0, 6, 11, 0.5], atol=1e-5)


def test_sampled_median_without_chosen_pixels_is_unknown() -> None:
    values = torch.rand(3, HEIGHT, WIDTH)
    assert sampled_median(values, torch.zeros(HEIGHT, WIDTH, dtype=torch.bool)) is None
    median = sampled_median(values, values[0] > 0.5)
    assert median is not None and median.shape == (3,) and 0.7 < median[0] < 0.8
