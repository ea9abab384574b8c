"""Global alignment by gradient descent (DUSt3R equation 5, MonST3R section 3.3): all edges at once, as batched tensors."""

import logging
import math

import numpy as np
import torch
from torch import Tensor

from st4rtrack.bench.global_alignment.flow import SampledFlow, flow_term
from st4rtrack.bench.global_alignment.problem import AlignmentOptions, Problem, Solution, log_confidence
from st4rtrack.bench.global_alignment.unknowns import Unknowns

logger = logging.getLogger(__name__)

FLOW_STARTS = 0.1
"""Share of the iterations after which the flow term counts: before, cameras may be too far for it."""


def optimise(
    problem: Problem,
    start: Solution,
    options: AlignmentOptions,
    *,
    flow: SampledFlow | None = None,
    device: torch.device | str = "cpu",
) -> Solution:
    """The start, improved by Adam.

    Args:
        problem: pairwise pointmaps at the pixels that are optimised.
        start: see `initialise`.
        options: iterations, learning rate, terms.
        flow: optical flow at the same pixels.
        device: where to compute.
    Returns:
        Another `Solution`. On a CPU the result is the same for every run.
    """
    unknowns = Unknowns(start, shared_focal=options.shared_focal).to(device)
    data = EdgeData.of(problem, device)
    flow = flow.to(device) if flow is not None and options.flow_weight > 0 else None
    adam = torch.optim.Adam(unknowns.parameters(), lr=options.learning_rate, betas=(0.9, 0.9))
    for k in range(options.iterations):
        for group in adam.param_groups:
            group["lr"] = learning_rate(options, k / options.iterations)
        adam.zero_grad()
        world = unknowns.world_points(data.centred_px)
        loss = alignment_term(unknowns, world, data)
        if options.smoothness > 0:
            loss = loss + options.smoothness * smoothness_term(*unknowns.cameras())
        if flow is not None and k >= FLOW_STARTS * options.iterations:
            term = flow_term(world, *unknowns.cameras(), unknowns.focal_px(), flow)
            loss = loss if term is None else loss + options.flow_weight * term
        loss.backward()
        adam.step()
        if k % 50 == 0:
            logger.info("global alignment: iteration %d of %d, loss %.5f", k, options.iterations, float(loss.detach()))
    return unknowns.solution()


class EdgeData:
    """Tensors of a `Problem`: points [edges, 2 * pixels, 3], weights of the same, the images of the edges, pixels."""

    def __init__(self, points: Tensor, weight: Tensor, edges: Tensor, centred_px: Tensor) -> None:
        self.points, self.weight, self.edges, self.centred_px = points, weight, edges, centred_px

    @classmethod
    def of(cls, problem: Problem, device: torch.device | str) -> "EdgeData":
        """The weight is the logarithm of the confidence; over the number of points of a side, so that the loss is a sum of two means."""
        edges, pixels = len(problem.edges), problem.centred_px.reshape(-1, 2)
        weight = log_confidence(problem.confidence).reshape(edges, -1) / (edges * len(pixels))
        return cls(
            torch.from_numpy(problem.points.reshape(edges, -1, 3).astype(np.float32)).to(device),
            torch.from_numpy(weight.astype(np.float32)).to(device),
            torch.from_numpy(problem.edges).to(device),
            torch.from_numpy(pixels.astype(np.float32)).to(device),
        )


def alignment_term(unknowns: Unknowns, world: Tensor, data: EdgeData) -> Tensor:
    """Mean over first images plus mean over second images of log confidence times the distance to the edge's points.

    Args:
        unknowns: for the edges' similarities.
        world: [images, pixels, 3] from `unknowns.world_points`.
        data: of the problem.
    """
    scale, rotation, translation = unknowns.edges()
    turn, shift = scale[:, None, None] * rotation, scale[:, None] * translation
    aligned = torch.baddbmm(shift[:, None], data.points, turn.transpose(1, 2))
    own = world[data.edges].flatten(1, 2)
    return (data.weight * torch.linalg.vector_norm(own - aligned, dim=-1)).sum()


def smoothness_term(rotation: Tensor, translation: Tensor) -> Tensor:
    """Sum over consecutive cameras of |R - I| (Frobenius) + |t| of their relative motion (MonST3R).

    Args:
        rotation, translation: [images, 3, 3] and [images, 3] of `world_from_camera`.
    """
    turn = rotation[:-1].transpose(1, 2) @ rotation[1:]
    step = translation[1:] - translation[:-1]  # as long in the earlier camera's frame as in the world's
    away = turn - torch.eye(3, dtype=turn.dtype, device=turn.device)
    return torch.linalg.vector_norm(away, dim=(1, 2)).sum() + torch.linalg.vector_norm(step, dim=1).sum()


def learning_rate(options: AlignmentOptions, progress: float) -> float:
    """The learning rate at a share of the iterations in 0..1."""
    remaining = 1 - progress if options.schedule == "linear" else (1 + math.cos(math.pi * progress)) / 2
    return options.final_learning_rate + remaining * (options.learning_rate - options.final_learning_rate)
