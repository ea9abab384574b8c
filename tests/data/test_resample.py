"""Parts of images at other sizes: planes stay exact, edges stay edges, windows stay inside."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from st4rtrack.data.resample import Framing, Window, choose_window, resample_depth, resample_labels, resample_rgb
from st4rtrack.geometry.camera import pixel_grid, project, unproject

SIDES = st.integers(4, 60)
FRAMINGS = st.builds(Framing, st.floats(0.3, 1.0), st.tuples(st.floats(0, 1), st.floats(0, 1)))
INTRINSICS = np.array([[40.0, 0, 21.0], [0, 38.0, 15.0], [0, 0, 1.0]])


@given(SIDES, SIDES, SIDES, SIDES, FRAMINGS)
def test_windows_lie_inside_and_have_the_wanted_shape(height: int, width: int, rows: int, columns: int, framing: Framing) -> None:
    window = choose_window((height, width), (rows, columns), framing)
    assert 0 <= window.top <= window.top + window.rows <= height and 0 <= window.left <= window.left + window.columns <= width
    assert (window.height, window.width) == (rows, columns)
    pixels = min(height / rows, width / columns) * framing.share
    assert abs(window.rows - rows * pixels) <= 0.5 + 1e-9 or window.rows == 1
    assert abs(window.columns - columns * pixels) <= 0.5 + 1e-9 or window.columns == 1


def test_windows_of_the_published_sizes() -> None:
    assert choose_window((540, 960), (288, 512), Framing()) == Window(0, 0, 540, 960, 288, 512)
    assert choose_window((720, 1280), (288, 512), Framing()) == Window(0, 0, 720, 1280, 288, 512)
    assert choose_window((512, 512), (288, 512), Framing(place=(0.5, 1.0))) == Window(224, 0, 288, 512, 288, 512)
    assert choose_window((512, 512), (288, 512), Framing()).top == 112


@settings(deadline=None, max_examples=60)
@given(FRAMINGS, st.integers(8, 70), st.integers(8, 70), st.floats(-0.25, 0.25), st.floats(-0.25, 0.25))
def test_points_of_a_plane_stay_on_it(framing: Framing, rows: int, columns: int, a: float, b: float) -> None:
    """A slanted plane a x + b y + z = 3, at any size and place: un-projected with the new camera it is the same plane."""
    normal = np.array([a, b, 1.0])
    rays = unproject(pixel_grid(30, 42), np.ones((30, 42)), INTRINSICS)
    window = choose_window((30, 42), (rows, columns), framing)
    depth = resample_depth((3.0 / (rays @ normal)).astype(np.float32), window)
    points = unproject(pixel_grid(rows, columns), depth.astype(np.float64), window.intrinsics(INTRINSICS))
    np.testing.assert_allclose(points @ normal, 3.0, rtol=2e-6)


@given(FRAMINGS, st.integers(4, 70), st.integers(4, 70), st.integers(0, 2**31))
def test_nothing_is_made_up_at_edges(framing: Framing, rows: int, columns: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    depth = rng.choice(np.array([0.0, 1.0, 2.0, 2.04], np.float32), (20, 24))
    window = choose_window(depth.shape, (rows, columns), framing)
    found = resample_depth(depth, window)
    near = np.abs(found[..., None] - [0.0, 1.0]).min(axis=-1) < 1e-6
    assert (near | ((found > 1.93) & (found < 2.11))).all()  # half a pixel beyond the last centres the line goes on
    labels = (np.arange(20)[:, None] * np.ones((1, 24))).astype(np.uint8)
    steps = 2 + 0.01 * labels.astype(np.float32)  # one surface but for its labels
    of_label = 2 + 0.01 * resample_labels(labels, window)
    np.testing.assert_allclose(resample_depth(steps, window, labels), of_label, rtol=1e-6)


@given(FRAMINGS)
def test_the_camera_of_a_window_sees_the_same_pixels(framing: Framing) -> None:
    """A picture whose colours are its pixel's place: where a point is seen, the new picture has the colour of its old place."""
    u, v = np.meshgrid(np.arange(96) + 0.5, np.arange(72) + 0.5)
    image = np.stack([2 * u, 3 * v, np.zeros_like(u)], axis=-1).astype(np.uint8)
    window = choose_window((72, 96), (36, 48), framing)
    small = resample_rgb(image, window).astype(float)
    intrinsics = np.array([[80.0, 0, 48.0], [0, 80.0, 36.0], [0, 0, 1.0]])
    points = unproject(pixel_grid(36, 48), np.full((36, 48), 2.0), window.intrinsics(intrinsics))
    before = project(points.reshape(-1, 3), intrinsics).reshape(36, 48, 2)
    inner = (slice(2, -2), slice(2, -2))
    assert np.abs(small[..., 0] - 2 * before[..., 0])[inner].mean() < 1.1  # whole numbers, rounded twice
    assert np.abs(small[..., 1] - 3 * before[..., 1])[inner].mean() < 1.1


def test_the_same_size_changes_nothing() -> None:
    rng = np.random.default_rng(0)
    depth = rng.uniform(1, 1.04, (9, 12)).astype(np.float32)
    depth[3, 4], depth[7, 11] = 0, 30
    window = choose_window(depth.shape, depth.shape, Framing())
    np.testing.assert_allclose(resample_depth(depth, window), depth, rtol=1e-6)
    image = rng.integers(0, 255, (9, 12, 3), dtype=np.uint8)
    np.testing.assert_array_equal(resample_rgb(image, window), image)
    np.testing.assert_array_equal(window.intrinsics(INTRINSICS), INTRINSICS)


@pytest.mark.parametrize("size", [(1, 5), (5, 1), (1, 1)])
def test_images_of_one_line(size: tuple[int, int]) -> None:
    depth = np.full(size, 2.0, np.float32)
    np.testing.assert_allclose(resample_depth(depth, Window(0, 0, *size, 3, 4)), 2.0)
