"""Predictions and truths for the tests of the losses, and the property that all of them share."""

from collections.abc import Callable

import torch
from torch import Tensor

from st4rtrack.losses.objective import Supervision
from st4rtrack.types import Pointmap, TwoPointmaps

BATCH, HEIGHT, WIDTH = 4, 3, 4


def random_case(
    seed: int = 0, dtype: torch.dtype = torch.float64, *, frames: int = 2, labelled: float = 0.7
) -> tuple[TwoPointmaps, Supervision]:
    """A prediction and its truth, pixels labelled at random, about a third of them moving."""
    generator = torch.Generator().manual_seed(seed)

    def points() -> Tensor:
        offset = torch.tensor([0.0, 0.0, 4.0], dtype=dtype)
        return torch.randn(BATCH, HEIGHT, WIDTH, 3, generator=generator, dtype=dtype) + offset

    def uniform() -> Tensor:
        return torch.rand(BATCH, HEIGHT, WIDTH, generator=generator, dtype=dtype)

    prediction = TwoPointmaps(*[Pointmap(points(), 1 + uniform()) for _ in range(2)])
    truth = TwoPointmaps(*[Pointmap(points(), valid=uniform() < labelled) for _ in range(2)])
    moving = uniform() < 0.3
    anchor_points = truth.tracking.points_world - moving[..., None] * points()
    unit = torch.linspace(1, 4, BATCH, dtype=dtype)
    return prediction, Supervision(truth, anchor_points, moving=moving, frames_per_clip=frames, unit=unit)


def perfect(supervision: Supervision, confidence: float = 1.0, *, scale: Tensor | float = 1.0) -> TwoPointmaps:
    """The truth, times a factor for each pair, as a prediction."""
    factor = torch.as_tensor(scale).expand(len(supervision.anchor_points))[:, None, None, None]
    points = [each.points_world * factor for each in (supervision.truth.tracking, supervision.truth.reconstruction)]
    return TwoPointmaps(*[Pointmap(each, torch.full_like(each[..., 0], confidence)) for each in points])


def scaled(maps: TwoPointmaps, factor: float) -> TwoPointmaps:
    """All points times a factor."""
    each = (maps.tracking, maps.reconstruction)
    return TwoPointmaps(*[Pointmap(m.points_world * factor, m.confidence, m.valid) for m in each])


def leaves(maps: TwoPointmaps) -> tuple[Tensor, ...]:
    """Points and confidence of a prediction as new leaves that want gradients."""
    tensors = (
        maps.tracking.points_world,
        maps.tracking.confidence,
        maps.reconstruction.points_world,
        maps.reconstruction.confidence,
    )
    return tuple(tensor.detach().clone().requires_grad_() for tensor in tensors)


def from_leaves(tensors: tuple[Tensor, ...]) -> TwoPointmaps:
    """The inverse of `leaves`."""
    return TwoPointmaps(Pointmap(*tensors[:2]), Pointmap(*tensors[2:]))


def gradients(loss: Callable[[TwoPointmaps], Tensor], maps: TwoPointmaps) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Value of a loss and its gradients by everything that is predicted."""
    inputs = leaves(maps)
    value = loss(from_leaves(inputs))
    found = torch.autograd.grad(value, inputs, allow_unused=True)
    return value.detach(), tuple(torch.zeros_like(x) if g is None else g for x, g in zip(inputs, found, strict=True))
