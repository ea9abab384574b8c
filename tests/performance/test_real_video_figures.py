"""Figures of depth, cameras and 2D tracks whose errors are planted."""

import sys
from pathlib import Path

import numpy as np
import pytest

from st4rtrack.geometry.camera import intrinsics_from_focal
from st4rtrack.geometry.transforms import invert_rigid, rigid

sys.path.append(str(Path(__file__).parents[2] / "performance"))

from real_video_figures import (
    abs_rel_to_inverse_depth,
    log_disagreement,
    motion_percent,
    path_ate_percent,
    projected,
    static_reprojection_px,
    step_ratio,
    track_figures,
)

TIME, HEIGHT, WIDTH = 5, 12, 16
INTRINSICS = intrinsics_from_focal(20.0, HEIGHT, WIDTH)


@pytest.fixture
def true_depth() -> np.ndarray:
    """[time, height, width] metres, the first row unknown."""
    depth = np.random.default_rng(0).uniform(2, 6, (TIME, HEIGHT, WIDTH))
    depth[:, 0] = 0
    return depth


def path(step_m: float = 0.1) -> np.ndarray:
    """Cameras [time, 4, 4] on an arc, not all on a line."""
    time = np.arange(TIME)
    centres = np.stack([step_m * time, 0.3 * step_m * time**2, 0.1 * step_m * np.sin(time)], axis=-1)
    return rigid(np.tile(np.eye(3), (TIME, 1, 1)), centres)


def turned(degrees: float) -> np.ndarray:
    """Rotation [3, 3] about y."""
    sin, cos = np.sin(np.deg2rad(degrees)), np.cos(np.deg2rad(degrees))
    return np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])


def test_fixed_camera_has_no_steps_and_motion_in_percent_of_depth() -> None:
    fixed = np.tile(np.eye(4), (TIME, 1, 1))
    assert np.isnan(step_ratio(fixed))
    rounded = fixed.copy()
    rounded[:, 0, 3] = 1e-9 * np.random.default_rng(3).normal(size=TIME)
    assert np.isnan(step_ratio(rounded))
    moved = fixed.copy()
    moved[2, 0, 3] = 0.2
    assert motion_percent(moved, np.full((HEIGHT, WIDTH), 4.0)) == pytest.approx(5)


def test_step_ratio_one_jump_is_found_and_unsolved_frames_are_left_out() -> None:
    cameras = np.tile(np.eye(4), (8, 1, 1))
    cameras[:, 0, 3] = [0, 1, 2, 3, 8, 9, 10, 11]
    assert step_ratio(cameras) == pytest.approx(5)
    cameras[4] = np.nan
    assert step_ratio(cameras) == pytest.approx(1)


def test_path_ate_is_relative_to_the_extent_of_the_path() -> None:
    reference, predicted = path(), 2 * path()
    predicted[:, 3, 3] = 1
    assert path_ate_percent(predicted, reference) == pytest.approx(0, abs=1e-6)
    predicted[2, 2, 3] += 0.2
    assert path_ate_percent(predicted, reference) == pytest.approx(path_ate_percent(predicted, 10 * reference), rel=1e-6)
    assert path_ate_percent(predicted, reference) > 1


def test_track_figures_count_visible_points_of_frame_0_in_later_frames() -> None:
    true = np.random.default_rng(1).uniform(0, 500, (TIME, 4, 2))
    predicted = true.copy()
    predicted[:, 0] += (3.0, 0.0)  # 1.5 pixels of 256
    predicted[:, 1, 0] = np.nan  # a miss
    predicted[:, 2] += 400  # not visible in frame 0
    predicted[0] += 100  # frame 0 itself does not count
    visible = np.ones((TIME, 4), bool)
    visible[0, 2] = False
    figures = track_figures(predicted, true, visible, (384, 512))
    assert figures["within_1px_percent"] == pytest.approx(100 / 3)
    assert figures["within_2px_percent"] == figures["within_4px_percent"] == pytest.approx(200 / 3)


def test_projected_points_behind_the_camera_are_unknown() -> None:
    points = np.array([[[0.0, 0.0, 2.0], [0.0, 0.0, -2.0]]])
    pixels = projected(points, np.eye(4)[None], INTRINSICS)
    assert pixels[0, 0] == pytest.approx([WIDTH / 2, HEIGHT / 2])
    assert np.isnan(pixels[0, 1]).all()


def test_static_reprojection_takes_scale_out_and_counts_drift() -> None:
    reference = np.random.default_rng(2).uniform((-1, -1, 3), (1, 1, 5), (50, 3))
    camera_from_world = invert_rigid(rigid(turned(3.0), np.array([0.2, 0.0, 0.1])))
    arguments = (reference, camera_from_world, INTRINSICS)
    assert static_reprojection_px(reference / 7, reference / 7, *arguments) == pytest.approx(0, abs=1e-9)
    drifted = reference / 7 + np.array([0.1, 0.0, 0.0]) / 7
    assert static_reprojection_px(reference / 7, drifted, *arguments) == pytest.approx(20 * 0.1 / 4, rel=0.1)


def test_log_disagreement_is_free_of_scale(true_depth: np.ndarray) -> None:
    depth = true_depth[0]
    assert log_disagreement(5 * depth, depth) == pytest.approx(0, abs=1e-12)
    other = depth * np.exp(np.where(np.arange(WIDTH) % 2, 0.3, -0.3))
    assert log_disagreement(other, depth) == pytest.approx(0.3, rel=0.05)


def test_abs_rel_to_inverse_depth_is_free_of_scale_and_shift_and_robust(true_depth: np.ndarray) -> None:
    depth = true_depth[0]
    inverse = np.zeros_like(depth)
    inverse[1:] = 40 / depth[1:] - 3
    assert abs_rel_to_inverse_depth(depth, inverse) == pytest.approx(0, abs=1e-6)
    wrong = depth.copy()
    wrong[1] *= 2  # a row of eleven
    assert abs_rel_to_inverse_depth(wrong, inverse) == pytest.approx(1 / 11, rel=0.05)
