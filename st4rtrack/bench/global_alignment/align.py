"""Global alignment from pairwise pointmaps to one world: start, optimisation, all pixels."""

from dataclasses import dataclass

import numpy as np
import torch

from st4rtrack.bench.global_alignment.depth import all_pixels
from st4rtrack.bench.global_alignment.flow import OpticalFlow, sample_flow
from st4rtrack.bench.global_alignment.initialise import initialise
from st4rtrack.bench.global_alignment.optimise import optimise
from st4rtrack.bench.global_alignment.problem import AlignmentOptions, PairwisePointmaps
from st4rtrack.geometry.camera import intrinsics_from_focal, pixel_grid, unproject
from st4rtrack.geometry.transforms import invert_rigid, transform_maps


@dataclass
class Aligned:
    """One world, in the camera frame of image 0; its unit is arbitrary.

    Attributes:
        points_world: [images, height, width, 3] float32.
        world_from_camera: [images, 4, 4] float64, that of image 0 is the identity.
        focal_px: [images].
    """

    points_world: np.ndarray
    world_from_camera: np.ndarray
    focal_px: np.ndarray


def align(
    pairs: PairwisePointmaps,
    options: AlignmentOptions,
    *,
    flow: OpticalFlow | None = None,
    device: torch.device | str = "cpu",
) -> Aligned:
    """Brings all pairs into one world.

    Args:
        pairs: the network's pointmaps; the order of the edges does not matter.
        options: DUSt3R's or MonST3R's terms.
        flow: optical flow, which counts where `options.flow_weight` is positive.
        device: where the optimisation runs.
    Raises:
        UserError: the graph falls into parts, the pointmaps have no extent, or the flow has none of the pairs.
    """
    pairs = pairs.in_order()
    problem, whole = pairs.sampled(options.max_pixels), pairs.sampled()
    start = initialise(problem, shared_focal=options.shared_focal)
    sampled = sample_flow(flow, problem, start.focal_px) if flow is not None and options.flow_weight > 0 else None
    solution = optimise(problem, start, options, flow=sampled, device=device)
    cameras = invert_rigid(solution.world_from_camera[0]) @ solution.world_from_camera
    cameras[0] = np.eye(4)
    height, width = problem.image_size
    grid = pixel_grid(height, width)
    points = np.empty((problem.num_images, height, width, 3), np.float32)
    for image, focal in enumerate(solution.focal_px):
        depth = all_pixels(problem, whole, solution, image, device)
        points[image] = transform_maps(cameras[image], unproject(grid, depth, intrinsics_from_focal(focal, height, width)))
    return Aligned(points, cameras, solution.focal_px)
