import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from st4rtrack.geometry.align import median_scale, umeyama
from st4rtrack.geometry.camera import intrinsics_from_focal, pixel_grid, project, scale_intrinsics, unproject
from st4rtrack.geometry.sampling import inside_image, nearest_pixel, sample_map
from st4rtrack.geometry.transforms import invert_rigid, rigid, rotation_angle, transform_maps, transform_points
from st4rtrack.pipeline.cameras import weiszfeld_focal
from tests.seeds import SEED
from tests.shared_data import shared

seeds = st.integers(0, 2**31)


def random_rigid(rng: np.random.Generator, *axes: int) -> np.ndarray:
    u, _, vt = np.linalg.svd(rng.standard_normal((*axes, 3, 3)))
    rotation = u @ vt
    rotation[..., 0] *= np.linalg.det(rotation)[..., None]
    return rigid(rotation, rng.standard_normal((*axes, 3)))


@settings(deadline=None, max_examples=20)
@given(seeds)
def test_a_rigid_transform_and_its_inverse_undo_each_other(seed: int) -> None:
    rng = np.random.default_rng(seed + SEED)
    a_from_b = random_rigid(rng, 4)
    points = rng.standard_normal((4, 7, 3))
    back = transform_points(invert_rigid(a_from_b), transform_points(a_from_b, points))
    np.testing.assert_allclose(back, points, atol=1e-12)
    np.testing.assert_allclose(invert_rigid(a_from_b), np.linalg.inv(a_from_b), atol=1e-12)


def test_tensors_and_arrays_agree() -> None:
    rng = np.random.default_rng(SEED)
    a_from_b, maps = random_rigid(rng, 2), rng.standard_normal((2, 3, 4, 3))
    expected = transform_maps(a_from_b, maps)
    np.testing.assert_allclose(transform_maps(torch.from_numpy(a_from_b), torch.from_numpy(maps)).numpy(), expected)
    np.testing.assert_allclose(invert_rigid(torch.from_numpy(a_from_b)).numpy(), invert_rigid(a_from_b))
    intrinsics = intrinsics_from_focal(80.0, 48, 64)
    pixels, depth = rng.uniform(0, 60, (5, 2)), rng.uniform(1, 3, 5)
    tensors = [torch.from_numpy(x) for x in (pixels, depth, intrinsics)]
    np.testing.assert_allclose(unproject(*tensors).numpy(), unproject(pixels, depth, intrinsics))
    values = rng.standard_normal((6, 5, 3))
    sampled = sample_map(torch.from_numpy(values), torch.from_numpy(pixels / 12))
    np.testing.assert_allclose(sampled.numpy(), sample_map(values, pixels / 12))


@settings(deadline=None, max_examples=20)
@given(seeds)
def test_projection_undoes_unprojection(seed: int) -> None:
    rng = np.random.default_rng(seed + SEED)
    intrinsics = intrinsics_from_focal(rng.uniform(50, 200), 48, 64)
    pixels, depth = rng.uniform(0, 64, (9, 2)), rng.uniform(0.1, 10, 9)
    np.testing.assert_allclose(project(unproject(pixels, depth, intrinsics), intrinsics), pixels, atol=1e-9)


def test_intrinsics_follow_a_resize_and_a_crop() -> None:
    intrinsics = intrinsics_from_focal(100.0, 48, 64)
    points = np.array([[0.1, -0.2, 2.0], [0.3, 0.1, 1.5]])
    changed = scale_intrinsics(intrinsics, (0.5, 0.25), (-3.0, 2.0))
    np.testing.assert_allclose(project(points, changed), project(points, intrinsics) * (0.5, 0.25) + (-3.0, 2.0))


def test_the_centre_of_the_first_pixel_is_one_half() -> None:
    grid = pixel_grid(3, 4)
    assert grid.shape == (3, 4, 2)
    np.testing.assert_array_equal(grid[0, 0], (0.5, 0.5))
    np.testing.assert_array_equal(grid[2, 3], (3.5, 2.5))


def test_sampling_gives_pixels_at_their_centres_and_is_linear_between() -> None:
    u, v = np.moveaxis(pixel_grid(5, 7), -1, 0)
    plane = 2 * u - 3 * v + 1
    np.testing.assert_allclose(sample_map(plane, pixel_grid(5, 7)), plane)
    inner = np.random.default_rng(SEED).uniform((0.5, 0.5), (6.5, 4.5), (50, 2))
    np.testing.assert_allclose(sample_map(plane, inner), 2 * inner[:, 0] - 3 * inner[:, 1] + 1)
    np.testing.assert_allclose(sample_map(plane, np.array([[0.0, 0.0], [7.0, 5.0]])), [plane[0, 0], plane[-1, -1]])
    one = np.full((1, 1, 3), 4.0)
    np.testing.assert_allclose(sample_map(one, np.array([[0.2, 0.9]])), [[4.0] * 3])


def test_sampling_has_the_gradient_of_a_bilinear_surface() -> None:
    generator = torch.Generator().manual_seed(SEED)
    values = torch.randn(4, 5, 2, dtype=torch.float64, generator=generator, requires_grad=True)
    pixels = (torch.rand(6, 2, dtype=torch.float64, generator=generator) * 2.9 + 0.6).requires_grad_()
    assert torch.autograd.gradcheck(sample_map, (values, pixels))


def test_which_pixel_and_whether_inside() -> None:
    pixels = np.array([[0.0, 0.0], [0.99, 1.0], [4.0, 2.9], [-0.1, 1.0]])
    row, column = nearest_pixel(pixels, 3, 4)
    assert row.tolist() == [0, 1, 2, 1] and column.tolist() == [0, 0, 3, 0]
    assert inside_image(pixels, 3, 4).tolist() == [True, True, False, False]


def test_focal_of_exact_points_is_exact_and_outliers_do_not_move_it() -> None:
    intrinsics = intrinsics_from_focal(70.0, 48, 64)
    rng = np.random.default_rng(SEED)
    depth = rng.uniform(1, 5, (48, 64))
    points = unproject(pixel_grid(48, 64).reshape(-1, 2), depth.reshape(-1), intrinsics).reshape(48, 64, 3)
    assert weiszfeld_focal(points) == pytest.approx(70.0, rel=1e-9)
    spoiled = points.copy()
    spoiled[rng.random((48, 64)) < 0.1] += 3.0
    assert weiszfeld_focal(spoiled) == pytest.approx(70.0, rel=0.01)
    spoiled[0, 0] = np.nan
    assert np.isfinite(weiszfeld_focal(spoiled))
    with pytest.raises(ValueError, match="focal"):
        weiszfeld_focal(np.zeros((4, 4, 3)))


def test_focal_agrees_with_the_reference() -> None:
    oracle = np.load(shared("oracle/losses.npz"))
    for points, expected in ((oracle["focal_points"], oracle["focal"]), (oracle["focal_points_noisy"], oracle["focal_noisy"])):
        height, width = points.shape[1:3]
        release_grid = pixel_grid(height, width) - 0.5 - (width / 2, height / 2)
        assert weiszfeld_focal(points[0], pixels_px=release_grid) == pytest.approx(float(expected), rel=1e-5)


@settings(deadline=None, max_examples=20)
@given(seeds)
def test_umeyama_recovers_any_similarity(seed: int) -> None:
    rng = np.random.default_rng(seed + SEED)
    target_from_source = random_rigid(rng)
    source = rng.standard_normal((30, 3))
    target = 2.5 * source @ target_from_source[:3, :3].T + target_from_source[:3, 3]
    found = umeyama(source, target)
    assert found.scale == pytest.approx(2.5)
    np.testing.assert_allclose(found(source), target, atol=1e-9)


def test_umeyama_of_a_mirrored_cloud_is_a_rotation_of_smaller_scale() -> None:
    source = np.random.default_rng(SEED).standard_normal((30, 3))
    target = source * (1, 1, -1)
    found, published = umeyama(source, target), umeyama(source, target, allow_reflection_scale=True)
    assert np.linalg.det(found.rotation) == pytest.approx(1)
    assert found.scale < published.scale
    assert ((found(source) - target) ** 2).sum() < ((published(source) - target) ** 2).sum()
    with pytest.raises(ValueError, match="three"):
        umeyama(source[:2], target[:2])
    with pytest.raises(ValueError, match="equal"):
        umeyama(np.ones((5, 3)), target[:5])


@pytest.mark.parametrize("case", ["a", "b"])
def test_alignment_scales_agree_with_the_published_evaluator(case: str) -> None:
    oracle = np.load(shared("oracle/metrics.npz"))
    gt, pred = oracle[f"{case}/gt"], oracle[f"{case}/pred"]
    assert median_scale(pred, gt) == pytest.approx(float(oracle[f"{case}/all/median/scale"]), rel=1e-6)
    assert umeyama(pred, gt, allow_reflection_scale=True).scale == pytest.approx(
        float(oracle[f"{case}/all/sim3/scale"]), rel=1e-6
    )


def test_rotation_angle_is_exact_near_zero() -> None:
    angle = np.array([1e-9, 1e-3, 1.0, 3.0])
    rotation = np.tile(np.eye(3), (4, 1, 1))
    rotation[:, 0, 0] = rotation[:, 1, 1] = np.cos(angle)
    rotation[:, 0, 1], rotation[:, 1, 0] = -np.sin(angle), np.sin(angle)
    np.testing.assert_allclose(rotation_angle(rotation), angle, rtol=1e-7)
