from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from st4rtrack.losses.adaptation import NAMED, TERMS, AdaptationLoss, adaptation_loss
from st4rtrack.losses.relative import KnownDepth
from st4rtrack.losses.reprojection import (
    agreement_loss,
    depth_loss,
    released_agreement_loss,
    released_depth_loss,
    released_trajectory_loss,
    trajectory_loss,
)
from st4rtrack.types import UserError
from tests.seeds import SEED

FRAMES, POINTS, HEIGHT, WIDTH = 3, 12, 6, 8
CENTRE = torch.tensor([40.0, 30.0], dtype=torch.float64)
FORMS = [TERMS["paper"], TERMS["released"]]


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed + SEED), dtype=torch.float64)


def tracks() -> Tensor:
    return uniform(FRAMES, POINTS, 2) * 2 * CENTRE


def visible(share: float = 0.6) -> Tensor:
    return uniform(FRAMES, POINTS, seed=1) < share


def depths() -> Tensor:
    return 1 + 3 * uniform(FRAMES, HEIGHT, WIDTH, seed=2)


def valid() -> Tensor:
    return uniform(FRAMES, HEIGHT, WIDTH, seed=3) < 0.7


def points() -> Tensor:
    return uniform(FRAMES, POINTS, 3, seed=4) + torch.tensor([0.0, 0.0, 2.0])


def noise(like: Tensor, size: float) -> Tensor:
    return size * (uniform(*like.shape, seed=9) - 0.5)


def test_what_is_perfect_costs_nothing_and_asks_for_nothing() -> None:
    pixels, depth, place = (each.requires_grad_() for each in (tracks(), depths(), points()))
    terms = (
        trajectory_loss(pixels, pixels.detach(), visible(), CENTRE),
        depth_loss(depth, depth.detach(), valid()),
        agreement_loss(place, place.detach(), visible()),
    )
    for term, value in zip(terms, (pixels, depth, place), strict=True):
        (gradient,) = torch.autograd.grad(term, value)
        assert term.item() < 1e-20 and gradient.abs().max() < 1e-10
    assert released_trajectory_loss(tracks(), tracks(), visible(), CENTRE) < 1e-5  # what it adds to denominators remains
    assert released_depth_loss(depths(), depths(), valid()) < 1e-12
    assert released_agreement_loss(points(), points(), visible()) == 0


def test_the_trajectory_loss_ignores_a_wrong_focal_length_and_sees_drift() -> None:
    scales = torch.tensor([0.8, 1.0, 1.3], dtype=torch.float64)[:, None, None]
    assert trajectory_loss((tracks() - CENTRE) * scales + CENTRE, tracks(), visible(), CENTRE) < 1e-20
    shares = [trajectory_loss(tracks() + drift, tracks(), visible(), CENTRE).item() for drift in (1.0, 2.0, 4.0)]
    assert 0.5 < shares[0] < shares[1] < shares[2]
    assert trajectory_loss(tracks() + noise(tracks(), 6.0), tracks(), visible(), CENTRE) > 1
    assert released_trajectory_loss((tracks() - CENTRE) * 1.3 + CENTRE, tracks(), visible(), CENTRE) < 1e-5
    assert released_trajectory_loss((tracks() - CENTRE) * scales + CENTRE, tracks(), visible(), CENTRE) > 1


def test_the_trajectory_loss_is_the_mean_over_frames_of_the_mean_over_what_is_visible() -> None:
    """An oracle in loops, of Eq. 6 and 7."""
    predicted, seen = tracks() + noise(tracks(), 8.0), visible()
    means = []
    for p, g, mask in zip(predicted - CENTRE, tracks() - CENTRE, seen, strict=True):
        pairs = [(p[n], g[n]) for n in range(POINTS) if mask[n]]
        ratios = [float(b.norm() / max(a.norm(), 1.25)) for a, b in pairs if b.norm() >= 2.5]
        scale = sum(ratios) / len(ratios)
        means.append(sum(float((a * scale - b).square().sum()) for a, b in pairs) / len(pairs))
    found = trajectory_loss(predicted, tracks(), seen, CENTRE)
    assert found.item() == pytest.approx(sum(means) / len(means), rel=1e-12)


def test_a_point_that_lands_on_the_centre_does_not_blow_the_scale_up() -> None:
    predicted, wanted = tracks(), tracks()
    wanted[:, 0] = CENTRE + 0.5
    predicted[:, 0] = CENTRE + 1e-9
    predicted[:, 1] = CENTRE
    seen = torch.ones(FRAMES, POINTS, dtype=torch.bool)
    predicted.requires_grad_()
    loss = trajectory_loss(predicted, wanted, seen, CENTRE)
    (gradient,) = torch.autograd.grad(loss, predicted)
    assert loss < 1e5 and gradient.isfinite().all()
    all_central = trajectory_loss(CENTRE + noise(tracks(), 1.0), CENTRE.expand_as(tracks()), seen, CENTRE)
    assert 0 < all_central < 1


def test_the_depth_loss_ignores_scales_of_frames_and_sees_what_is_bent() -> None:
    scales = torch.tensor([0.1, 1.0, 20.0], dtype=torch.float64)[:, None, None]
    assert depth_loss(depths() * scales, depths(), valid()) < 1e-20
    bent = depths() + 0.1 * depths().square()
    expected = depth_loss(bent, depths(), valid())
    assert expected > 1e-4
    torch.testing.assert_close(depth_loss(bent * scales, depths() / scales, valid()), expected)
    assert depth_loss(depths() + 0.2 * depths().square(), depths(), valid()) > expected
    assert released_depth_loss(depths() * scales, depths(), valid()) < 1e-12


def test_the_depth_loss_is_that_of_the_best_scale() -> None:
    """An oracle: the scale by least squares, one frame after another; shape does not matter."""
    z, t, mask = depths() + noise(depths(), 1.0), depths(), valid()
    own, summed = [], 0.0
    for frame in range(FRAMES):
        a, b = z[frame][mask[frame]], t[frame][mask[frame]]
        scale = torch.linalg.lstsq(a[:, None], b[:, None]).solution.item()
        own.append(float(((scale * a - b) / b.mean()).square().mean()))
        summed += float((scale * a - b).square().mean())
    assert depth_loss(z, t, mask).item() == pytest.approx(sum(own) / FRAMES, rel=1e-9)
    assert depth_loss(z.flatten(1), t.flatten(1), mask.flatten(1)).item() == pytest.approx(sum(own) / FRAMES, rel=1e-9)
    assert released_depth_loss(z, t, mask).item() == pytest.approx(summed, rel=1e-6)


def test_branches_that_disagree_cost_the_square_of_how_far() -> None:
    apart = torch.tensor([0.0, 0.3, -0.4])
    assert agreement_loss(points() + apart, points(), visible()).item() == pytest.approx(0.25)
    assert agreement_loss(points(), points() + 2 * apart, visible()).item() == pytest.approx(1.0)
    assert released_agreement_loss(points() + apart, points(), visible()).item() == pytest.approx(0.5)


def test_frames_weigh_the_same_however_much_is_visible_and_released_points_do() -> None:
    seen = torch.zeros(FRAMES, POINTS, dtype=torch.bool)
    seen[0, 0] = seen[1] = True
    moved = points()
    moved[0] += torch.tensor([0.0, 0.0, 2.0])
    assert agreement_loss(moved, points(), seen).item() == pytest.approx(4.0 / 2)
    assert released_agreement_loss(moved, points(), seen).item() == pytest.approx(2.0 / (1 + POINTS))


def test_the_released_trajectory_loss_is_a_root_over_coordinates_of_all_points() -> None:
    predicted = tracks() + noise(tracks(), 8.0)
    p, g = predicted - CENTRE, tracks() - CENTRE
    scale = (g.norm(dim=-1) / (p.norm(dim=-1) + 1e-6)).mean()
    expected = (p * scale - g).square().mean().sqrt()
    for seen in (visible(), torch.zeros_like(visible())):
        torch.testing.assert_close(released_trajectory_loss(predicted, tracks(), seen, CENTRE), expected)


@pytest.mark.parametrize("form", FORMS)
def test_gradients_are_exact(form) -> None:
    pixels, depth, place, other = (
        each.requires_grad_()
        for each in (tracks() + noise(tracks(), 5.0), depths() + noise(depths(), 0.5), points() + noise(points(), 0.3), points())
    )
    assert torch.autograd.gradcheck(lambda x: form.trajectory(x, tracks(), visible(), CENTRE), (pixels,))
    assert torch.autograd.gradcheck(lambda x: form.depth(KnownDepth(x, depths(), valid()), None), (depth,))
    assert torch.autograd.gradcheck(lambda x, y: form.alignment(x, y, visible()), (place, other))


def test_gradients_reach_every_point_that_counts_and_no_other() -> None:
    pixels = (tracks() + noise(tracks(), 5.0)).requires_grad_()
    (gradient,) = torch.autograd.grad(trajectory_loss(pixels, tracks(), visible(), CENTRE), pixels)
    assert torch.equal(gradient.any(dim=-1), visible())
    depth = (depths() + noise(depths(), 0.5)).requires_grad_()
    (gradient,) = torch.autograd.grad(depth_loss(depth, depths(), valid()), depth)
    assert torch.equal(gradient != 0, valid())


def test_what_does_not_count_may_be_anything() -> None:
    spoil, spoil_depth = (torch.where(mask, 0.0, float("nan")) for mask in (visible(), valid()))
    predicted = tracks() + noise(tracks(), 5.0)
    spoiled = (predicted + spoil[..., None]).requires_grad_()
    loss = trajectory_loss(spoiled, tracks() - spoil[..., None], visible(), CENTRE)
    torch.testing.assert_close(loss, trajectory_loss(predicted, tracks(), visible(), CENTRE), rtol=0, atol=0)
    assert torch.autograd.grad(loss, spoiled)[0].isfinite().all()
    for form in FORMS:
        depth = (depths() + noise(depths(), 0.5) + spoil_depth).requires_grad_()
        place = (points() + noise(points(), 0.5) + spoil[..., None]).requires_grad_()
        known = KnownDepth(depth, depths() + spoil_depth, valid())
        loss = form.depth(known, None) + form.alignment(place, points() + spoil[..., None], visible())
        gradients = torch.autograd.grad(loss, (depth, place))
        assert loss.isfinite() and all(gradient.isfinite().all() for gradient in gradients)


def test_frames_without_anything_are_left_out_of_the_means() -> None:
    seen, known = visible(), valid()
    seen[1], known[1] = False, False
    predicted, depth, place = ((each + noise(each, 0.5)).requires_grad_() for each in (tracks(), depths(), points()))
    rest = [0, 2]
    pairs = (
        (
            trajectory_loss(predicted, tracks(), seen, CENTRE),
            trajectory_loss(predicted[rest], tracks()[rest], seen[rest], CENTRE),
        ),
        (depth_loss(depth, depths(), known), depth_loss(depth[rest], depths()[rest], known[rest])),
        (agreement_loss(place, points(), seen), agreement_loss(place[rest], points()[rest], seen[rest])),
    )
    for (found, expected), value in zip(pairs, (predicted, depth, place), strict=True):
        torch.testing.assert_close(found, expected)
        (gradient,) = torch.autograd.grad(found, value)
        assert not gradient[1].any() and gradient[rest].any() and gradient.isfinite().all()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("frames", [FRAMES, 0])
def test_nothing_at_all_is_zero_and_differentiable(form, frames: int) -> None:
    pixels, depth, place = (each[:frames].clone().requires_grad_() for each in (tracks(), depths(), points()))
    seen, known = torch.zeros_like(visible()[:frames]), torch.zeros_like(valid()[:frames])
    terms = [
        (form.depth(KnownDepth(depth, depths()[:frames], known), None), depth),
        (form.alignment(place, points()[:frames], seen), place),
    ]
    if form is TERMS["paper"] or not frames:  # as released, hidden points count
        terms.append((form.trajectory(pixels, tracks()[:frames] + 1, seen, CENTRE), pixels))
    for term, value in terms:
        (gradient,) = torch.autograd.grad(term, value)
        assert term.item() == 0 and not gradient.any()


def test_predictions_that_are_all_zero_are_finite() -> None:
    depth, pixels = torch.zeros_like(depths()).requires_grad_(), CENTRE.expand_as(tracks()).clone().requires_grad_()
    for form in FORMS:
        loss = form.depth(KnownDepth(depth, depths(), valid()), None) + form.trajectory(pixels, tracks(), visible(), CENTRE)
        assert loss.isfinite() and all(gradient.isfinite().all() for gradient in torch.autograd.grad(loss, (depth, pixels)))


def terms() -> dict[str, Any]:
    return {
        "trajectory": (tracks() + noise(tracks(), 5.0), tracks(), visible(), CENTRE),
        "alignment": ((points() + noise(points(), 0.5)).requires_grad_(), points(), visible(0.4)),
    }


def depth_terms() -> dict[str, KnownDepth]:
    return {"pixels": KnownDepth(depths() + noise(depths(), 0.5), depths(), valid())}


@pytest.mark.parametrize(
    ("name", "weights"), [("paper", (1.0, 10.0, 5.0)), ("released", (0.5, 10.0, 5.0)), ("relative", (1.0, 1.0, 0.2))]
)
def test_the_total_is_the_weighted_sum(name: str, weights: tuple[float, float, float]) -> None:
    found = adaptation_loss(NAMED[name], **terms(), **depth_terms())
    parts = [found.parts[part] for part in ("trajectory", "depth", "alignment")]
    assert all(part > 0 and not part.requires_grad for part in parts)
    torch.testing.assert_close(found.total, sum(weight * part for weight, part in zip(weights, parts, strict=True)))
    assert found.total.requires_grad


def test_a_term_can_be_left_out() -> None:
    whole = adaptation_loss(AdaptationLoss(), **terms(), **depth_terms())
    for name, weight in (("trajectory", 1.0), ("depth", 10.0), ("alignment", 5.0)):
        found = adaptation_loss(replace(AdaptationLoss(), **{name: 0.0}), **terms(), **depth_terms())
        torch.testing.assert_close(found.parts, whole.parts)
        torch.testing.assert_close(found.total, whole.total - weight * whole.parts[name])
    spoiled = {**terms(), "trajectory": (torch.full_like(tracks(), float("nan")), tracks(), visible(), CENTRE)}
    assert adaptation_loss(AdaptationLoss(trajectory=0.0), **spoiled, **depth_terms()).total.isfinite()
    without = adaptation_loss(AdaptationLoss(), **terms())
    assert sorted(without.parts) == ["alignment", "trajectory"]
    torch.testing.assert_close(without.total, whole.total - 10 * whole.parts["depth"])


def test_mistakes_are_said() -> None:
    with pytest.raises(UserError, match="weight of depth"):
        AdaptationLoss(depth=-1.0)
    with pytest.raises(UserError, match="form of the loss"):
        AdaptationLoss(form="other")  # pyright: ignore[reportArgumentType]
