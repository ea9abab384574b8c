import torch

from st4rtrack.losses.objective import motion_error
from tests.losses.maps import BATCH, random_case


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
    assert torch.autograd.gradcheck(lambda x, s: motion_error(x, true, valid, s), (predicted, scale))
    perfect = true.clone().requires_grad_()
    total = motion_error(perfect, true, valid, torch.ones_like(scale))
    (gradient,) = torch.autograd.grad(total, perfect)
    assert total.item() == 0 and not gradient.any()
