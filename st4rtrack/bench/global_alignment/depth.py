"""Depth for fixed cameras and edges; extension of depth from the optimised pixels to all pixels.

With cameras and edges fixed, the loss separates into one convex problem per pixel: the depth along its ray that is nearest to
the edges' points. This gives the initial depth, and the depth of the pixels that are not optimised.
"""

import numpy as np
import torch
from torch import Tensor

from st4rtrack.bench.global_alignment.problem import Problem, Solution, log_confidence
from st4rtrack.geometry.sampling import sample_map

NEAREST = 0.01
"""Minimum depth relative to the image's median depth: a point behind its camera has no log depth."""


def nearest_depth(
    problem: Problem, solution: Solution, image: int, *, device: torch.device | str = "cpu", iterations: int = 10
) -> np.ndarray:
    """Depth [rows, columns] of an image that minimises the weighted sum of distances to its edges' points; positive, float64.

    Weiszfeld's iteration: a point q is at distance sqrt(|r|^2 (d - a)^2 + |q - a r|^2) from depth d on the ray r, where a is the
    depth of the foot of its perpendicular on the ray.

    Args:
        problem: pairwise pointmaps at any set of pixels.
        solution: cameras, focal lengths and edges; its depth is not used.
        image: image index.
        device: where to compute.
        iterations: Weiszfeld iterations after the weighted mean.
    """
    feet, off_ray, length, weight = _observations(problem, solution, image, device)
    depth = (weight * feet).sum(0) / weight.sum(0)
    for _ in range(iterations):
        distance = ((length * (depth - feet)) ** 2 + off_ray).sqrt()
        share = weight / distance.clamp(min=1e-6)
        depth = (share * feet).sum(0) / share.sum(0)
    floor = NEAREST * max(float(depth.abs().median()), 1e-6)
    return depth.clamp(min=floor).double().cpu().numpy()


def all_pixels(
    sampled: Problem, whole: Problem, solution: Solution, image: int, device: torch.device | str = "cpu"
) -> np.ndarray:
    """Depth [height, width] of an image at all pixels, float64.

    Where the optimiser deviates from `nearest_depth` at its own pixels (it stopped before the minimum, or the flow term
    pulled), the ratio is carried over as a smooth factor. If all pixels are optimised, the result is exactly the optimiser's.

    Args:
        sampled: the optimised problem.
        whole: the same problem at all pixels.
        solution: solution of `sampled`.
        image: image index.
        device: where to compute.
    """
    if sampled.stride == 1:
        return solution.depth[image]
    height, width = whole.image_size
    middle_px, stride = np.array([width / 2, height / 2]), sampled.stride
    log_depth = np.log(nearest_depth(whole, solution, image, device=device))
    correction = np.log(solution.depth[image]) - sample_map(log_depth, sampled.centred_px + middle_px)
    return np.exp(log_depth + sample_map(correction, (whole.centred_px - sampled.centred_px[0, 0]) / stride + 0.5))


def _observations(
    problem: Problem, solution: Solution, image: int, device: torch.device | str
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Feet on the rays and squared ray distances [edges, rows, columns] of all edges of the image; |r|; weights."""
    rays = problem.centred_px / solution.focal_px[image]
    ray = _tensor(np.concatenate([rays, np.ones((*rays.shape[:2], 1))], axis=-1), device)
    square = (ray * ray).sum(-1)
    camera = solution.world_from_camera[image]
    feet, off_ray, weight = [], [], []
    for edge, side in np.argwhere(problem.edges == image):
        turn = solution.edge_scale[edge] * camera[:3, :3].T @ solution.edge_rotation[edge]
        shift = camera[:3, :3].T @ (solution.edge_scale[edge] * solution.edge_translation[edge] - camera[:3, 3])
        points = _tensor(problem.points[edge, side], device) @ _tensor(turn.T, device) + _tensor(shift, device)
        foot = (points * ray).sum(-1) / square
        feet.append(foot)
        off_ray.append((points - foot[..., None] * ray).square().sum(-1))
        weight.append(_tensor(log_confidence(problem.confidence[edge, side]), device))
    return torch.stack(feet), torch.stack(off_ray), square.sqrt(), torch.stack(weight)


def _tensor(value: np.ndarray, device: torch.device | str) -> Tensor:
    return torch.from_numpy(value.astype(np.float32)).to(device)
