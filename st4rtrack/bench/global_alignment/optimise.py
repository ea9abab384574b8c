"""Global alignment by gradient descent (DUSt3R equation 5, MonST3R section 3.3), all edges batched in tensors."""

import logging
import math

import numpy as np
import torch
from torch import Tensor, nn

from st4rtrack.bench.global_alignment.flow import SampledFlow, flow_term
from st4rtrack.bench.global_alignment.initialise import MEAN_EDGE_SCALE
from st4rtrack.bench.global_alignment.problem import AlignmentOptions, Problem, Solution, log_confidence
from st4rtrack.geometry.transforms import quaternion_from_rotation, rotation_from_quaternion

logger = logging.getLogger(__name__)

FOCAL_STEP = 20.0
"""Parameter units per unit of log focal length: one step changes it 20 times less than a depth. DUSt3R's value."""


class Unknowns(nn.Module):
    """Optimised parameters: log depths, cameras, focal lengths, and one similarity per edge.

    Rotations are unnormalised quaternions (w, x, y, z); translations are stored as sign(t) log(1 + |t|).
    """

    def __init__(self, start: Solution, *, shared_focal: bool) -> None:
        super().__init__()
        images = len(start.depth)
        self.log_depth = _parameter(np.log(start.depth).reshape(images, -1))
        self.quaternion = _parameter(quaternion_from_rotation(start.world_from_camera[:, :3, :3]))
        self.translation = _parameter(signed_log(start.world_from_camera[:, :3, 3]))
        focal = start.focal_px[:1] if shared_focal else start.focal_px
        self.focal = _parameter(FOCAL_STEP * np.log(focal))
        self.edge_quaternion = _parameter(quaternion_from_rotation(start.edge_rotation))
        self.edge_translation = _parameter(signed_log(start.edge_translation))
        self.edge_log_scale = _parameter(np.log(start.edge_scale))
        self.map_shape = start.depth.shape

    def cameras(self) -> tuple[Tensor, Tensor]:
        """Rotation [images, 3, 3] and translation [images, 3] of `world_from_camera`."""
        return rotation_from_quaternion(self.quaternion), signed_exp(self.translation)

    def focal_px(self) -> Tensor:
        """Focal length in pixels: [images], or [1] if shared."""
        return (self.focal / FOCAL_STEP).exp()

    def edges(self) -> tuple[Tensor, Tensor, Tensor]:
        """Scale [edges], rotation [edges, 3, 3] and translation [edges, 3]; the scales' geometric mean is fixed."""
        scale = MEAN_EDGE_SCALE * (self.edge_log_scale - self.edge_log_scale.mean()).exp()
        return scale, rotation_from_quaternion(self.edge_quaternion), signed_exp(self.edge_translation)

    def world_points(self, centred_px: Tensor) -> Tensor:
        """World points [images, pixels, 3] of pixels [pixels, 2] relative to the principal point."""
        rotation, translation = self.cameras()
        depth = self.log_depth.exp()[..., None]
        rays = centred_px / self.focal_px()[:, None, None]
        points_camera = torch.cat([rays * depth, depth], dim=-1)
        return points_camera @ rotation.transpose(1, 2) + translation[:, None]

    @torch.no_grad()
    def solution(self) -> Solution:
        """Copy the parameters to NumPy arrays."""
        rotation, translation = self.cameras()
        world_from_camera = torch.eye(4, dtype=torch.float64).repeat(len(rotation), 1, 1)
        world_from_camera[:, :3, :3], world_from_camera[:, :3, 3] = rotation, translation
        scale, edge_rotation, edge_translation = (value.double().cpu().numpy() for value in self.edges())
        return Solution(
            world_from_camera=world_from_camera.numpy(),
            focal_px=self.focal_px().expand(len(rotation)).double().cpu().numpy(),
            depth=self.log_depth.exp().double().cpu().numpy().reshape(self.map_shape),
            edge_scale=scale,
            edge_rotation=edge_rotation,
            edge_translation=edge_translation,
        )


def signed_log(value: np.ndarray) -> np.ndarray:
    """Signed logarithm sign(x) log(1 + |x|)."""
    return np.sign(value) * np.log1p(np.abs(value))


def signed_exp(value: Tensor) -> Tensor:
    """Inverse of `signed_log`."""
    return value.sign() * value.abs().expm1()


def _parameter(value: np.ndarray) -> nn.Parameter:
    return nn.Parameter(torch.from_numpy(np.ascontiguousarray(value)).float())


FLOW_STARTS = 0.1
"""Share of the iterations after which the flow term is active; earlier, cameras may be too inaccurate for it."""


def optimise(
    problem: Problem,
    start: Solution,
    options: AlignmentOptions,
    *,
    flow: SampledFlow | None = None,
    device: torch.device | str = "cpu",
) -> Solution:
    """Refine an initial solution with Adam; deterministic on a CPU. `flow`: optical flow at the same pixels."""
    unknowns = Unknowns(start, shared_focal=options.shared_focal).to(device)
    data = EdgeData(problem, device)
    if flow is not None:
        flow = SampledFlow(flow.pairs.to(device), flow.target_px.to(device), flow.counted.to(device))
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
    """Tensors of a `Problem`: points [edges, 2 * pixels, 3], their weights, image indices of the edges, pixels.

    Weight: log confidence / number of points of a side, so that the loss is a sum of two means.
    """

    def __init__(self, problem: Problem, device: torch.device | str) -> None:
        edges, pixels = len(problem.edges), problem.centred_px.reshape(-1, 2)
        weight = log_confidence(problem.confidence).reshape(edges, -1) / (edges * len(pixels))
        points = problem.points.reshape(edges, -1, 3)
        self.edges = torch.from_numpy(problem.edges).to(device)
        self.points, self.weight, self.centred_px = (
            torch.from_numpy(value.astype(np.float32)).to(device) for value in (points, weight, pixels)
        )


def alignment_term(unknowns: Unknowns, world: Tensor, data: EdgeData) -> Tensor:
    """Mean over first images plus mean over second images of log confidence times the distance to the edge's points."""
    scale, rotation, translation = unknowns.edges()
    turn, shift = scale[:, None, None] * rotation, scale[:, None] * translation
    aligned = torch.baddbmm(shift[:, None], data.points, turn.transpose(1, 2))
    own = world[data.edges].flatten(1, 2)
    return (data.weight * torch.linalg.vector_norm(own - aligned, dim=-1)).sum()


def smoothness_term(rotation: Tensor, translation: Tensor) -> Tensor:
    """Sum over consecutive cameras of |R - I| (Frobenius) + |t| of their relative motion (MonST3R)."""
    turn = rotation[:-1].transpose(1, 2) @ rotation[1:]
    step = translation[1:] - translation[:-1]  # same length in the earlier camera's frame as in the world frame
    away = turn - torch.eye(3, dtype=turn.dtype, device=turn.device)
    return torch.linalg.vector_norm(away, dim=(1, 2)).sum() + torch.linalg.vector_norm(step, dim=1).sum()


def learning_rate(options: AlignmentOptions, progress: float) -> float:
    """Learning rate at a progress (share of the iterations) in 0..1."""
    remaining = 1 - progress if options.schedule == "linear" else (1 + math.cos(math.pi * progress)) / 2
    return options.final_learning_rate + remaining * (options.learning_rate - options.final_learning_rate)
