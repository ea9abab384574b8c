import cv2
import numpy as np
import pytest

from st4rtrack.geometry.camera import intrinsics_from_focal, pixel_grid, unproject
from st4rtrack.metrics.tapvid3d import expected_calibration_error
from st4rtrack.pipeline.visibility import visibility_probability
from st4rtrack.types import Pointmap, TwoPointmaps

HEIGHT, WIDTH = 96, 128
INTRINSICS = intrinsics_from_focal(120.0, HEIGHT, WIDTH)
GREY = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)


def plane(depth: float | np.ndarray) -> np.ndarray:
    depths = np.broadcast_to(depth, (HEIGHT, WIDTH)).reshape(-1)
    return unproject(pixel_grid(HEIGHT, WIDTH).reshape(-1, 2), depths, INTRINSICS).reshape(HEIGHT, WIDTH, 3)


def probability(tracking: np.ndarray, reconstruction: np.ndarray, camera: np.ndarray | None = None, **more) -> np.ndarray:
    maps = TwoPointmaps(Pointmap(tracking), Pointmap(reconstruction))
    return visibility_probability(maps, np.eye(4) if camera is None else camera, INTRINSICS, GREY, GREY, **more)


def with_occluders(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Depth of a wall behind which nothing is, with three things before it, and what they hide [height, width] bool."""
    depth, hidden = np.full((HEIGHT, WIDTH), 4.0), np.zeros((HEIGHT, WIDTH), bool)
    for nearer, left in ((0.8, 2), (0.6, 50), (0.4, 90)):
        row, column = rng.integers(0, HEIGHT - 30), left + rng.integers(0, 3)
        hidden[row : row + 30, column : column + 30] = True
        depth[row : row + 30, column : column + 30] = 4.0 * nearer
    return depth, hidden


def painted(rng: np.random.Generator) -> np.ndarray:
    """An image of patches [height, width, 3] uint8."""
    return np.kron(rng.integers(40, 200, (HEIGHT // 8, WIDTH // 8, 3)), np.ones((8, 8, 1))).astype(np.uint8)


@pytest.mark.parametrize("noise", [0.0, 0.003, 0.005])
def test_planted_occlusions_are_found_through_noise(noise: float) -> None:
    right, found, said, seen = [], [], [], []
    for seed in range(6):
        rng = np.random.default_rng(seed)
        depth, hidden = with_occluders(rng)
        then = painted(rng)
        now = np.where(hidden[..., None], painted(rng), then)
        wrong = [np.exp(noise * (rng.standard_normal((HEIGHT, WIDTH)) + rng.standard_normal())) for _ in range(2)]
        outlier = rng.random((HEIGHT, WIDTH)) < 0.01
        wrong[0][outlier] *= np.exp(rng.normal(0, 0.5, outlier.sum()))
        maps = TwoPointmaps(Pointmap(plane(4.0 * wrong[0])), Pointmap(plane(depth * wrong[1])))
        likely = visibility_probability(maps, np.eye(4), INTRINSICS, then, now)
        right.append(np.mean((likely > 0.5) == ~hidden))
        inner = cv2.erode(hidden.astype(np.uint8), np.ones((5, 5))) > 0  # at the rim either is right to within a pixel
        found.append(np.mean(likely[inner] <= 0.5))
        said.append(likely)
        seen.append(~hidden)
    assert np.mean(right) > 0.95 and np.mean(found) > 0.95
    assert expected_calibration_error(np.stack(said), np.stack(seen)) < 0.05


def test_what_leaves_the_image_or_is_behind_the_camera_is_hidden() -> None:
    moved = np.eye(4)
    moved[0, 3] = 1000.0
    assert (probability(plane(4.0), plane(4.0), moved) < 0.5).all()
    turned = np.diag([-1.0, 1.0, -1.0, 1.0])
    assert (probability(plane(4.0), plane(4.0), turned) == 0).all()


def test_near_the_border_nobody_is_sure() -> None:
    moved = np.eye(4)
    moved[0, 3] = 1.0  # 30 pixels
    likely = probability(plane(4.0), plane(4.0), moved)
    outside, middle = pixel_grid(HEIGHT, WIDTH)[..., 0] < 30, slice(50, WIDTH)
    assert (likely[8:-8, middle][..., :-8] > 0.9).all() and (likely[:, :20] < 0.1).all()
    rim = likely[10:-10, 28:32]
    assert ((rim > 0.05) & (rim < 0.99)).all()
    assert ((likely > 0.5) != outside)[10:-10].mean() > 0.97


def test_another_look_makes_a_point_less_likely_to_be_seen() -> None:
    rng = np.random.default_rng(0)
    then = painted(rng)
    now = then.copy()
    now[32:64, 32:64] = 255 - now[32:64, 32:64]
    maps = TwoPointmaps(Pointmap(plane(4.0)), Pointmap(plane(4.0)))
    same, other = (visibility_probability(maps, np.eye(4), INTRINSICS, then, image) for image in (then, now))
    brighter = visibility_probability(maps, np.eye(4), INTRINSICS, then, np.minimum(then * 1.2, 255).astype(np.uint8))
    assert (other[38:58, 38:58] < same[38:58, 38:58]).mean() > 0.9
    assert other[38:58, 38:58].mean() < same[38:58, 38:58].mean() - 0.01
    np.testing.assert_allclose(brighter, same, atol=0.02)


def test_a_track_that_does_not_come_back_is_less_likely_to_be_seen() -> None:
    error = np.full((HEIGHT, WIDTH), 0.0)
    error[:, WIDTH // 2 :] = 0.05
    error[0] = np.nan
    without, likely = probability(plane(4.0), plane(4.0)), probability(plane(4.0), plane(4.0), cycle_error=error)
    assert likely[1:, : WIDTH // 2].mean() > likely[1:, WIDTH // 2 :].mean()
    np.testing.assert_array_equal(likely[0], without[0])


def test_points_that_are_not_finite_are_hidden() -> None:
    points = plane(4.0)
    points[0, 0] = np.nan
    likely = probability(points, plane(4.0))
    assert likely[0, 0] == 0 and (likely[8:-8, 8:-8] > 0.9).all()
    assert (probability(np.full_like(points, np.nan), plane(4.0)) == 0).all()
    surface = plane(4.0)
    surface[20:30] = np.nan
    assert np.isfinite(probability(plane(4.0), surface)).all()
