"""Dynamic pixels by optical flow that no static point explains, and objects that stand on the ground."""

import numpy as np
import pytest

from st4rtrack.classical.two_view import pixel_rays
from st4rtrack.geometry.camera import pixel_grid
from st4rtrack.geometry.transforms import rigid, transform_maps
from st4rtrack.hints.dynamic import dynamic_pixels, standing_on_ground
from st4rtrack.hints.steps import Flows

SIZE, FOCAL, DEPTH = (48, 64), 60.0, 4.0
SQUARE = np.s_[16:32, 24:40]
OFFSETS = (-2, -1, 1, 2)


def camera(t: int) -> np.ndarray:
    """`other_from_frame` [4, 4] of a camera that goes sideways."""
    return rigid(np.eye(3), np.array([-0.15 * t, 0.0, 0.0]))


def flows(t: int, velocity: tuple[float, float] = (0.0, 0.0)) -> Flows:
    """True flow of a wall, on which a square moves by pixels per frame in addition."""
    grid = pixel_grid(*SIZE)

    def to(relative: np.ndarray, shift: float) -> np.ndarray:
        points = transform_maps(relative, pixel_rays(grid, FOCAL, SIZE) * DEPTH)
        flow = points[..., :2] / points[..., 2:] * FOCAL + (SIZE[1] / 2, SIZE[0] / 2) - grid
        flow[SQUARE] += shift * np.array(velocity)
        return flow.astype(np.float32)

    forward = to(camera(t), t)
    backward = -forward  # of a wall that is parallel to the image
    return forward, backward


def found(velocity: tuple[float, float], depth: np.ndarray, measured: np.ndarray) -> np.ndarray:
    return dynamic_pixels(depth, measured, [flows(t, velocity) for t in OFFSETS], [camera(t) for t in OFFSETS], FOCAL)


def test_dynamic_pixels_square_moving_across_the_epipolar_lines_is_found() -> None:
    mask = found((0.0, 1.5), np.full(SIZE, DEPTH, np.float32), np.zeros(SIZE, bool))
    square = np.zeros(SIZE, bool)
    square[SQUARE] = True
    assert mask[square].mean() > 0.75
    assert mask[~square].mean() < 0.02


@pytest.mark.parametrize("factor", [0.5, 2.0])
def test_dynamic_pixels_wrong_prior_of_a_static_scene_is_not_motion(factor: float) -> None:
    wrong = np.full(SIZE, DEPTH, np.float32)
    wrong[SQUARE] *= factor
    assert not found((0.0, 0.0), wrong, np.zeros(SIZE, bool)).any()


def test_dynamic_pixels_measured_static_depth_is_static() -> None:
    assert not found((0.0, 1.5), np.full(SIZE, DEPTH, np.float32), np.ones(SIZE, bool)).any()


def test_dynamic_pixels_without_other_frames_are_none() -> None:
    assert not dynamic_pixels(np.ones(SIZE, np.float32), np.zeros(SIZE, bool), [], [], FOCAL).any()


def test_standing_on_ground_object_is_no_farther_than_where_it_touches_the_ground() -> None:
    ground = np.repeat(np.linspace(8.0, 2.0, SIZE[0])[:, None], SIZE[1], axis=1).astype(np.float32)
    dynamic = np.zeros(SIZE, bool)
    dynamic[10:30, 20:28] = True
    depth = ground.copy()
    feet = ground[30, 0]
    depth[dynamic] = np.repeat(np.linspace(5.0, feet, 20), 8)  # the head bends back towards the background
    placed = standing_on_ground(depth, dynamic)
    assert placed[dynamic].max() <= ground[29, 0]
    assert placed[dynamic].min() >= feet * 0.9
    np.testing.assert_array_equal(placed[~dynamic], depth[~dynamic])


def test_standing_on_ground_region_that_does_not_stand_out_keeps_its_depth() -> None:
    depth = np.full(SIZE, 5.0, np.float32)
    depth[30:] = 4.8
    dynamic = np.zeros(SIZE, bool)
    dynamic[10:30, 20:28] = True
    np.testing.assert_array_equal(standing_on_ground(depth, dynamic), depth)
