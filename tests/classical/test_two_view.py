import numpy as np
import pytest

from st4rtrack.classical.two_view import TwoView, estimate_two_view, flow_through
from st4rtrack.geometry.camera import pixel_grid
from st4rtrack.geometry.transforms import rotation_angle
from tests.moving_camera import HEIGHT, WIDTH, Walk, points_on_walls, walk

FRAME = 6


@pytest.fixture(scope="module")
def video() -> Walk:
    """Two walls, seen by a moving camera with the assumed field of view."""
    return walk(16)


@pytest.fixture(scope="module")
def found(video: Walk) -> TwoView:
    return estimate_two_view(video.rgb[0], video.rgb[FRAME])


def test_camera_and_depth_of_a_static_scene(video: Walk, found: TwoView) -> None:
    true = video.world_from_camera[FRAME]
    assert np.rad2deg(rotation_angle(found.anchor_from_frame[:3, :3].T @ true[:3, :3])) < 1.5
    direction = found.anchor_from_frame[:3, 3] @ true[:3, 3]
    assert direction > 0.97 * np.linalg.norm(found.anchor_from_frame[:3, 3]) * np.linalg.norm(true[:3, 3])
    known = found.anchor_depth > 0
    assert known.mean() > 0.3
    depth = points_on_walls(pixel_grid(HEIGHT, WIDTH).reshape(-1, 2))[:, 2].reshape(HEIGHT, WIDTH)
    ratio = np.log(found.anchor_depth[known] / depth[known])
    assert np.median(np.abs(ratio - np.median(ratio))) < 0.1


def test_the_same_images_give_the_same_estimate_and_no_motion(video: Walk, found: TwoView) -> None:
    again = estimate_two_view(video.rgb[0], video.rgb[FRAME])
    np.testing.assert_array_equal(again.anchor_from_frame, found.anchor_from_frame)
    np.testing.assert_array_equal(again.anchor_depth, found.anchor_depth)
    still = estimate_two_view(video.rgb[0], video.rgb[0])
    assert np.abs(still.forward_flow).max() < 0.5
    assert not still.anchor_depth.any()
    np.testing.assert_allclose(still.anchor_from_frame, np.eye(4), atol=1e-3)


def test_a_flow_through_matches_is_smooth_and_right_where_they_are() -> None:
    rng = np.random.default_rng(0)
    source = rng.uniform((0, 0), (160, 120), (200, 2))
    turn = np.array([[0.98, 0.06], [-0.05, 1.03]])
    flow = flow_through(source, source @ turn.T + (7.0, -3.0), 120, 160)
    expected = pixel_grid(120, 160) @ (turn - np.eye(2)).T + (7.0, -3.0)
    assert flow.shape == (120, 160, 2)
    error = np.linalg.norm(flow - expected, axis=-1)
    assert np.median(error) < 0.5 and error[10:-10, 10:-10].max() < 2.0
    assert np.abs(np.diff(flow, axis=0)).max() < 1.0, "no edges"
    alone = flow_through(np.array([[80.0, 60.0]]), np.array([[84.0, 61.0]]), 120, 160)
    np.testing.assert_allclose(alone[60, 80], (4, 1), atol=0.1)
