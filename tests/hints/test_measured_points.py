"""Measured depth of one frame in another."""

import numpy as np

from st4rtrack.classical.static_depth import StaticDepth
from st4rtrack.classical.two_view import pixel_rays
from st4rtrack.geometry.camera import pixel_grid
from st4rtrack.hints.measured_points import MAX_LOG_ERROR, MeasuredPoints
from tests.seeds import SEED

SIZE = (48, 64)
FOCAL_PX = 60.0
RAYS = pixel_rays(pixel_grid(*SIZE), FOCAL_PX, SIZE).astype(np.float32)
GREY = np.random.default_rng(SEED).integers(0, 255, SIZE).astype(np.uint8)
PLANE = StaticDepth(np.full(SIZE, 3.0, np.float32), np.full(SIZE, 0.02, np.float32))


def test_points_of_a_frame_have_their_depth_in_a_camera_behind_it() -> None:
    points = MeasuredPoints.of(PLANE, np.full(SIZE, 100, np.uint8), np.eye(4), RAYS)
    behind = np.eye(4)
    behind[2, 3] = -1.0
    seen = points.seen(np.full(SIZE, 100, np.uint8), behind, FOCAL_PX)
    assert seen.known[20:28, 28:36].mean() > 0.9
    np.testing.assert_allclose(seen.depth[seen.known], 4.0, rtol=1e-5)
    assert (seen.log_error[seen.known] > 0.02).all() and not seen.known[:4].any()


def test_points_covered_by_something_of_another_brightness_are_unknown() -> None:
    points = MeasuredPoints.of(PLANE, GREY, np.eye(4), RAYS)
    covered = GREY.copy()
    covered[10:30, 10:30] = 255 - covered[10:30, 10:30]
    seen = points.seen(covered, np.eye(4), FOCAL_PX)
    assert seen.known[35:].all() and seen.known[14:26, 14:26].mean() < 0.5


def test_points_with_a_large_expected_error_are_left_out() -> None:
    unsure = StaticDepth(PLANE.depth, np.full(SIZE, 1.1 * MAX_LOG_ERROR, np.float32))
    assert len(MeasuredPoints.of(unsure, GREY, np.eye(4), RAYS).points_world) == 0


def test_merged_depth_is_the_one_with_the_smaller_expected_error() -> None:
    other = StaticDepth(
        np.full(SIZE, 5.0, np.float32), np.where(np.arange(SIZE[1]) < 30, 0.01, np.inf).astype(np.float32) + 0 * GREY
    )
    merged = PLANE.merged(other)
    assert (merged.depth[:, :30] == 5.0).all() and (merged.depth[:, 30:] == 3.0).all()
