"""Optical flow in global alignment (MonST3R section 3.3): mask of dynamic pixels, flow loss on static pixels.

The user provides the flow (from RAFT, for instance), one `.npz` per sequence:

    pairs [pairs, 2]                 frame indices (from, to), from 0; pairs outside the graph are ignored
    flow  [pairs, height, width, 2]  (u, v) displacement from the first to the second frame, in pixels of the stored image;
                                     float32 or float16, NaN where unknown; the map covers the whole image at any resolution
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from st4rtrack.bench.global_alignment.problem import Problem
from st4rtrack.geometry.camera import project_world
from st4rtrack.geometry.sampling import sample_map
from st4rtrack.io.npz import read_npz
from st4rtrack.pipeline.cameras import solve_camera
from st4rtrack.types import Pointmap, UserError

MOVING = 0.35
"""Normalised flow error, averaged over the pairs of an image, above which a pixel is dynamic."""

OUTLIER_PX = 50.0
"""Flow error in pixels above which a pixel is not counted."""

LOST = 20.0
"""The flow term is disabled while its value is larger: the cameras are then too inaccurate for flow to help."""


@dataclass(frozen=True)
class OpticalFlow:
    """Optical flow as read from the file.

    Attributes:
        pairs: [pairs, 2] frame indices (from, to).
        flow_px: [pairs, height, width, 2] at any resolution, NaN where unknown.
        scale: (u, v) pixels of the network's image per unit of `flow_px`.
    """

    pairs: np.ndarray
    flow_px: np.ndarray
    scale: tuple[float, float] = (1.0, 1.0)


@dataclass(frozen=True)
class SampledFlow:
    """Optical flow at the optimised pixels.

    Attributes:
        pairs: [pairs, 2] image indices (from, to).
        target_px: [pairs, pixels, 2] flow target relative to the principal point; 0 where it is not counted.
        counted: [pairs, pixels] bool, known and static.
    """

    pairs: Tensor
    target_px: Tensor
    counted: Tensor


def read_flow(path: Path, name: str, frames: int, scale: tuple[float, float]) -> OpticalFlow:
    """Read the optical flow of a sequence; `scale`: (u, v) network pixels per pixel of the stored image.

    Raises:
        UserError: the file is missing or has another format; the message names the sequence.
    """
    if not path.is_file():
        raise UserError(f"{name}: there is no optical flow; expected {path}")
    arrays = read_npz(path, "pairs", "flow")
    pairs, flow = arrays["pairs"], arrays["flow"]
    if pairs.ndim != 2 or pairs.shape[1] != 2 or pairs.dtype.kind not in "iu":
        raise UserError(f"{name}: pairs of {path} must be integers [pairs, 2], got {pairs.dtype} {list(pairs.shape)}")
    if flow.ndim != 4 or flow.shape[0] != len(pairs) or flow.shape[-1] != 2 or 0 in flow.shape or flow.dtype.kind != "f":
        raise UserError(
            f"{name}: flow of {path} must be floats [{len(pairs)}, height, width, 2], got {flow.dtype} {list(flow.shape)}"
        )
    evaluated = ((pairs >= 0) & (pairs < frames)).all(axis=1)
    return OpticalFlow(pairs[evaluated].astype(np.int64), flow[evaluated], scale)


def sample_flow(flow: OpticalFlow, problem: Problem, focal_px: np.ndarray) -> SampledFlow:
    """Sample the flow of the problem's edges at its pixels, excluding dynamic ones; `focal_px`: [images].

    Raises:
        UserError: none of the flow pairs is an edge.
    """
    flow_of = {tuple(pair): k for k, pair in enumerate(flow.pairs.tolist())}
    edges = [edge for edge, pair in enumerate(problem.edges.tolist()) if tuple(pair) in flow_of]
    if not edges:
        raise UserError("the optical flow covers no pair of the graph; compute it for those pairs, or choose another --graph")
    flows = np.stack([_at_samples(flow, flow_of[tuple(problem.edges[edge].tolist())], problem) for edge in edges])
    pairs = problem.edges[edges]
    moving = moving_mask(problem, edges, flows, focal_px)
    counted = np.isfinite(flows).all(-1) & ~moving[pairs[:, 0]]
    target = np.where(counted[..., None], problem.centred_px + flows, 0.0)
    return SampledFlow(
        torch.from_numpy(pairs),
        torch.from_numpy(target.reshape(len(pairs), -1, 2).astype(np.float32)),
        torch.from_numpy(counted.reshape(len(pairs), -1)),
    )


def moving_mask(problem: Problem, edges: list[int], flows_px: np.ndarray, focal_px: np.ndarray) -> np.ndarray:
    """Mask of dynamic pixels of each image: pixels whose flow the pair's relative camera pose does not explain.

    The pose of a pair comes from its pointmaps, by PnP on the second one; its RANSAC ignores a dynamic minority. The errors of
    a pair are normalised to 0..1 by their minimum and maximum, and averaged over the pairs of the image. Unlike here, MonST3R
    also propagates masks with a segmentation network.
    """
    total = np.zeros((problem.num_images, *flows_px.shape[1:3]))
    count = np.zeros_like(total)
    for edge, flow_px in zip(edges, flows_px, strict=True):
        induced = induced_flow(problem, edge, focal_px)
        if induced is None:
            continue
        error = np.linalg.norm(induced - flow_px, axis=-1)
        known = np.isfinite(error)
        if not known.any() or np.ptp(error[known]) == 0:
            continue
        image = problem.edges[edge, 0]
        total[image] += np.where(known, (error - error[known].min()) / np.ptp(error[known]), 0.0)
        count[image] += known
    return total > MOVING * np.maximum(count, 1)


def induced_flow(problem: Problem, edge: int, focal_px: np.ndarray) -> np.ndarray | None:
    """Flow [rows, columns, 2] in network pixels that a static scene induces between an edge's two cameras; None if PnP fails."""
    focal = float(focal_px[problem.edges[edge, 1]])
    edge_from_camera = solve_camera(Pointmap(problem.points[edge, 1], problem.confidence[edge, 1]), problem.map_intrinsics(focal))
    if edge_from_camera is None:
        return None
    landed, _ = project_world(problem.points[edge, 0].reshape(-1, 3), edge_from_camera, np.diag([focal, focal, 1.0]))
    return landed.reshape(problem.centred_px.shape) - problem.centred_px


def flow_term(world: Tensor, rotation: Tensor, translation: Tensor, focal_px: Tensor, flow: SampledFlow) -> Tensor | None:
    """Mean smooth-L1 distance in pixels between the flow target and the reprojection of the same point.

    `world` [images, pixels, 3]; rotation and translation are those of `world_from_camera`; `focal_px` is [images], or [1] if
    shared. The mean is over static known pixels in front of the camera with an error below `OUTLIER_PX`; None if there are none,
    or if it is above `LOST`.
    """
    i, j = flow.pairs.unbind(1)
    points = (world[i] - translation[j, None]) @ rotation[j]
    before = points[..., 2] > 1e-6
    depth = torch.where(before, points[..., 2], 1.0)
    focal = focal_px.expand(len(world))[j]
    error = focal[:, None, None] * points[..., :2] / depth[..., None] - flow.target_px
    counted = flow.counted & before & (error.detach().norm(dim=-1) < OUTLIER_PX)
    if not counted.any():
        return None
    error = torch.where(counted[..., None], error, 0.0)
    value = F.smooth_l1_loss(error, torch.zeros_like(error), reduction="sum") / counted.sum()
    return value if float(value.detach()) <= LOST else None


def _at_samples(flow: OpticalFlow, k: int, problem: Problem) -> np.ndarray:
    """Flow k [rows, columns, 2] in network pixels, sampled at the problem's pixels."""
    (height, width), (rows, columns) = problem.image_size, flow.flow_px.shape[1:3]
    pixels_px = problem.centred_px + (width / 2, height / 2)
    return sample_map(flow.flow_px[k].astype(np.float64), pixels_px * (columns / width, rows / height)) * flow.scale
