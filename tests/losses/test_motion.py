import pytest
import torch

from st4rtrack.losses.motion import motion_error, velocity_error
from tests.losses.maps import BATCH, random_case


def test_velocity_ignores_what_stays_and_sees_what_changes() -> None:
    _, supervision = random_case(frames=4)
    true, everywhere = supervision.truth.tracking.points_world, torch.ones_like(supervision.truth.tracking.valid)
    offset = torch.randn(1, *true.shape[1:], dtype=true.dtype)
    error, mask = velocity_error(true + offset, true, everywhere, frames=4)
    assert error.shape == (3, *true.shape[1:3]) and mask.all()
    torch.testing.assert_close(error, torch.zeros_like(error), atol=1e-12, rtol=0)
    drift = torch.tensor([0.0, 1.0, 3.0, 6.0], dtype=true.dtype)[:, None, None, None] * torch.tensor([0.0, 0.6, 0.8])
    error, _ = velocity_error(true + drift, true, everywhere, frames=4)
    torch.testing.assert_close(error, torch.tensor([1.0, 2.0, 3.0], dtype=true.dtype)[:, None, None].expand_as(error))


def test_velocity_is_not_taken_from_one_clip_to_the_next() -> None:
    _, supervision = random_case()
    true, everywhere = supervision.truth.tracking.points_world, torch.ones_like(supervision.truth.tracking.valid)
    offset_per_clip = torch.tensor([0.0, 0.0, 5.0, 5.0], dtype=true.dtype)[:, None, None, None]
    error, _ = velocity_error(true + offset_per_clip, true, everywhere, frames=2)
    torch.testing.assert_close(error, torch.zeros_like(error), atol=1e-12, rtol=0)
    assert velocity_error(true, true, everywhere, frames=1)[0].shape[0] == 0
    with pytest.raises(ValueError, match="clips of 3 frames"):
        velocity_error(true, true, everywhere, frames=3)


def test_velocity_counts_pixels_that_are_labelled_in_both_frames() -> None:
    prediction, supervision = random_case(1)
    true, valid = supervision.truth.tracking.points_world, supervision.truth.tracking.valid
    predicted = prediction.tracking.points_world
    error, mask = velocity_error(predicted, true, valid, frames=2)
    assert torch.equal(mask, valid[::2] & valid[1::2])
    assert (error[~mask] == 0).all() and (error[mask] > 0).all()
    spoiled = torch.where(valid[..., None], true, float("nan"))
    torch.testing.assert_close(velocity_error(predicted, spoiled, valid, frames=2)[0], error, rtol=0, atol=0)


def test_motion_is_a_difference_in_the_units_of_the_prediction() -> None:
    _, supervision = random_case(2)
    unit = supervision.unit
    true = supervision.truth.tracking.points_world - supervision.anchor_points
    mask = supervision.moving & supervision.truth.tracking.valid
    exact = true / unit[:, None, None, None]
    assert float(motion_error(exact, true, mask, unit)) == 0
    standing_still = motion_error(torch.zeros_like(true), true, mask, unit)
    torch.testing.assert_close(standing_still, exact[mask].norm(dim=-1).mean())
    off = exact + torch.tensor([0.0, 0.3, -0.4])
    torch.testing.assert_close(motion_error(off, true, mask, unit), torch.tensor(0.5, dtype=true.dtype))


def test_motion_sees_only_its_mask() -> None:
    prediction, supervision = random_case(3)
    true, mask = supervision.truth.tracking.points_world - supervision.anchor_points, supervision.moving
    motion = prediction.tracking.points_world.requires_grad_()
    error = motion_error(motion, true, mask, supervision.unit)
    spoil = torch.where(mask[..., None], 0.0, float("nan"))
    spoiled = motion_error(motion + spoil, true + spoil, mask, supervision.unit)
    torch.testing.assert_close(spoiled, error, rtol=0, atol=0)
    (gradient,) = torch.autograd.grad(spoiled, motion)
    assert (gradient[~mask] == 0).all() and (gradient[mask] != 0).any()
    nothing = motion_error(motion, true, torch.zeros_like(mask), supervision.unit)
    assert nothing.item() == 0 and not torch.autograd.grad(nothing, motion)[0].any()


def test_gradients_are_exact_and_finite_at_no_error() -> None:
    prediction, supervision = random_case(4)
    true, valid = supervision.truth.tracking.points_world, supervision.truth.tracking.valid
    predicted = prediction.tracking.points_world.requires_grad_()
    scale = torch.rand(BATCH, dtype=true.dtype).add(0.5).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: velocity_error(x, true, valid, frames=2)[0], (predicted,))
    assert torch.autograd.gradcheck(lambda x, s: motion_error(x, true, valid, s), (predicted, scale))
    perfect = true.clone().requires_grad_()
    total = velocity_error(perfect, true, valid, frames=4)[0].sum() + motion_error(perfect, true, valid, torch.ones_like(scale))
    (gradient,) = torch.autograd.grad(total, perfect)
    assert total.item() == 0 and not gradient.any()
