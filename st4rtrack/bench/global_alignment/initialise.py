"""Initialisation of global alignment: pairs joined along the maximum spanning tree of their confidence (DUSt3R section 3.3).

Outliers and points without confidence (C = 1) distort DUSt3R's initialisation so much that 300 iterations do not recover. So
three things differ: points are weighted by log C, as in the loss, not by C; every camera is solved by RANSAC-PnP, not only
those that no edge defines; and depth is fitted to all edges of an image, instead of copied from the edge that added it: with
cameras and edges fixed, the loss separates into one convex problem per pixel, the depth along its ray that is nearest to the
edges' points. This also gives the depth of the pixels that are not optimised.
"""

import dataclasses
import logging

import numpy as np
import torch
from torch import Tensor

from st4rtrack.bench.global_alignment.problem import Problem, Solution, log_confidence
from st4rtrack.geometry.align import Sim3, umeyama
from st4rtrack.geometry.sampling import sample_map
from st4rtrack.geometry.transforms import rigid, transform_maps
from st4rtrack.pipeline.cameras import FOCAL_RANGE, solve_camera, weiszfeld_focal
from st4rtrack.types import Pointmap, UserError

logger = logging.getLogger(__name__)

MEAN_EDGE_SCALE = 0.5
"""Geometric mean of the edges' scales: fixes the world's unit, which the pairs leave open. DUSt3R's value."""


def initialise(problem: Problem, *, shared_focal: bool) -> Solution:
    """Estimate cameras, depths and the edges' similarities from the pairs alone.

    Raises:
        UserError: the graph is not connected, or the pointmaps have no extent.
    """
    focal = estimate_focals(problem, shared=shared_focal)
    try:
        world = _grow(problem)
        fits = [_fit(problem, edge, 0, world) for edge in range(len(problem.edges))]
        start = _with_depth(problem, _in_unit(_solve_poses(problem, world, focal, fits), focal, fits))
        world = world_points(problem, start)
        fits = [_fit(problem, edge, 0, world) for edge in range(len(problem.edges))]
    except ValueError as error:
        raise UserError(f"the network's pointmaps cannot be aligned ({error}); is the model trained?") from None
    return _with_depth(problem, _in_unit(start.world_from_camera, focal, fits))


def world_points(problem: Problem, solution: Solution) -> np.ndarray:
    """World points [images, rows, columns, 3] of a solution."""
    depth = solution.depth[..., None]
    rays = problem.centred_px / solution.focal_px[:, None, None, None]
    return transform_maps(solution.world_from_camera, np.concatenate([rays * depth, depth], axis=-1))


def estimate_focals(problem: Problem, *, shared: bool) -> np.ndarray:
    """Focal length [images] in pixels of the whole image: the median over the edges whose first image it is."""
    per_edge = np.array([_focal(problem, edge) for edge in range(len(problem.edges))])
    low, high = (bound * max(problem.image_size) for bound in FOCAL_RANGE)
    plausible = (per_edge >= low) & (per_edge <= high)
    if not plausible.all():
        logger.warning(
            "%d of %d pointmaps have an implausible focal length; clamped to the nearest plausible value",
            (~plausible).sum(),
            len(plausible),
        )
    per_edge = np.clip(per_edge, low, high)
    first = problem.edges[:, 0]
    overall = float(np.median(per_edge))
    focal = [np.median(per_edge[first == image]) if (first == image).any() else overall for image in range(problem.num_images)]
    return np.full(len(focal), np.mean(focal)) if shared else np.array(focal)


def _focal(problem: Problem, edge: int) -> float:
    points = problem.points[edge, 0].astype(np.float64)
    weights = log_confidence(problem.confidence[edge, 0]) * (points[..., 2] > 0)
    try:
        return weiszfeld_focal(points, pixels_px=problem.centred_px, weights=weights)
    except ValueError:
        return 0.0  # no point in front of the camera: counted as implausible


def _grow(problem: Problem) -> np.ndarray:
    """World points [images, rows, columns, 3] of every image, each from one edge."""
    score = problem.confidence.astype(np.float64).mean(axis=(2, 3)).prod(axis=1)
    best = int(np.argmax(score))
    i, j = problem.edges[best]
    world = np.zeros((problem.num_images, *problem.points.shape[2:]))
    world[i], world[j] = problem.points[best]
    placed = np.isin(np.arange(problem.num_images), (i, j))
    while not placed.all():
        touches = placed[problem.edges].sum(axis=1) == 1
        if not touches.any():
            raise UserError(f"the graph of pairs does not reach frame {int(np.argmin(placed))}; choose another --graph")
        edge = int(np.argmax(np.where(touches, score, -np.inf)))
        new = int(np.argmin(placed[problem.edges[edge]]))
        image = problem.edges[edge, new]
        world[image] = _fit(problem, edge, 1 - new, world)(problem.points[edge, new].astype(np.float64))
        placed[image] = True
    return world


def _fit(problem: Problem, edge: int, side: int, world: np.ndarray) -> Sim3:
    """Similarity that maps an edge's points of one of its images to that image's world points."""
    image = problem.edges[edge, side]
    return umeyama(problem.points[edge, side], world[image], weights=log_confidence(problem.confidence[edge, side]))


def _solve_poses(problem: Problem, world: np.ndarray, focal: np.ndarray, fits: list[Sim3]) -> np.ndarray:
    """Cameras [images, 4, 4] by PnP; if that fails, from the most confident edge whose first image it is."""
    confidence = np.ones((problem.num_images, *problem.confidence.shape[2:]), np.float32)
    np.maximum.at(confidence, problem.edges, problem.confidence.astype(np.float32))  # over the edges of each image
    poses = np.tile(np.eye(4), (problem.num_images, 1, 1))
    for image in range(problem.num_images):
        pose = solve_camera(Pointmap(world[image], confidence[image]), problem.map_intrinsics(focal[image]))
        own = np.flatnonzero(problem.edges[:, 0] == image)
        if pose is None and len(own):
            edge = own[np.argmax(problem.confidence[own, 0].astype(np.float32).mean(axis=(1, 2)))]
            pose = rigid(fits[edge].rotation, fits[edge].translation)
        if pose is not None:
            poses[image] = pose
    return poses


def _in_unit(poses: np.ndarray, focal: np.ndarray, fits: list[Sim3]) -> Solution:
    """Solution without depth: cameras and edge similarities in the unit of the world."""
    scale = np.maximum([fit.scale for fit in fits], 1e-6)
    unit = MEAN_EDGE_SCALE / np.exp(np.log(scale).mean())
    poses = poses.copy()
    poses[:, :3, 3] *= unit
    return Solution(
        world_from_camera=poses,
        focal_px=focal,
        depth=np.zeros(0),
        edge_scale=unit * scale,
        edge_rotation=np.stack([fit.rotation for fit in fits]),
        edge_translation=np.stack([fit.translation for fit in fits]) / scale[:, None],
    )


def _with_depth(problem: Problem, solution: Solution) -> Solution:
    depth = np.stack([nearest_depth(problem, solution, image) for image in range(problem.num_images)])
    return dataclasses.replace(solution, depth=depth)


NEAREST = 0.01
"""Minimum depth relative to the image's median depth: a point behind its camera has no log depth."""


def nearest_depth(
    problem: Problem, solution: Solution, image: int, *, device: torch.device | str = "cpu", iterations: int = 10
) -> np.ndarray:
    """Depth [rows, columns] of an image that minimises the weighted sum of distances to its edges' points; positive, float64.

    The depth of the solution is not used. Weiszfeld's iteration: a point q is at distance sqrt(|r|^2 (d - a)^2 + |q - a r|^2)
    from depth d on the ray r, where a is the depth of the foot of its perpendicular on the ray.
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
    """Depth [height, width] of an image at all pixels (problem `whole`) from the solution of the problem `sampled`, float64.

    Where the optimiser deviates from `nearest_depth` at its own pixels (it stopped before the minimum, or the flow term pulled),
    the ratio is carried over as a smooth factor. If all pixels are optimised, the result is exactly the optimiser's.
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
    """Foot depth and squared ray distance of the points [edges, rows, columns] of all edges of an image; |r|; weights."""
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
