"""Losses of monocular depth."""

from dataclasses import fields, replace

import pytest
import torch

from st4rtrack.losses.monocular import MonocularLossConfig, MonocularTruth, masked_median, monocular_loss
from st4rtrack.types import MonocularDepth

CONFIG = MonocularLossConfig()


def scene(*, scaled: bool, seed: int = 0) -> tuple[MonocularDepth, MonocularTruth]:
    """A random prediction and truth of two pictures, one pixel of each unknown and one infinitely far."""
    generator = torch.Generator().manual_seed(seed)
    log_depth = torch.randn((2, 16, 20), generator=generator)
    inverse_depth = torch.rand((2, 16, 20), generator=generator) + 0.2
    inverse_depth[:, 0, 0], inverse_depth[:, 1, 1] = torch.nan, 0.0
    zeros = torch.zeros(2)
    prediction = MonocularDepth(log_depth.requires_grad_(), torch.zeros_like(log_depth), zeros.clone(), zeros.clone())
    return prediction, MonocularTruth(
        inverse_depth, torch.full((2,), scaled), torch.tensor([0.1, torch.nan]), inverse_depth > 0.8
    )


@pytest.mark.parametrize("scaled", [False, True])
def test_monocular_loss_scaled_and_shifted_inverse_depth_keeps_relative_terms(scaled: bool) -> None:
    prediction, truth = scene(scaled=scaled)
    inverse = torch.exp(-prediction.log_depth.detach())
    changed = replace(prediction, log_depth=-(3 * inverse + torch.tensor([0.5, 2.0])[:, None, None]).log())
    before, after = (monocular_loss(each, truth, CONFIG) for each in (prediction, changed))
    torch.testing.assert_close(after.relative, before.relative, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(after.gradient, before.gradient, rtol=1e-4, atol=1e-5)
    if scaled:
        assert (after.log_depth - before.log_depth).abs().item() > 0.01
    else:
        assert not after.log_depth.any() and not before.log_depth.any()


def test_monocular_loss_scaled_depth_keeps_every_term() -> None:
    prediction, truth = scene(scaled=True)
    changed = replace(prediction, log_depth=prediction.log_depth.detach() + torch.tensor([1.0, -2.0])[:, None, None])
    before, after = (monocular_loss(each, truth, CONFIG) for each in (prediction, changed))
    for field in fields(before):
        torch.testing.assert_close(getattr(after, field.name), getattr(before, field.name))


def test_monocular_loss_perfect_prediction_is_zero() -> None:
    prediction, truth = scene(scaled=True)
    truth.inverse_depth = torch.exp(-prediction.log_depth.detach())
    loss = monocular_loss(prediction, truth, CONFIG)
    for value in (loss.relative, loss.gradient, loss.log_depth, loss.log_gradient):
        assert value.item() == pytest.approx(0, abs=1e-5)


def test_monocular_loss_unknown_pixels_give_finite_gradient() -> None:
    prediction, truth = scene(scaled=True)
    monocular_loss(prediction, truth, CONFIG).total.backward()
    assert prediction.log_depth.grad is not None
    assert bool(prediction.log_depth.grad.isfinite().all())
    assert not prediction.log_depth.grad[:, 0, 0].any()


def test_monocular_loss_without_truth_is_finite() -> None:
    prediction, truth = scene(scaled=True)
    truth.inverse_depth = torch.full_like(truth.inverse_depth, torch.nan)
    truth.log_focal = torch.full_like(truth.log_focal, torch.nan)
    loss = monocular_loss(prediction, truth, CONFIG)
    loss.total.backward()
    assert bool(loss.total.isfinite()) and loss.relative.item() == 0


def test_monocular_loss_expected_error_of_the_residual_is_best() -> None:
    prediction, truth = scene(scaled=True)
    values = [
        float(monocular_loss(replace(prediction, log_error=torch.full((2, 16, 20), error)), truth, CONFIG).error)
        for error in (-2.0, 0.0, 2.0)
    ]
    log_residual = (prediction.log_depth + truth.inverse_depth.log()).detach()
    near = truth.inverse_depth > 0
    mean = (log_residual - masked_median(log_residual, near)[:, None, None])[near].abs().mean()
    best = monocular_loss(replace(prediction, log_error=mean.log().expand(2, 16, 20)), truth, CONFIG).error
    assert all(float(best) < value for value in values)


def test_monocular_loss_error_on_a_subject_counts_three_times() -> None:
    prediction, truth = scene(scaled=True)
    truth.inverse_depth = torch.exp(-prediction.log_depth.detach())
    losses = []
    for row in (2, 5):  # the first inside the subject, the second outside
        truth.subject = torch.zeros_like(truth.subject)
        truth.subject[:, 2] = True
        changed = prediction.log_depth.detach().clone()
        changed[:, row] += 0.5
        losses.append(monocular_loss(replace(prediction, log_depth=changed), truth, CONFIG).log_depth.item())
    assert losses[0] == pytest.approx(3 * losses[1], rel=1e-3)


def test_monocular_loss_depth_no_better_than_constant_has_no_gradient_terms() -> None:
    prediction, truth = scene(scaled=True)
    random = monocular_loss(prediction, truth, CONFIG)
    assert random.relative.item() > 1 and random.gradient.item() == random.log_gradient.item() == 0
    ripples = 1 + 0.05 * torch.sin(torch.arange(20.0))
    near = -(truth.inverse_depth.nan_to_num(0.5).clamp(min=0.2) * ripples).log()
    better = monocular_loss(replace(prediction, log_depth=near), truth, CONFIG)
    assert better.relative.item() < 0.5 and better.gradient.item() > 0 and better.log_gradient.item() > 0
