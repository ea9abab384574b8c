"""Depth of dynamic objects that the prior places too far away."""

import numpy as np
import pytest

from st4rtrack.hints.dynamic import FAST, FOLLOW, GROUND_ROW, ObjectDepth, log_correction

SIZE = (60, 80)
STILL = np.zeros((*SIZE, 2), np.float32)


def region(first_row: int, end_row: int) -> np.ndarray:
    mask = np.zeros(SIZE, bool)
    mask[first_row:end_row, 30:45] = True
    return mask


def test_log_correction_of_slow_object_low_in_image_is_zero() -> None:
    assert log_correction(region(20, int(np.ceil(GROUND_ROW * SIZE[0]))), STILL) == 0


def test_log_correction_grows_with_height_and_with_speed() -> None:
    low, high = log_correction(region(5, 30), STILL), log_correction(region(5, 15), STILL)
    fast = log_correction(region(5, 30), np.full_like(STILL, 3 * FAST * SIZE[1]))
    assert high < low < 0
    assert fast < low


def test_object_depth_changes_only_dynamic_pixels_and_brings_them_nearer() -> None:
    depth, mask = np.full(SIZE, 4, np.float32), region(5, 15)
    corrected = ObjectDepth().next(depth, mask, STILL, None)
    np.testing.assert_array_equal(corrected[~mask], depth[~mask])
    np.testing.assert_allclose(corrected[mask], 4 * np.exp(log_correction(mask, STILL)), rtol=1e-5)


def test_object_depth_of_accelerating_object_follows_smoothly() -> None:
    depth, mask = np.full(SIZE, 4, np.float32), region(5, 15)
    fast = np.full_like(STILL, 3 * FAST * SIZE[1])
    objects = ObjectDepth()
    first = objects.next(depth, mask, STILL, None)[mask][0]
    second = objects.next(depth, mask, fast, STILL)[mask][0]
    alone = ObjectDepth().next(depth, mask, fast, None)[mask][0]
    assert np.log(second / first) == pytest.approx(FOLLOW * np.log(alone / first), rel=1e-4)


def test_object_depth_of_new_object_takes_nothing_from_frame_before() -> None:
    depth, mask = np.full(SIZE, 4, np.float32), region(5, 15)
    objects = ObjectDepth()
    objects.next(depth, region(20, 30), STILL, None)
    np.testing.assert_array_equal(objects.next(depth, mask, STILL, STILL), ObjectDepth().next(depth, mask, STILL, None))


def test_object_depth_of_an_object_whose_feet_are_hidden_for_a_frame_hardly_changes() -> None:
    depth = np.repeat(np.linspace(8, 2, SIZE[0], dtype=np.float32)[:, None], SIZE[1], axis=1)
    mask = region(20, 50)
    depth[mask] = np.repeat(np.linspace(5.0, depth[50, 0], 30, dtype=np.float32), 15)
    hidden = depth.copy()
    hidden[50:54] = 1.0  # something near covers the feet
    objects = ObjectDepth()
    first = objects.next(depth, mask, STILL, None)
    second = objects.next(hidden, mask, STILL, STILL)
    assert first[mask].max() < 0.8 * depth[mask].max()
    change, whole = (np.median(np.log(each[mask] / depth[mask])) for each in (second, first))
    assert change == pytest.approx((1 - FOLLOW) * whole, rel=1e-4)
