"""Geometry where the input says too little, is too small or too large, or is not there."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from st4rtrack.geometry.align import Sim3, median_scale, umeyama
from st4rtrack.geometry.camera import intrinsics_from_focal, pixel_grid, project, unproject
from st4rtrack.geometry.differentiable_cameras import gauss_newton_step, project_everywhere
from st4rtrack.geometry.sampling import inside_image, nearest_pixel, sample_map
from st4rtrack.geometry.transforms import invert_rigid, rigid, rotation_angle, transform_points
from st4rtrack.pipeline.cameras import weiszfeld_focal
from tests.properties import CLOUDS, DEGENERATE, SCALES, SEEDS, cloud, is_rotation, rotation
from tests.seeds import SEED

HEIGHT, WIDTH, FOCAL = 12, 16, 20.0
INTRINSICS = intrinsics_from_focal(FOCAL, HEIGHT, WIDTH)


def similarity(seed: int, scale: float, unit: float = 1.0) -> Sim3:
    """Of which the shift is as large as a cloud in this unit."""
    return Sim3(scale, rotation(seed), scale * unit * np.random.default_rng(seed + SEED).normal(size=3))


def surface(seed: int) -> np.ndarray:
    """[height, width, 3] what a camera of `INTRINSICS` sees."""
    depth = np.random.default_rng(seed + SEED).uniform(2, 4, HEIGHT * WIDTH)
    return unproject(pixel_grid(HEIGHT, WIDTH).reshape(-1, 2), depth, INTRINSICS).reshape(HEIGHT, WIDTH, 3)


@settings(max_examples=30)
@given(seed=SEEDS, kind=CLOUDS, scale=SCALES, unit=SCALES)
def test_a_similarity_fits_what_it_is_given_however_little_that_says(seed: int, kind: str, scale: float, unit: float) -> None:
    source = unit * cloud(kind, seed)
    target = similarity(seed + 1, scale, unit)(source)
    if kind == "one place":
        with pytest.raises(ValueError, match="equal"):
            umeyama(source, target)
        return
    found = umeyama(source, target)
    assert is_rotation(found.rotation) and found.scale == pytest.approx(scale, rel=1e-6)
    np.testing.assert_allclose(found(source), target, atol=1e-6 * np.abs(target).max())


@settings(max_examples=20)
@given(seed=SEEDS, unit=SCALES)
def test_a_similarity_does_not_know_the_order_of_points_and_follows_both_sides(seed: int, unit: float) -> None:
    rng = np.random.default_rng(seed + SEED)
    source, target = cloud("volume", seed), cloud("volume", seed + 1)
    found, order = umeyama(source, target), rng.permutation(len(source))
    shuffled = umeyama(source[order], target[order])
    np.testing.assert_allclose(shuffled(source), found(source), atol=1e-9)
    moved = similarity(seed + 2, unit)
    np.testing.assert_allclose(umeyama(source, moved(target))(source), moved(found(source)), atol=1e-6 * unit)
    np.testing.assert_allclose(umeyama(unit * source, target)(unit * source), found(source), atol=1e-6)


@settings(max_examples=20)
@given(seed=SEEDS, kind=st.sampled_from(DEGENERATE))
def test_targets_in_one_place_are_met_and_no_point_is_none(seed: int, kind: str) -> None:
    source, place = cloud("volume", seed), np.full((40, 3), 2.5)
    found = umeyama(source, place)
    assert found.scale == pytest.approx(0, abs=1e-9) and is_rotation(found.rotation)
    np.testing.assert_allclose(found(source), place, atol=1e-9)
    with pytest.raises(ValueError, match="three"):
        umeyama(cloud(kind, seed)[:1], place[:1])
    with pytest.raises(ValueError, match="equal"):
        umeyama(source, place, weights=np.zeros(40))
    with pytest.raises(ValueError, match="finite"):
        umeyama(np.where(source == source[3], np.nan, source), place)


@settings(max_examples=20)
@given(seed=SEEDS, unit=SCALES)
def test_the_focal_length_knows_no_unit_and_no_order(seed: int, unit: float) -> None:
    points = surface(seed)
    order = np.random.default_rng(seed + SEED).permutation(HEIGHT * WIDTH)
    pixels = pixel_grid(HEIGHT, WIDTH) - (WIDTH / 2, HEIGHT / 2)
    for dtype in (np.float32, np.float64):
        assert weiszfeld_focal((unit * points).astype(dtype)) == pytest.approx(FOCAL, rel=1e-5)
    shuffled = [each.reshape(HEIGHT * WIDTH, -1)[order].reshape(HEIGHT, WIDTH, -1) for each in (points, pixels)]
    assert weiszfeld_focal(shuffled[0], pixels_px=shuffled[1]) == pytest.approx(FOCAL)


@settings(max_examples=20)
@given(seed=SEEDS, share=st.floats(0, 0.9), spoil=st.sampled_from([np.nan, np.inf, 0.0, -1.0]))
def test_the_focal_length_sees_only_pixels_that_weigh(seed: int, share: float, spoil: float) -> None:
    points = surface(seed)
    weights = (np.random.default_rng(seed + SEED).random((HEIGHT, WIDTH)) >= share).astype(float)
    points[weights == 0] = spoil
    assert weiszfeld_focal(points, weights=weights) == pytest.approx(FOCAL)
    with pytest.raises(ValueError, match="focal"):
        weiszfeld_focal(points, weights=np.zeros((HEIGHT, WIDTH)))


def test_one_pixel_at_the_principal_point_says_nothing_of_a_focal_length() -> None:
    with pytest.raises(ValueError, match="focal"):
        weiszfeld_focal(np.array([[[0.0, 0.0, 2.0]]]))


@settings(max_examples=20)
@given(seed=SEEDS, unit=SCALES)
def test_projection_knows_no_unit_and_its_inverse_no_size(seed: int, unit: float) -> None:
    points = surface(seed).reshape(-1, 3)
    np.testing.assert_allclose(project(unit * points, INTRINSICS), pixel_grid(HEIGHT, WIDTH).reshape(-1, 2), atol=1e-9)
    camera = rigid(rotation(seed), unit * np.random.default_rng(seed + SEED).normal(size=3))
    np.testing.assert_allclose(invert_rigid(camera) @ camera, np.eye(4), atol=1e-9 * max(unit, 1))
    back = transform_points(invert_rigid(camera), transform_points(camera, unit * points))
    np.testing.assert_allclose(back, unit * points, atol=1e-12 * unit * 10)


@settings(max_examples=20)
@given(seed=SEEDS, exponent=st.floats(-9, 0))
def test_an_angle_is_exact_at_any_size_and_about_any_axis(seed: int, exponent: float) -> None:
    angle = np.pi * 10.0**exponent
    turn = np.eye(3)
    turn[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    basis = rotation(seed)
    assert rotation_angle(basis @ turn @ basis.T) == pytest.approx(angle, rel=1e-6, abs=1e-15)


@settings(max_examples=30)
@given(st.integers(1, 5), st.integers(1, 5), st.lists(st.floats(-1e12, 1e12), min_size=2, max_size=2))
def test_a_map_of_any_size_is_read_anywhere(height: int, width: int, place: list[float]) -> None:
    values = np.random.default_rng(height * 10 + width).normal(size=(height, width))
    pixel = np.array(place)
    found = float(sample_map(values, pixel))
    assert values.min() - 1e-9 <= found <= values.max() + 1e-9
    tensor = sample_map(torch.from_numpy(values), torch.from_numpy(pixel))
    assert float(tensor) == pytest.approx(found)
    row, column = nearest_pixel(pixel, height, width)
    assert 0 <= row < height and 0 <= column < width
    if inside_image(pixel, height, width):
        assert abs(row + 0.5 - pixel[1]) <= 0.5 and abs(column + 0.5 - pixel[0]) <= 0.5


@settings(max_examples=30)
@given(seed=SEEDS, unit=SCALES, dtype=st.sampled_from([torch.float32, torch.float64]), turned=st.booleans())
def test_projection_everywhere_is_finite_and_knows_no_unit(seed: int, unit: float, dtype: torch.dtype, turned: bool) -> None:
    points = cloud("volume", seed) * (1.0, 1.0, -1.0 if turned else 1.0)
    points[:3, 2] = 0.0, 1e-9, -1e-3  # in the plane of the camera, and just off it
    intrinsics = torch.from_numpy(INTRINSICS).to(dtype)
    pixels, gradients = [], []
    for factor in (1.0, unit):
        leaf = torch.from_numpy(factor * points).to(dtype).requires_grad_()
        pixels.append(project_everywhere(leaf, intrinsics))
        gradients.append(torch.autograd.grad(pixels[-1].sum(), leaf)[0] * factor)
    assert all(each.isfinite().all() for each in (*pixels, *gradients))
    torch.testing.assert_close(pixels[1], pixels[0], rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-3, atol=1e-2)


@settings(max_examples=20)
@given(seed=SEEDS, unit=SCALES, kind=st.sampled_from(["surface", *DEGENERATE]))
def test_a_step_of_a_camera_is_rigid_finite_and_knows_no_unit(seed: int, unit: float, kind: str) -> None:
    points = torch.from_numpy(surface(seed).reshape(-1, 3) if kind == "surface" else cloud(kind, seed, HEIGHT * WIDTH))
    pixels = torch.from_numpy(pixel_grid(HEIGHT, WIDTH).reshape(-1, 2))
    start = torch.eye(4, dtype=torch.float64)[None]
    start[0, :3, 3] = torch.tensor([0.02, -0.01, 0.03])
    found = []
    for factor in (1.0, unit):
        moved = start.clone()
        moved[:, :3, 3] *= factor
        leaf, weights = (factor * points)[None].requires_grad_(), torch.ones(1, len(points)).requires_grad_()
        step = gauss_newton_step(moved, leaf, pixels, weights, torch.from_numpy(INTRINSICS))
        assert all(each.isfinite().all() for each in torch.autograd.grad(step.square().sum(), (leaf, weights)))
        assert is_rotation(step[0, :3, :3].detach().numpy())
        step = step.detach()
        step[:, :3, 3] /= factor
        found.append(step)
    torch.testing.assert_close(found[1], found[0], rtol=1e-4, atol=1e-5)


@settings(max_examples=20)
@given(seed=SEEDS, unit=SCALES)
def test_the_median_scale_knows_no_direction_and_no_order(seed: int, unit: float) -> None:
    source, target = cloud("volume", seed), cloud("volume", seed + 1)
    expected = median_scale(source, target)
    turned = source @ rotation(seed).T
    assert median_scale(turned[::-1], target) == pytest.approx(expected)
    assert median_scale(source, unit * target) == pytest.approx(expected * unit, rel=1e-9, abs=1e-12)
    assert np.isfinite(median_scale(np.zeros((1, 3)), np.zeros((1, 3))))
