from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from st4rtrack.geometry.camera import intrinsics_from_focal, pixel_grid, project
from st4rtrack.geometry.differentiable_cameras import (
    gauss_newton_step,
    project_everywhere,
    solved_cameras,
)
from st4rtrack.geometry.transforms import invert_rigid, transform_points
from tests.seeds import SEED

HEIGHT, WIDTH, FOCAL = 18, 32, 30.0
INTRINSICS = torch.from_numpy(intrinsics_from_focal(FOCAL, HEIGHT, WIDTH))


class View(NamedTuple):
    """Of frames that see a bumpy surface, each pixel its own point: truth, and points in the world."""

    camera_from_world: Tensor
    points: Tensor
    pixels: Tensor
    weights: Tensor


def twist(vector: Tensor) -> Tensor:
    """[..., 4, 4] by the exponential of the whole 4x4 matrix, which the code does not use."""
    x, y, z, a, b, c = vector.unbind(-1)
    zero = torch.zeros_like(x)
    rows = [zero, -c, b, x, c, zero, -a, y, -b, a, zero, z, zero, zero, zero, zero]
    return torch.linalg.matrix_exp(torch.stack(rows, dim=-1).unflatten(-1, (4, 4)))


def view(frames: int = 2, *, step: int = 1, seed: int = 0) -> View:
    generator = torch.Generator().manual_seed(seed + SEED)
    pixels = torch.from_numpy(pixel_grid(HEIGHT, WIDTH)[::step, ::step].reshape(-1, 2))
    camera_from_world = twist(0.2 * torch.randn(frames, 6, generator=generator, dtype=torch.float64))
    z = 3 + torch.rand(frames, len(pixels), generator=generator, dtype=torch.float64)
    rays = torch.cat([(pixels - INTRINSICS[:2, 2]) / FOCAL, torch.ones_like(pixels[:, :1])], dim=-1)
    points = transform_points(torch.linalg.inv(camera_from_world), rays * z[..., None])
    weights = 0.5 + torch.rand(frames, len(pixels), generator=generator, dtype=torch.float64)
    return View(camera_from_world, points, pixels, weights)


def near(camera_from_world: Tensor, size: float) -> Tensor:
    generator = torch.Generator().manual_seed(5 + SEED)
    return twist(size * torch.randn(len(camera_from_world), 6, generator=generator, dtype=torch.float64)) @ camera_from_world


def far(found: Tensor, true: Tensor) -> float:
    return float((found - true).abs().max())


def test_a_step_from_the_truth_stays_and_from_nearby_converges_quadratically() -> None:
    true, points, pixels, weights = view()
    assert far(gauss_newton_step(true, points, pixels, weights, INTRINSICS), true) < 1e-9
    for size in (1e-2, 1e-3):
        start = near(true, size)
        found = gauss_newton_step(start, points, pixels, weights, INTRINSICS)
        assert far(found, true) < 10 * far(start, true) ** 2  # the factor is 0.9 to 3.7 over eight seeds
    found = near(true, 0.1)
    for _ in range(5):
        found = gauss_newton_step(found, points, pixels, weights, INTRINSICS, huber=None)
    assert far(found, true) < 1e-9
    torch.testing.assert_close(found @ invert_rigid(found), torch.eye(4, dtype=found.dtype).expand_as(found), atol=1e-12, rtol=0)


def test_the_step_is_that_of_the_normal_equations() -> None:
    """An oracle: Eq. 13 frame by frame, its Jacobian by autograd through the projection."""
    true, points, pixels, weights = view(step=3)
    start = near(true, 0.02)
    found = gauss_newton_step(start, points, pixels, weights, INTRINSICS, huber=None, damping=0.0)
    for frame in range(len(start)):

        def residual(vector: Tensor, frame: int = frame) -> Tensor:
            moved = transform_points(twist(vector) @ start[frame], points[frame])
            return ((project(moved, INTRINSICS) - pixels) * weights[frame, :, None]).flatten()

        zero = torch.zeros(6, dtype=torch.float64)
        jacobian = torch.autograd.functional.jacobian(residual, zero)
        step = -torch.linalg.lstsq(jacobian, residual(zero)[:, None]).solution[:, 0]
        expected = torch.eye(4, dtype=torch.float64)
        expected[:3, :3], expected[:3, 3] = twist(step * torch.tensor([0, 0, 0, 1, 1, 1]))[:3, :3], step[:3]
        torch.testing.assert_close(found[frame], expected @ start[frame], atol=1e-9, rtol=0)


def test_frames_do_not_know_of_each_other_and_may_have_pixels_and_intrinsics_of_their_own() -> None:
    true, points, pixels, weights = view(3)
    start = near(true, 0.02)
    together = gauss_newton_step(start, points, pixels, weights, INTRINSICS)
    own_pixels, own_intrinsics = pixels.expand(3, -1, -1), INTRINSICS.expand(3, -1, -1)
    torch.testing.assert_close(gauss_newton_step(start, points, own_pixels, weights, own_intrinsics), together)
    alone = torch.cat(
        [gauss_newton_step(start[i : i + 1], points[i : i + 1], pixels, weights[i : i + 1], INTRINSICS) for i in range(3)]
    )
    torch.testing.assert_close(alone, together)
    assert gauss_newton_step(start[:0], points[:0], pixels, weights[:0], INTRINSICS).shape == (0, 4, 4)


def test_units_of_the_world_do_not_matter() -> None:
    true, points, pixels, weights = view()
    start = near(true, 0.02)
    unit = torch.ones(4, 4, dtype=torch.float64)
    unit[:3, 3] = 1000.0
    expected = gauss_newton_step(start, points, pixels, weights, INTRINSICS) * unit
    torch.testing.assert_close(gauss_newton_step(start * unit, points * 1000, pixels, weights, INTRINSICS), expected)


def test_weights_and_the_robust_kernel_keep_wrong_points_from_mattering() -> None:
    true, points, pixels, weights = view()
    wrong = torch.zeros(weights.shape, dtype=torch.bool)
    wrong[:, ::9] = True
    spoiled = torch.where(wrong[..., None], points + torch.tensor([2.0, 0.0, 0.0]), points)
    ignored = gauss_newton_step(true, spoiled, pixels, torch.where(wrong, 0.0, weights), INTRINSICS)
    assert far(ignored, true) < 1e-9
    squared = gauss_newton_step(true, spoiled, pixels, weights, INTRINSICS, huber=None)
    robust = gauss_newton_step(true, spoiled, pixels, weights, INTRINSICS)
    assert 0.01 < far(robust, true) < 0.5 * far(squared, true)


@pytest.mark.parametrize("huber", [None, 0.02])
def test_gradients_of_the_step_are_exact(huber: float | None) -> None:
    true, points, pixels, weights = view(step=8)
    points = (
        points + 0.05 * torch.randn(points.shape, generator=torch.Generator().manual_seed(2 + SEED), dtype=points.dtype)
    ).detach()
    inputs = (points.requires_grad_(), weights.requires_grad_(), INTRINSICS.clone().requires_grad_())
    start = near(true, 0.01)

    def step(points: Tensor, weights: Tensor, intrinsics: Tensor) -> Tensor:
        return gauss_newton_step(start, points, pixels, weights, intrinsics, huber=huber)

    assert torch.autograd.gradcheck(step, inputs)


def test_gradients_reach_points_everywhere_in_a_wide_image_and_not_the_start() -> None:
    true, points, pixels, weights = view()
    start = near(true, 0.01).requires_grad_()
    points.requires_grad_(), weights.requires_grad_()
    found = gauss_newton_step(start, points, pixels, weights, INTRINSICS)
    by_point, by_weight = torch.autograd.grad(found[:, 0, 3].sum(), (points, weights), retain_graph=True)
    assert (by_point.norm(dim=-1) > 0).all() and (by_weight != 0).all()
    assert torch.autograd.grad(found.sum(), start, allow_unused=True) == (None,)
    reach = by_point.norm(dim=-1).reshape(-1, HEIGHT, WIDTH)
    left, right = (half.median() for half in (reach[..., : WIDTH // 2], reach[..., WIDTH // 2 :]))
    assert 0.2 < left / right < 5


def test_the_camera_follows_points_that_move_together() -> None:
    """At the truth, one step undoes to first order what moved the points: the pose is differentiated as a solver that ran to its end."""
    true, points, pixels, weights = view(1)
    direction = torch.tensor([[0.3, -0.2, 0.5, 0.1, 0.2, -0.1]], dtype=torch.float64)

    def camera(size: Tensor) -> Tensor:
        return gauss_newton_step(
            true, transform_points(twist(size * direction), points), pixels, weights, INTRINSICS, damping=0.0
        )

    def expected(size: Tensor) -> Tensor:
        return true @ twist(-size * direction)

    zero = torch.zeros((), dtype=torch.float64)
    found, wanted = (torch.autograd.functional.jacobian(each, zero) for each in (camera, expected))
    torch.testing.assert_close(found, wanted, atol=1e-9, rtol=0)


def degenerate(points: Tensor, weights: Tensor, kind: str) -> tuple[Tensor, Tensor]:
    points, weights = points.clone(), weights.clone()
    along = torch.linspace(-1, 1, points.shape[1], dtype=points.dtype)[:, None]
    if kind == "nothing weighs":
        weights[0] = 0
    elif kind == "two points":
        weights[0, 2:] = 0
    elif kind == "one place":
        points[0] = points[0, 0]
    elif kind == "a line":
        points[0] = points[0, 5] + along * torch.tensor([1.0, 0.3, 0.2])
    elif kind == "behind":
        points[0] = -points[0]
    elif kind == "in the plane of the camera":
        points[0] = 0
    elif kind == "not finite":
        points[0] = float("nan")
    return points, weights


@pytest.mark.parametrize(
    "kind", ["nothing weighs", "two points", "one place", "a line", "behind", "in the plane of the camera", "not finite"]
)
def test_a_frame_that_determines_no_pose_keeps_its_start_and_harms_no_other(kind: str) -> None:
    _, points, pixels, weights = view()
    start = torch.eye(4, dtype=torch.float64).repeat(2, 1, 1)
    points, weights = degenerate(points, weights, kind)
    points.requires_grad_(), weights.requires_grad_()
    found = gauss_newton_step(start, points, pixels, weights, INTRINSICS)
    torch.testing.assert_close(found[0], start[0], rtol=0, atol=0)
    torch.testing.assert_close(found[1:], gauss_newton_step(start[1:], points[1:], pixels, weights[1:], INTRINSICS))
    by_point, by_weight = torch.autograd.grad(found.square().sum(), (points, weights))
    assert by_point.isfinite().all() and by_weight.isfinite().all()
    assert not by_point[0].any() and by_point[1].any()


def test_single_points_that_are_no_good_are_as_if_they_had_no_weight() -> None:
    true, points, pixels, weights = view()
    start = near(true, 0.02)
    bad = torch.arange(points.shape[1]) % 7 == 3
    camera_centres = torch.linalg.inv(start)[:, None, :3, 3].expand_as(points)
    for value in (torch.tensor(float("nan")), torch.tensor(float("inf")), camera_centres, 2 * camera_centres - points):
        spoiled = torch.where(bad[:, None], value, points).requires_grad_()
        found = gauss_newton_step(start, spoiled, pixels, weights, INTRINSICS)
        expected = gauss_newton_step(start, points, pixels, torch.where(bad, 0.0, weights), INTRINSICS)
        torch.testing.assert_close(found, expected)
        (gradient,) = torch.autograd.grad(found.sum(), spoiled)
        assert gradient.isfinite().all() and not gradient[:, bad].any()


def test_the_result_has_the_type_of_the_points() -> None:
    true, points, pixels, weights = view()
    start = near(true, 0.02)
    expected = gauss_newton_step(start, points, pixels, weights, INTRINSICS)
    single = gauss_newton_step(start.float(), points.float(), pixels.float(), weights.float(), INTRINSICS.float())
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), expected, atol=1e-5, rtol=0)


def test_projection_everywhere_is_projection_before_the_camera() -> None:
    true, points, pixels, _ = view()
    in_camera = transform_points(true, points)
    torch.testing.assert_close(project_everywhere(in_camera, INTRINSICS), pixels.expand(2, -1, -1))
    torch.testing.assert_close(project_everywhere(in_camera, INTRINSICS.expand(2, -1, -1)), project(in_camera, INTRINSICS))
    assert project_everywhere(in_camera[:, :0], INTRINSICS).shape == (2, 0, 2)


def test_projection_goes_on_behind_the_camera() -> None:
    z = torch.tensor([2.0, 1.0, 0.1, 0.05, 0.0, -0.1, -1.0, -1000.0], dtype=torch.float64).requires_grad_()
    points = torch.stack([torch.full_like(z, 0.3), torch.full_like(z, -0.2), z], dim=-1)
    pixels = project_everywhere(points, INTRINSICS, nearest=0.1)
    outward = (pixels - INTRINSICS[:2, 2]) * torch.tensor([1.0, -1.0])
    assert (outward.diff(dim=0) > 0).all() and (outward <= 2 / 0.1 * 0.3 * FOCAL).all()
    (gradient,) = torch.autograd.grad(outward.sum(), z)
    assert gradient.isfinite().all() and (gradient < 0).all()
    inputs = points.detach()[[0, 1, 3, 4, 5, 6]].clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: project_everywhere(x, INTRINSICS, nearest=0.1), (inputs,))


def test_projection_leaves_the_pinhole_without_a_step() -> None:
    z = torch.tensor([0.1 - 1e-7, 0.1 + 1e-7], dtype=torch.float64).requires_grad_()
    points = torch.stack([torch.ones_like(z), torch.zeros_like(z), z], dim=-1)
    pixels = project_everywhere(points, INTRINSICS, nearest=0.1)
    (slope,) = torch.autograd.grad(pixels[:, 0].sum(), z)
    torch.testing.assert_close(pixels[0], pixels[1], atol=1e-2, rtol=0)
    torch.testing.assert_close(slope[0], slope[1], rtol=1e-5, atol=0)


@pytest.mark.parametrize("z", [0.0, -1.0, 1e-30])
def test_a_frame_all_on_or_behind_its_camera_has_finite_gradients(z: float) -> None:
    points = torch.tensor([[[0.5, 0.2, z], [0.0, 0.0, z], [-0.1, 0.3, z]]]).requires_grad_()
    pixels = project_everywhere(points, INTRINSICS.float())
    (gradient,) = torch.autograd.grad(pixels.sum(), points)
    assert pixels.isfinite().all() and gradient.isfinite().all()


def test_failed_cameras_are_left_out_and_counted() -> None:
    cameras = [None, *torch.linalg.inv(view(2)[0]).numpy(), None]
    found = solved_cameras(cameras)
    assert found.frames.tolist() == [1, 2]
    np.testing.assert_allclose(found.camera_from_world, view(2)[0].numpy(), atol=1e-12)
    assert solved_cameras([None, None]).camera_from_world.shape == (0, 4, 4)
