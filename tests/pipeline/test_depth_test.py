import numpy as np

from st4rtrack.geometry.camera import intrinsics_from_focal, pixel_grid, unproject
from st4rtrack.pipeline.depth_test import visible_points

HEIGHT, WIDTH = 24, 32
INTRINSICS = intrinsics_from_focal(30.0, HEIGHT, WIDTH)


def plane(depth: float | np.ndarray) -> np.ndarray:
    depths = np.broadcast_to(depth, (HEIGHT, WIDTH)).reshape(-1)
    return unproject(pixel_grid(HEIGHT, WIDTH).reshape(-1, 2), depths, INTRINSICS).reshape(HEIGHT, WIDTH, 3)


def test_what_lies_behind_the_surface_is_hidden() -> None:
    surface = np.full((HEIGHT, WIDTH), 4.0)
    surface[8:16, 8:16] = 2.0  # an occluder comes in front of a wall
    visible = visible_points(plane(4.0), plane(surface), np.eye(4), INTRINSICS)
    expected = np.ones((HEIGHT, WIDTH), bool)
    expected[8:16, 8:16] = False
    assert (visible != expected)[9:15, 9:15].sum() == 0
    assert (visible != expected).sum() <= 4 * 8  # at most the rim, which the deeper neighbour lets through


def test_what_leaves_the_image_or_is_behind_the_camera_is_hidden() -> None:
    moved = np.eye(4)
    moved[0, 3] = 1000.0
    assert not visible_points(plane(4.0), plane(4.0), moved, INTRINSICS).any()
    turned = np.diag([-1.0, 1.0, -1.0, 1.0])
    assert not visible_points(plane(4.0), plane(4.0), turned, INTRINSICS).any()


def test_noise_of_the_branches_does_not_hide_what_is_seen() -> None:
    rng = np.random.default_rng(0)
    noisy = plane(4.0 * np.exp(0.02 * rng.standard_normal((HEIGHT, WIDTH))))
    assert visible_points(noisy, plane(4.0), np.eye(4), INTRINSICS).mean() > 0.95


def test_points_that_are_not_finite_are_hidden() -> None:
    points = plane(4.0)
    points[0, 0] = np.nan
    visible = visible_points(points, plane(4.0), np.eye(4), INTRINSICS)
    assert not visible[0, 0] and visible[1:].all()
