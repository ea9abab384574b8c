"""Initialisation of global alignment: pairs joined along the maximum spanning tree of their confidence (DUSt3R section 3.3).

Outliers and points without confidence (C = 1) distort DUSt3R's initialisation so much that 300 iterations do not recover. So
three things differ: points are weighted by log C, as in the loss, not by C; every camera is solved by RANSAC-PnP, not only
those that no edge defines; and depth is the nearest to all edges of an image, not that of the one edge that added it.
"""

import dataclasses
import logging

import numpy as np

from st4rtrack.bench.global_alignment.depth import nearest_depth
from st4rtrack.bench.global_alignment.problem import Problem, Solution, log_confidence
from st4rtrack.geometry.align import Sim3, umeyama
from st4rtrack.geometry.focal import weiszfeld_focal
from st4rtrack.geometry.transforms import rigid, transform_maps
from st4rtrack.pipeline.cameras import FOCAL_RANGE, solve_camera
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
        fits = _fit_all(problem, world)
        start = _with_depth(problem, _in_unit(_solve_poses(problem, world, focal, fits), focal, fits))
        fits = _fit_all(problem, world_points(problem, start))
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


def _fit_all(problem: Problem, world: np.ndarray) -> list[Sim3]:
    return [_fit(problem, edge, 0, world) for edge in range(len(problem.edges))]


def _image_confidence(problem: Problem) -> np.ndarray:
    """Confidence [images, rows, columns]: maximum over the edges of each image."""
    confidence = np.ones((problem.num_images, *problem.confidence.shape[2:]), np.float32)
    np.maximum.at(confidence, problem.edges, problem.confidence.astype(np.float32))
    return confidence


def _solve_poses(problem: Problem, world: np.ndarray, focal: np.ndarray, fits: list[Sim3]) -> np.ndarray:
    """Cameras [images, 4, 4] by PnP; if that fails, from the most confident edge whose first image it is."""
    confidence = _image_confidence(problem)
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
    """Cameras and edges in the world's unit, without depth."""
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
