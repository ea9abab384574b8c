"""Pairwise networks with global alignment: every frame's reconstruction and camera in one world (paper Table 2, "w/ GA")."""

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch

from st4rtrack.bench.global_alignment.flow import OpticalFlow, read_flow, sample_flow
from st4rtrack.bench.global_alignment.initialise import all_pixels, initialise
from st4rtrack.bench.global_alignment.optimise import optimise
from st4rtrack.bench.global_alignment.pairs import Graph, parse_graph, predict_pairs
from st4rtrack.bench.global_alignment.problem import AlignmentOptions, PairwisePointmaps
from st4rtrack.bench.predictions import Method, Prediction
from st4rtrack.geometry.camera import intrinsics_from_focal, pixel_grid, unproject
from st4rtrack.geometry.transforms import invert_rigid, transform_maps
from st4rtrack.io.worldtrack import WorldTrackSequence
from st4rtrack.model.checkpoint import load_model
from st4rtrack.model.network import St4RTrack
from st4rtrack.options import MethodOptions
from st4rtrack.preprocess import stretch_to_network_size
from st4rtrack.types import UserError

DUST3R = AlignmentOptions(schedule="cosine")
"""One focal length per image; DUSt3R's schedule."""

MONST3R = AlignmentOptions(schedule="linear", shared_focal=True, smoothness=0.01, flow_weight=0.01)
"""One shared focal length, smooth cameras, and the flow term if the user provides flow."""


def dust3r(options: MethodOptions) -> Method:
    """DUSt3R's global alignment, also applied to MASt3R's pointmaps."""
    return _method(options, DUST3R)


def monst3r(options: MethodOptions) -> Method:
    """MonST3R's global alignment; the flow term is active if `options.flow` is a folder (see `global_alignment/flow.py`)."""
    if options.flow is not None and not options.flow.is_dir():
        raise UserError(f"--flow {options.flow} is not a folder; pass one with a .npz per sequence, mirroring the data")
    return _method(options, MONST3R)


def _method(options: MethodOptions, alignment: AlignmentOptions) -> Method:
    if options.model is None:
        raise UserError("this method needs its weights; pass --model NAME (st4rtrack models) or --model PATH")
    if options.iterations < 0:
        raise UserError(f"--iterations must be 0 or more, got {options.iterations}")
    graph = parse_graph(options.graph)
    alignment = dataclasses.replace(alignment, iterations=options.iterations)
    model = load_model(options.model, device=options.device, dtype=options.dtype)
    flow = options.flow if alignment.flow_weight > 0 else None

    def predict(sequence: WorldTrackSequence) -> Prediction:
        side, patch = options.size or model.config.image_size, model.config.patch_size
        video, pixel_map = stretch_to_network_size(sequence.video, long_side=side, patch_size=patch)  # every pixel is covered
        rgb = np.stack(list(video.frames()))
        path = None if flow is None else flow / f"{sequence.name}.npz"
        optical = None if path is None else read_flow(path, sequence.name, len(sequence), pixel_map.scale)
        try:
            return align_sequence(model, rgb, graph, alignment, optical)
        except UserError as error:
            raise UserError(f"{sequence.name}: {error}") from error

    return predict


def align_sequence(
    model: St4RTrack, rgb: np.ndarray, graph: Graph, alignment: AlignmentOptions, flow: OpticalFlow | None = None
) -> Prediction:
    """Reconstruct frames [time, height, width, 3] uint8 at network size: points and cameras in the camera frame of frame 0."""
    pairs = predict_pairs(model, rgb, graph.edges(len(rgb)))
    aligned = align(pairs, alignment, flow=flow, device=model.device)
    return Prediction(reconstruction_world=aligned.points_world, world_from_camera=aligned.world_from_camera)


@dataclass
class Aligned:
    """Globally aligned reconstruction in the camera frame of image 0, in an arbitrary unit.

    Points [images, height, width, 3] float32, cameras [images, 4, 4] (the identity for image 0), focal lengths [images] in
    pixels.
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
    """Align all pairs in one world frame."""
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
