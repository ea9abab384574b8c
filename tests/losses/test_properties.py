"""Every loss, on predictions and truths of any size and with nothing to say: gradients are finite wherever the loss is."""

from collections.abc import Callable, Sequence
from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from st4rtrack.losses.objective import PUBLISHED, motion_error
from st4rtrack.losses.regression import (
    confidence_weighted,
    euclidean_error,
    half_relative_error,
    joint_scale,
    keep,
    length,
)
from st4rtrack.losses.relative import (
    KnownDepth,
    RetentionTerm,
    relative_agreement_loss,
    relative_depth_loss,
    relative_trajectory_loss,
    retention_loss,
)
from st4rtrack.losses.reprojection import (
    agreement_loss,
    depth_loss,
    released_agreement_loss,
    released_depth_loss,
    released_trajectory_loss,
    trajectory_loss,
)
from st4rtrack.types import Pointmap, TwoPointmaps
from tests.losses.maps import random_case
from tests.losses.test_objective import total
from tests.properties import SEEDS
from tests.seeds import SEED

FRAMES, POINTS = 2, 7
CENTRE = torch.tensor([32.0, 24.0])
EVERY = torch.ones(FRAMES, POINTS, dtype=torch.bool)
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]
"""Of what is predicted, what is true and what counts."""


def as_map(points: Tensor) -> Tensor:
    """[frames, points, 3] as maps [frames, 1, points, 3]."""
    return points[:, None]


def motion(x: Tensor, y: Tensor, counts: Tensor) -> Tensor:
    return motion_error(as_map(x), as_map(y), counts[:, None], torch.ones(FRAMES, dtype=x.dtype))


def regression(error: Callable[[Tensor, Tensor], Tensor]) -> Loss:
    """As the objective has it: points that are not labelled are set aside before the error is taken (`regression.labelled`)."""

    def loss(x: Tensor, y: Tensor, counts: Tensor) -> Tensor:
        errors = error(keep(x, counts), keep(y, counts))
        return confidence_weighted(errors, torch.ones_like(x[..., 0]), counts, alpha=0.2)

    return loss


def both(x: Tensor, y: Tensor, counts: Tensor) -> TwoPointmaps:
    return TwoPointmaps(Pointmap(as_map(x), valid=counts[:, None]), Pointmap(as_map(y), valid=counts[:, None]))


PLACES: dict[str, Loss] = {
    "agreement": agreement_loss,
    "released agreement": released_agreement_loss,
    "relative agreement": relative_agreement_loss,
    "held": lambda x, y, counts: retention_loss(RetentionTerm(x, torch.where(counts[..., None], y, torch.nan))),
    "motion": motion,
    "euclidean": regression(euclidean_error),
    "half relative": regression(half_relative_error),
    "joint scale": lambda x, y, counts: joint_scale(both(x, y, counts), both(x, y, counts)).sum(),
}
PIXELS: dict[str, Loss] = {
    "trajectory": lambda x, y, counts: trajectory_loss(x, y, counts, CENTRE.to(x)),
    "released trajectory": lambda x, y, counts: released_trajectory_loss(x, y, counts, CENTRE.to(x)),
    "relative trajectory": lambda x, y, counts: relative_trajectory_loss(x, y, counts, CENTRE.to(x)),
}
DEPTHS: dict[str, Loss] = {
    "depth": depth_loss,
    "released depth": released_depth_loss,
    "relative depth": lambda x, y, counts: relative_depth_loss(KnownDepth(x, y, counts), KnownDepth(x, y, counts)),
    "held depth": lambda x, y, counts: retention_loss(
        RetentionTerm(
            as_map(x[..., None].expand(-1, -1, 3)), torch.full((FRAMES, 1, POINTS, 3), torch.nan), KnownDepth(x, y, counts)
        )
    ),
}
LOSSES = {**{n: (f, (3,)) for n, f in PLACES.items()}, **{n: (f, (2,)) for n, f in PIXELS.items()}}
LOSSES |= {n: (f, ()) for n, f in DEPTHS.items()}
every_loss = st.sampled_from(sorted(LOSSES))

SIZES = (1e-43, 1e-38, 1e-30, 1e-20, 1e-15, 1e-12, 1.0, 1e12, 1e18, 1e25, 1e37)
SHAPES = ("anywhere", "equal", "one place", "a line", "zero", "behind")


def drawn(shape: str, seed: int, channels: Sequence[int], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """What is predicted and what is true [frames, points(, channels)], of size one."""
    generator = torch.Generator().manual_seed(seed + SEED)
    x, y = (0.1 + torch.rand(FRAMES, POINTS, *channels, generator=generator, dtype=torch.float64) for _ in range(2))
    along = torch.linspace(0.5, 1, POINTS, dtype=torch.float64).reshape(1, POINTS, *[1 for _ in channels])
    x = {
        "anywhere": x,
        "equal": y,
        "one place": x[:, :1].expand_as(x),
        "a line": along * x[:, :1],
        "zero": torch.zeros_like(x),
        "behind": -x,
    }[shape]
    return x.to(dtype), y.to(dtype)


def value_and_gradient(loss: Loss, x: Tensor, y: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    leaf = x.clone().requires_grad_()
    value = loss(leaf, y, counts)
    return value.detach(), torch.autograd.grad(value, leaf, allow_unused=True, materialize_grads=True)[0]


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_gradients_are_finite_wherever_the_loss_is(name: str) -> None:
    """In float32, at all sizes that it has, those of its smallest and largest numbers too."""
    loss, channels = LOSSES[name]
    for shape, size, true_size in product(SHAPES, SIZES, (1e-12, 1.0, 1e12)):
        x, y = drawn(shape, 1, channels, torch.float64)
        value, gradient = value_and_gradient(loss, (size * x).float(), (true_size * y).float(), EVERY)
        where = f"{shape}, predicted {size}, true {true_size}"
        assert not value.isfinite() or gradient.isfinite().all(), where
        assert value.isfinite() or size > 1e12, f"squares of what is large but usual must not overflow: {where}"


def test_length_one_vector_of_another_size_leaves_the_others_as_they_are() -> None:
    vectors = torch.tensor([[3.0, 4.0, 0.0], [0.0, 0.0, 0.0], [3e-30, 4e-30, 0.0], [1e38, 0.0, 0.0]], requires_grad=True)
    found = length(vectors)
    torch.testing.assert_close(found.detach(), torch.tensor([5.0, 0.0, 5e-30, 1e38]), rtol=1e-6, atol=0)
    found.sum().backward()
    torch.testing.assert_close(vectors.grad, torch.tensor([[0.6, 0.8, 0.0], [0.0] * 3, [0.6, 0.8, 0.0], [1.0, 0.0, 0.0]]))


@pytest.mark.parametrize("spoil", [torch.nan, torch.inf, -torch.inf, 1e38])
@pytest.mark.parametrize("name", sorted({*LOSSES} - {"released trajectory", "released scale"}))  # which look at all, as published
@settings(max_examples=4)
@given(seed=SEEDS, few=st.integers(0, POINTS - 1))
def test_what_does_not_count_may_be_anything(name: str, spoil: float, seed: int, few: int) -> None:
    loss, channels = LOSSES[name]
    x, y = drawn("anywhere", seed, channels, torch.float32)
    counts = torch.arange(POINTS).expand(FRAMES, -1) < few
    wide = counts.reshape(FRAMES, POINTS, *[1 for _ in channels])
    expected = value_and_gradient(loss, x, y, counts)
    found = value_and_gradient(loss, torch.where(wide, x, spoil), torch.where(wide, y, spoil), counts)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)
    assert not found[1][~counts].any()


@settings(max_examples=60)
@given(name=every_loss, seed=SEEDS)
def test_the_order_of_points_does_not_matter(name: str, seed: int) -> None:
    loss, channels = LOSSES[name]
    x, y = drawn("anywhere", seed, channels, torch.float64)
    counts = torch.rand(FRAMES, POINTS, generator=torch.Generator().manual_seed(seed + SEED)) < 0.7
    order = torch.randperm(POINTS, generator=torch.Generator().manual_seed(seed + SEED))
    torch.testing.assert_close(loss(x[:, order], y[:, order], counts[:, order]), loss(x, y, counts))


@settings(max_examples=40)
@given(name=st.sampled_from(["depth", "trajectory", "relative depth", "relative agreement"]), seed=SEEDS, factor=st.floats(-3, 3))
def test_what_has_no_unit_knows_none(name: str, seed: int, factor: float) -> None:
    loss, channels = LOSSES[name]
    x, y = drawn("anywhere", seed, channels, torch.float64)
    scale = 10.0**factor
    if name == "trajectory":  # about the centre; within half its radius a denominator has a floor
        x = 100 + 100 * x
        found, expected = loss((x - CENTRE) * (1 + scale) + CENTRE, y, EVERY), loss(x, y, EVERY)
    else:
        found, expected = loss(scale * x, (1.0 if name == "depth" else scale) * y, EVERY), loss(x, y, EVERY)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-9)


@settings(max_examples=40)
@given(name=st.sampled_from(sorted(PUBLISHED)), confidence=st.sampled_from([0.0, 1e-30, 1e-6, 1.0, 1e6]), seed=SEEDS)
def test_confidence_that_is_zero_or_nearly_is_no_trap(name: str, confidence: float, seed: int) -> None:
    prediction, supervision = random_case(seed, torch.float32)
    wanted = supervision.truth.tracking.valid
    for each in (prediction.tracking, prediction.reconstruction):
        each.confidence = torch.full_like(each.confidence, confidence).requires_grad_()
        each.points_world.requires_grad_()
    value = total(prediction, supervision, PUBLISHED[name])
    leaves = (prediction.tracking.points_world, prediction.tracking.confidence)
    gradients = torch.autograd.grad(value, leaves, allow_unused=True, materialize_grads=True)
    assert wanted.any() and (confidence == 0 or value.isfinite())
    assert not value.isfinite() or all(gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_one_point_is_enough(name: str) -> None:
    loss, channels = LOSSES[name]
    x, y = drawn("anywhere", 1, channels, torch.float32)
    one = torch.zeros_like(EVERY)
    one[1, 3] = True
    value, gradient = value_and_gradient(loss, x, y, one)
    assert value.isfinite() and gradient.isfinite().all()
    if name not in ("depth", "released depth", "trajectory"):  # of which a scale takes one point away
        assert value > 0 and gradient.any()
