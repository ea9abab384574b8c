"""The flow term is nothing at the truth, leads to it from nearby, and does not see what moves."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from st4rtrack.bench.global_alignment.flow import (
    OpticalFlow,
    SampledFlow,
    flow_term,
    induced_flow,
    read_flow,
    sample_flow,
)
from st4rtrack.bench.global_alignment.initialise import initialise
from st4rtrack.bench.global_alignment.optimise import Unknowns
from st4rtrack.bench.global_alignment.problem import AlignmentOptions, Problem
from st4rtrack.bench.methods.aligned import align
from st4rtrack.types import UserError
from tests.bench.global_alignment.rigid_scene import (
    RigidScene,
    camera_errors,
    jittered,
    pairwise,
    plane_scene,
    true_flow,
)


def setting(frames: int = 4) -> tuple[RigidScene, Problem, OpticalFlow]:
    scene = plane_scene(frames)
    pairs = pairwise(scene, "complete")
    return scene, pairs.sampled(400), OpticalFlow(pairs.edges, true_flow(scene, pairs.edges))


def at_samples(problem: Problem, maps: np.ndarray) -> np.ndarray:
    first = (problem.stride - 1) // 2
    return maps[..., first :: problem.stride, first :: problem.stride, :]


def all_counted(problem: Problem, flow: OpticalFlow) -> SampledFlow:
    """Nothing masked: at the truth the errors are rounding, and their normalisation would find motion in that."""
    target = (problem.centred_px + at_samples(problem, flow.flow_px)).reshape(len(flow.pairs), -1, 2)
    return SampledFlow(
        torch.from_numpy(flow.pairs), torch.from_numpy(target).float(), torch.ones(target.shape[:2], dtype=torch.bool)
    )


def value(unknowns: Unknowns, problem: Problem, flow: SampledFlow) -> torch.Tensor:
    world = unknowns.world_points(torch.from_numpy(problem.centred_px.reshape(-1, 2)).float())
    term = flow_term(world, *unknowns.cameras(), unknowns.focal_px(), flow)
    assert term is not None
    return term


def test_nothing_at_the_truth_and_downhill_to_it() -> None:
    _, problem, optical = setting()
    flow = all_counted(problem, optical)
    unknowns = Unknowns(initialise(problem, shared_focal=True), shared_focal=True)
    assert float(value(unknowns, problem, flow).detach()) < 1e-3
    truth = unknowns.translation.detach().clone()
    with torch.no_grad():
        unknowns.translation[1:] += 0.03 * torch.randn(truth[1:].shape, generator=torch.Generator().manual_seed(0))
    term = value(unknowns, problem, flow)
    assert float(term.detach()) > 0.1
    term.backward()
    gradient = unknowns.translation.grad
    assert gradient is not None
    away = (unknowns.translation - truth).detach()
    assert float((gradient * away).sum()) > 0


def test_true_flow_improves_wrong_pairs() -> None:
    """Pairs that are wrong about their relative cameras, each in its own way; the flow is right.

    The images are ten times smaller than a network's, and so are errors in pixels: hence ten times MonST3R's weight.
    """
    scene = plane_scene(6)
    pairs = jittered(pairwise(scene, noise=0.01))
    flow = OpticalFlow(pairs.edges, true_flow(scene, pairs.edges).astype(np.float16))
    options = AlignmentOptions(iterations=150, max_pixels=200, shared_focal=True)
    without = align(pairs, options, flow=flow)
    with_flow = align(pairs, dataclasses.replace(options, flow_weight=0.1), flow=flow)
    for before, after in zip(
        camera_errors(without.world_from_camera, scene), camera_errors(with_flow.world_from_camera, scene), strict=True
    ):
        assert after < 0.75 * before


def test_what_moves_is_found_and_not_counted() -> None:
    scene = plane_scene(4)
    pairs = pairwise(scene, "complete", noise=0.003)
    flow_px = true_flow(scene, pairs.edges) + np.random.default_rng(0).normal(0, 0.1, (len(pairs.edges), 32, 48, 2))
    flow_px[:, 8:20, 10:25] += (9.0, -4.0)
    problem = pairs.sampled()
    sampled = sample_flow(OpticalFlow(pairs.edges, flow_px), problem, scene.focal_px)
    counted = sampled.counted.numpy().reshape(-1, 32, 48)
    assert not counted[:, 8:20, 10:25].any()
    counted = counted.copy()
    counted[:, 8:20, 10:25] = True
    assert counted.mean() > 0.99


def test_induced_flow_is_that_of_the_pair() -> None:
    scene, problem, optical = setting()
    for edge in (0, 5):
        induced = induced_flow(problem, edge, scene.focal_px)
        assert induced is not None
        assert np.abs(induced - at_samples(problem, optical.flow_px[edge])).max() < 0.02


def test_far_off_pixels_and_lost_cameras_do_not_count() -> None:
    _, problem, optical = setting()
    flow = all_counted(problem, optical)
    unknowns = Unknowns(initialise(problem, shared_focal=True), shared_focal=True)
    far = flow.target_px.clone()
    far[:, ::4] += 60.0
    assert float(value(unknowns, problem, dataclasses.replace(flow, target_px=far)).detach()) < 1e-3
    world = unknowns.world_points(torch.from_numpy(problem.centred_px.reshape(-1, 2)).float())
    arguments = (world, *unknowns.cameras(), unknowns.focal_px())
    assert flow_term(*arguments, dataclasses.replace(flow, target_px=flow.target_px + 60)) is None
    assert flow_term(*arguments, dataclasses.replace(flow, target_px=flow.target_px + 30)) is None
    near = flow_term(*arguments, dataclasses.replace(flow, target_px=flow.target_px + 5))
    assert near is not None and float(near.detach()) == pytest.approx(2 * 4.5, rel=1e-2)


def test_resolution_and_unit_of_the_flow_do_not_matter() -> None:
    scene, problem, optical = setting()
    small = optical.flow_px.reshape(len(optical.pairs), 16, 2, 24, 2, 2).mean(axis=(2, 4))
    scaled = OpticalFlow(optical.pairs, small * (4.0, 2.0), scale=(0.25, 0.5))
    one, other = (sample_flow(each, problem, scene.focal_px) for each in (optical, scaled))
    both = (one.counted & other.counted).numpy()
    inside = (np.abs(problem.centred_px) < (22, 14)).all(-1).reshape(-1)
    assert both.mean() > 0.5
    difference = (one.target_px - other.target_px).numpy()[both & inside]
    assert np.abs(difference).max() < 0.05


def test_unknown_flow_is_not_counted() -> None:
    scene, problem, optical = setting()
    optical.flow_px[0, :16] = np.nan
    sampled = sample_flow(optical, problem, scene.focal_px)
    upper = (problem.centred_px[..., 1] < -1).reshape(-1)
    assert not sampled.counted[0].numpy()[upper].any() and sampled.counted[1].numpy()[upper].any()
    assert bool(torch.isfinite(sampled.target_px).all())


def test_pairs_of_no_edge_are_left_out() -> None:
    scene, problem, optical = setting()
    reverse = OpticalFlow(optical.pairs[::-1], optical.flow_px[::-1])
    one, other = (sample_flow(each, problem, scene.focal_px) for each in (optical, reverse))
    assert torch.equal(one.pairs, other.pairs) and torch.equal(one.target_px, other.target_px)
    with pytest.raises(UserError, match="no pair of the graph"):
        sample_flow(OpticalFlow(np.array([[0, 0]]), optical.flow_px[:1]), problem, scene.focal_px)


def test_files_of_flow(tmp_path: Path) -> None:
    pairs, flow = np.array([[0, 1], [1, 0], [3, 9]]), np.zeros((3, 4, 6, 2), np.float16)
    path = tmp_path / "one.npz"
    np.savez(path, pairs=pairs, flow=flow)
    read = read_flow(path, "one", 5, (0.5, 0.5))
    assert read.pairs.tolist() == [[0, 1], [1, 0]] and read.flow_px.shape == (2, 4, 6, 2) and read.scale == (0.5, 0.5)
    with pytest.raises(UserError, match=r"one: there is no optical flow; expected .*two\.npz"):
        read_flow(tmp_path / "two.npz", "one", 5, (1, 1))
    for wrong in ({"pairs": pairs[:2]}, {"pairs": pairs.astype(float)}, {"flow": flow[..., :1]}, {"flow": flow.astype(int)}):
        np.savez(path, **{"pairs": pairs, "flow": flow, **wrong})
        with pytest.raises(UserError, match=r"^one: (flow|pairs) of .* must be"):
            read_flow(path, "one", 5, (1, 1))
