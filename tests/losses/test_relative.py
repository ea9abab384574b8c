import math

import pytest
import torch
from torch import Tensor

from st4rtrack.losses.adaptation import AdaptationLoss, adaptation_loss
from st4rtrack.losses.relative import (
    KnownDepth,
    RetentionTerm,
    relative_agreement_loss,
    relative_depth_loss,
    relative_trajectory_loss,
    retention_loss,
)
from tests.seeds import SEED

FRAMES, POINTS = 3, 15
CENTRE = torch.tensor([40.0, 30.0], dtype=torch.float64)  # half the diagonal is 50
FEW = slice(0, 5)
"""Points that are wrong, fewer than half: the median scale stays that of the others."""


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed + SEED), dtype=torch.float64)


def tracks() -> Tensor:
    return uniform(FRAMES, POINTS, 2) * 2 * CENTRE


def depths(seed: int = 2) -> Tensor:
    return 1 + 3 * uniform(FRAMES, POINTS, seed=seed)


def points() -> Tensor:
    return uniform(FRAMES, POINTS, 3, seed=4) + torch.tensor([0.0, 0.0, 2.0])


EVERY = torch.ones(FRAMES, POINTS, dtype=torch.bool)


def wrong(values: Tensor, few: Tensor) -> Tensor:
    """The values with the first few points replaced."""
    return torch.cat([few, values[:, FEW.stop :]], dim=1)


def test_an_error_of_one_percent_is_a_hundredth_in_each_term() -> None:
    moved = tracks() + torch.tensor([0.3, 0.4])  # 0.5 of 50 pixels
    assert relative_trajectory_loss(moved, tracks(), EVERY, CENTRE).item() == pytest.approx(0.01, rel=0.2)
    depth = wrong(depths(), depths()[:, FEW] * 1.01)
    assert relative_depth_loss(KnownDepth(depth, depths(), EVERY)).item() == pytest.approx(math.log(1.01) * 5 / POINTS)
    assert relative_agreement_loss(points() * 1.01, points(), EVERY).item() == pytest.approx(0.01)
    assert retention_loss(RetentionTerm(points() * 1.01, points())).item() == pytest.approx(0.01)


def test_a_wrong_focal_length_costs_nothing_and_a_wrong_scale_of_depth_does() -> None:
    scales = torch.tensor([0.8, 1.0, 1.3], dtype=torch.float64)
    zoomed = (tracks() - CENTRE) * scales[:, None, None] + CENTRE
    assert relative_trajectory_loss(zoomed, tracks(), EVERY, CENTRE) < 1e-12
    known, off = (KnownDepth(depths() * scale, depths(), EVERY) for scale in (1.0, 1.1))
    assert relative_depth_loss(known, known) == 0
    assert relative_depth_loss(off).item() == relative_depth_loss(known, off).item() == pytest.approx(math.log(1.1))
    assert relative_depth_loss(off, off).item() == pytest.approx(2 * math.log(1.1))


def test_what_is_lost_does_not_pull() -> None:
    few = (tracks()[:, FEW] + 1e4).requires_grad_()
    loss = relative_trajectory_loss(wrong(tracks(), few), tracks(), EVERY, CENTRE)
    (gradient,) = torch.autograd.grad(loss, few)
    assert loss.item() == pytest.approx(2.0 * 5 / POINTS) and not gradient.any()


def test_gradients_are_exact() -> None:
    few_px, few_depth = (tracks()[:, FEW] + 3).requires_grad_(), (depths()[:, FEW] * 1.2).requires_grad_()
    place = (points() + 0.1 * uniform(FRAMES, POINTS, 3, seed=9)).requires_grad_()
    known = KnownDepth(depths(5) * 1.1, depths(5), EVERY)
    assert torch.autograd.gradcheck(lambda x: relative_trajectory_loss(wrong(tracks(), x), tracks(), EVERY, CENTRE), (few_px,))
    assert torch.autograd.gradcheck(
        lambda x: relative_depth_loss(KnownDepth(wrong(depths(), x), depths(), EVERY), known), (few_depth,)
    )
    assert torch.autograd.gradcheck(lambda x: relative_agreement_loss(x, points(), EVERY), (place,))
    assert torch.autograd.gradcheck(lambda x: retention_loss(RetentionTerm(x, points(), known)), (place,))


def test_the_reconstruction_learns_to_agree_as_the_tracking_does() -> None:
    place, other = (points() + 0.1).requires_grad_(), points().requires_grad_()
    gradients = torch.autograd.grad(relative_agreement_loss(place, other, EVERY), (place, other))
    assert all(gradient.abs().sum() > 0.1 for gradient in gradients)


def test_what_does_not_count_may_be_anything() -> None:
    seen = uniform(FRAMES, POINTS, seed=1) < 0.6
    spoil = torch.where(seen, 0.0, torch.nan)
    pixels, depth = (tracks() + 2 + spoil[..., None]).requires_grad_(), (depths() * 1.1 + spoil).requires_grad_()
    place = (points() + 0.1 + spoil[..., None]).requires_grad_()
    behind = KnownDepth(torch.where(seen, depth, -1.0), depths() + spoil, EVERY & seen)
    loss = (
        relative_trajectory_loss(pixels, tracks() + spoil[..., None], seen, CENTRE)
        + relative_depth_loss(behind, KnownDepth(depth, depths(), seen))
        + relative_agreement_loss(place, points() + spoil[..., None], seen)
        + retention_loss(RetentionTerm(place, points() + spoil[..., None], KnownDepth(depth, depths(), seen)))
    )
    assert loss.isfinite()
    for gradient in torch.autograd.grad(loss, (pixels, depth, place)):
        assert gradient.isfinite().all() and not gradient[~seen].any()


def test_nothing_at_all_is_zero() -> None:
    none = ~EVERY
    depth, place = depths().requires_grad_(), points().requires_grad_()
    loss = (
        relative_trajectory_loss(place[..., :2], tracks(), none, CENTRE)
        + relative_depth_loss(KnownDepth(depth, depths(), none), KnownDepth(depth, depths(), none))
        + relative_agreement_loss(place, points(), none)
        + retention_loss(RetentionTerm(place, torch.full_like(points(), torch.nan), KnownDepth(depth, depths(), none)))
    )
    assert loss.item() == 0 and not any(gradient.any() for gradient in torch.autograd.grad(loss, (depth, place)))


def test_what_is_held_has_its_weight_in_the_sum() -> None:
    terms = {
        "trajectory": (tracks(), tracks(), EVERY, CENTRE),
        "alignment": (points(), points(), EVERY),
    }
    found = adaptation_loss(AdaptationLoss(held=2.0, form="relative"), **terms, held=RetentionTerm(points() * 1.1, points()))
    assert found.parts["held"].item() == pytest.approx(0.1) and found.total.item() == pytest.approx(0.2)
    moved = KnownDepth(depths() * 1.2, depths(), EVERY)
    assert retention_loss(RetentionTerm(points() * 1.1, points(), moved)).item() == pytest.approx(0.1 + math.log(1.2))
