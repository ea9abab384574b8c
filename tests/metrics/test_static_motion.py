"""Motion of static points in a reconstruction, planted."""

import numpy as np
import pytest

from st4rtrack.geometry.camera import pixel_grid, unproject
from st4rtrack.geometry.transforms import rigid, transform_points
from st4rtrack.metrics.points import FRAME_GAP, static_motion

FRAMES, HEIGHT, WIDTH = 12, 30, 40
INTRINSICS = np.array([[40.0, 0, 20], [0, 40, 15], [0, 0, 1]])


def wall() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Reconstruction, depth and cameras of a wall 3 m away, seen by a camera that moves sideways by 2 cm per frame."""
    cameras = rigid(np.tile(np.eye(3), (FRAMES, 1, 1)), np.arange(FRAMES)[:, None] * (0.02, 0.0, 0.0))
    points = unproject(pixel_grid(HEIGHT, WIDTH).reshape(-1, 2), np.full(HEIGHT * WIDTH, 3.0), INTRINSICS)
    world = np.stack([transform_points(camera, points) for camera in cameras]).reshape(FRAMES, HEIGHT, WIDTH, 3)
    return world, np.full((FRAMES, HEIGHT, WIDTH), 3.0), cameras


def test_static_motion_of_the_truth_is_zero_and_a_drift_is_found() -> None:
    world, depth, cameras = wall()
    assert static_motion(world, depth, cameras, INTRINSICS) == pytest.approx(0, abs=1e-9)
    drifting = world + np.arange(FRAMES)[:, None, None, None] * (0.0, 0.0, 0.01)
    assert static_motion(drifting, depth, cameras, INTRINSICS) == pytest.approx(0.01 * FRAME_GAP)
    assert static_motion(drifting[:, ::2, ::2], depth, cameras, INTRINSICS) == pytest.approx(0.01 * FRAME_GAP, rel=0.1)


def test_static_motion_leaves_out_moved_surfaces_and_the_foreground() -> None:
    world, depth, cameras = wall()
    right = np.zeros(depth.shape, bool)
    right[:, :, 10:] = True  # most of the wall
    away = np.where(right, 0.2, 0.0)[..., None] * np.arange(FRAMES)[:, None, None, None] * (0.0, 0.0, 1.0)
    assert static_motion(world + away, depth + away[..., 2], cameras, INTRINSICS) == pytest.approx(0, abs=1e-9)
    assert static_motion(world + away, depth, cameras, INTRINSICS) == pytest.approx(0.2 * FRAME_GAP)
    assert static_motion(world + away, depth, cameras, INTRINSICS, foreground=right) == pytest.approx(0, abs=1e-9)
    assert np.isnan(static_motion(world, np.zeros_like(depth), cameras, INTRINSICS))
    assert np.isnan(static_motion(world[:1], depth[:1], cameras[:1], INTRINSICS))
