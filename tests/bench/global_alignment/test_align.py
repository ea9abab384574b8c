"""Global alignment recovers rigid scenes from noisy pairs, whatever their order; smoothness calms cameras."""

import dataclasses

import numpy as np
import pytest
import torch

from st4rtrack.bench.global_alignment.initialise import estimate_focals, initialise, nearest_depth
from st4rtrack.bench.global_alignment.optimise import (
    EdgeData,
    Unknowns,
    alignment_term,
    learning_rate,
    optimise,
    smoothness_term,
)
from st4rtrack.bench.global_alignment.problem import AlignmentOptions, PairwisePointmaps
from st4rtrack.bench.methods.aligned import align
from st4rtrack.geometry.align import umeyama
from st4rtrack.geometry.transforms import quaternion_from_rotation, rotation_from_quaternion
from st4rtrack.types import UserError
from tests.bench.global_alignment.rigid_scene import (
    RigidScene,
    camera_errors,
    jittered,
    pairwise,
    rigid_scene,
    scene_error,
    turned,
    world_points,
)

FEW_PIXELS = AlignmentOptions(max_pixels=200)


@pytest.mark.parametrize(("seed", "shared_focal"), [(0, False), (1, True), (3, True)])
def test_recovers_a_rigid_scene_within_one_percent(seed: int, shared_focal: bool) -> None:
    scene = rigid_scene(seed=seed)
    pairs = pairwise(scene, noise=0.02, outliers=0.05, seed=seed)
    aligned = align(pairs, dataclasses.replace(FEW_PIXELS, shared_focal=shared_focal))
    assert scene_error(aligned.points_world, scene) < 0.01
    degrees, distance = camera_errors(aligned.world_from_camera, scene)
    assert degrees < 1.0 and distance < 0.025
    assert np.abs(aligned.focal_px / 40 - 1).max() < 0.025
    assert np.array_equal(aligned.world_from_camera[0], np.eye(4))
    if shared_focal:
        assert np.ptp(aligned.focal_px) == 0


def test_optimising_improves_the_start() -> None:
    scene = rigid_scene(seed=2)
    pairs = pairwise(scene, noise=0.02, outliers=0.05)
    start = align(pairs, dataclasses.replace(FEW_PIXELS, iterations=0))
    end = align(pairs, dataclasses.replace(FEW_PIXELS, schedule="cosine"))
    assert scene_error(end.points_world, scene) < 0.6 * scene_error(start.points_world, scene)
    assert max(camera_errors(end.world_from_camera, scene)) < 0.5 * max(camera_errors(start.world_from_camera, scene))


def test_exact_pairs_are_exact_at_once() -> None:
    scene = rigid_scene(5)
    aligned = align(pairwise(scene), dataclasses.replace(FEW_PIXELS, iterations=0))
    assert scene_error(aligned.points_world, scene) < 1e-4
    assert max(camera_errors(aligned.world_from_camera, scene)) < 1e-2
    assert np.allclose(aligned.focal_px, 40, rtol=1e-3)


def test_order_of_edges_does_not_matter() -> None:
    pairs = pairwise(rigid_scene(5), noise=0.01)
    order = np.random.default_rng(0).permutation(len(pairs.edges))
    shuffled = PairwisePointmaps(pairs.edges[order], pairs.points[order], pairs.confidence[order])
    options = AlignmentOptions(iterations=20, max_pixels=200)
    one, other = align(pairs, options), align(shuffled, options)
    assert np.array_equal(one.points_world, other.points_world)
    assert np.array_equal(one.world_from_camera, other.world_from_camera)


def test_units_of_the_pairs_do_not_matter() -> None:
    scene = rigid_scene(5)
    pairs = pairwise(scene, noise=0.01)
    scale = np.random.default_rng(1).uniform(0.1, 9, (len(pairs.edges), 1, 1, 1, 1))
    scaled = PairwisePointmaps(pairs.edges, (pairs.points * scale).astype(np.float32), pairs.confidence)
    options = dataclasses.replace(FEW_PIXELS, iterations=0)
    one, other = (align(each, options).points_world for each in (pairs, scaled))
    fit = umeyama(other, one)
    assert np.abs(fit(other) - one).max() < 0.02 * np.abs(one).max()


def test_half_precision_is_enough() -> None:
    scene = rigid_scene(5)
    pairs = pairwise(scene)
    half = PairwisePointmaps(pairs.edges, pairs.points.astype(np.float16), pairs.confidence.astype(np.float16))
    assert scene_error(align(half, FEW_PIXELS).points_world, scene) < 1e-3


def test_the_loss_is_zero_at_the_truth_alone() -> None:
    scene = rigid_scene(4)
    problem = pairwise(scene, "complete").sampled()
    start = initialise(problem, shared_focal=False)
    unknowns, data = Unknowns(start, shared_focal=False), EdgeData(problem, "cpu")
    assert float(alignment_term(unknowns, unknowns.world_points(data.centred_px), data).detach()) < 1e-3
    with torch.no_grad():
        unknowns.translation[1] += 0.1
    assert float(alignment_term(unknowns, unknowns.world_points(data.centred_px), data).detach()) > 1e-2


def test_the_loss_is_the_formula() -> None:
    scene = rigid_scene(3)
    problem = pairwise(scene, "complete", noise=0.05, outliers=0.1).sampled()
    start = initialise(problem, shared_focal=False)
    unknowns, data = Unknowns(start, shared_focal=False), EdgeData(problem, "cpu")
    world = unknowns.world_points(data.centred_px)
    value = float(alignment_term(unknowns, world, data).detach())
    own = world.detach().numpy().reshape(3, *problem.points.shape[2:])
    total = 0.0
    for e, edge in enumerate(problem.edges):
        for side, image in enumerate(edge):
            points = start.edge_scale[e] * (problem.points[e, side] @ start.edge_rotation[e].T + start.edge_translation[e])
            distance = np.linalg.norm(own[image] - points, axis=-1)
            total += (np.log(problem.confidence[e, side]) * distance).mean() / len(problem.edges)
    assert value == pytest.approx(total, rel=1e-4)


def jerk(world_from_camera: np.ndarray) -> float:
    """Mean length of the third difference of camera centres; the unit is fixed by the mean scale of the edges."""
    return float(np.linalg.norm(np.diff(world_from_camera[:, :3, 3], n=3, axis=0), axis=1).mean())


def path_length(world_from_camera: np.ndarray) -> float:
    return float(np.linalg.norm(np.diff(world_from_camera[:, :3, 3], axis=0), axis=1).sum())


@pytest.mark.parametrize("moves", [False, True])
def test_smoothness_calms_jittered_cameras(moves: bool) -> None:
    """A camera at rest comes to rest; the path of a moving one becomes shorter (the term is first-order: it is not made even)."""
    scene = rigid_scene(8, seed=4)
    cameras = np.tile(np.eye(4), (8, 1, 1))
    cameras[:, 0, 3] = np.linspace(0, 1.0 if moves else 0.0, 8)
    still = RigidScene(cameras, scene.focal_px, scene.depth, world_points(cameras, scene.focal_px, scene.depth))
    pairs = jittered(pairwise(still, noise=0.01), 0.01)
    rough, smooth = (
        align(pairs, dataclasses.replace(FEW_PIXELS, iterations=150, shared_focal=True, smoothness=weight)).world_from_camera
        for weight in (0.0, 0.01)
    )
    assert path_length(smooth) < path_length(rough)
    if not moves:
        assert jerk(smooth) < 0.5 * jerk(rough)


def test_smoothness_by_hand() -> None:
    rotation = torch.from_numpy(np.stack([np.eye(3), turned(np.array([0, 0, np.pi / 2])), turned(np.array([0, 0, np.pi / 2]))]))
    translation = torch.tensor([[0.0, 0, 0], [3.0, 4, 0], [3.0, 4, 2]], dtype=torch.float64)
    # a quarter turn is 2 away from the identity (four entries off by 1)
    assert float(smoothness_term(rotation, translation)) == pytest.approx(2 + 5 + 2)


def test_nearest_depth_is_the_minimum() -> None:
    scene = rigid_scene(4)
    problem = pairwise(scene, "complete", noise=0.05, outliers=0.2).sampled()
    solution = initialise(problem, shared_focal=True)
    depth = nearest_depth(problem, solution, 1, iterations=60)
    data = EdgeData(problem, "cpu")

    def loss(candidate: np.ndarray) -> float:
        moved = dataclasses.replace(solution, depth=np.where(np.arange(4)[:, None, None] == 1, candidate, solution.depth))
        unknowns = Unknowns(moved, shared_focal=True)
        return float(alignment_term(unknowns, unknowns.world_points(data.centred_px), data).detach())

    best = loss(depth)
    for factor in (0.97, 0.99, 1.01, 1.03):
        assert loss(depth * factor) > best


def test_pixels_that_were_not_optimised_follow() -> None:
    scene = rigid_scene(4)
    pairs = pairwise(scene, "complete", noise=0.01)
    errors = [scene_error(align(pairs, AlignmentOptions(iterations=100, max_pixels=n)).points_world, scene) for n in (1536, 100)]
    assert errors[0] < 0.006 and errors[1] < 0.006


def test_sampling_keeps_pixels_and_cameras_together() -> None:
    scene = rigid_scene(3, height=30, width=46)
    pairs = pairwise(scene, "complete")
    for max_pixels in (2000, 700, 100, 30):
        problem = pairs.sampled(max_pixels)
        rows, columns = problem.centred_px.shape[:2]
        assert rows * columns <= max_pixels and problem.points.shape[2:4] == (rows, columns)
        assert np.allclose(estimate_focals(problem, shared=False), 40, rtol=1e-3)
        first = np.flatnonzero((problem.edges == (0, 1)).all(axis=1))[0]
        points, intrinsics = problem.points[first, 0].astype(np.float64), problem.map_intrinsics(40.0)
        seen = points @ intrinsics.T
        map_px = np.stack(np.meshgrid(np.arange(columns) + 0.5, np.arange(rows) + 0.5), axis=-1)
        assert np.allclose(seen[..., :2] / seen[..., 2:], map_px, atol=1e-3)


def test_more_iterations_of_the_same_start_lower_the_loss() -> None:
    problem = pairwise(rigid_scene(5), noise=0.02, outliers=0.05).sampled(200)
    start, data = initialise(problem, shared_focal=False), EdgeData(problem, "cpu")
    losses = []
    for iterations in (0, 30, 200):
        unknowns = Unknowns(optimise(problem, start, AlignmentOptions(iterations=iterations)), shared_focal=False)
        losses.append(float(alignment_term(unknowns, unknowns.world_points(data.centred_px), data).detach()))
    assert losses[0] > losses[1] > losses[2]


def test_learning_rates_fall_from_one_end_to_the_other() -> None:
    for schedule, half in (("linear", 0.5), ("cosine", 0.5)):
        options = AlignmentOptions(schedule=schedule)  # pyright: ignore[reportArgumentType]
        assert [learning_rate(options, p) for p in (0.0, 0.5, 1.0)] == pytest.approx([0.01, half * 0.01, 1e-6], abs=1e-6)
    assert learning_rate(AlignmentOptions(schedule="cosine"), 0.25) > learning_rate(AlignmentOptions(), 0.25)


def test_weights_decide_in_procrustes() -> None:
    rng = np.random.default_rng(0)
    source = rng.normal(size=(100, 3))
    rotation = turned(np.array([0.3, -0.5, 0.2]))
    target = 1.7 * source @ rotation.T + (1.0, 2.0, 3.0)
    target[:30] += rng.normal(0, 5, (30, 3))
    weights = np.where(np.arange(100) < 30, 0.0, 1.0)
    fit = umeyama(source, target, weights=weights)
    assert fit.scale == pytest.approx(1.7) and np.allclose(fit.rotation, rotation)
    assert np.allclose(fit.translation, (1, 2, 3))
    equal, plain = umeyama(source, target, weights=np.full(100, 3.0)), umeyama(source, target)
    assert equal.scale == pytest.approx(plain.scale) and np.allclose(equal.rotation, plain.rotation)
    for bad in (np.zeros(100), np.eye(100)[0]):
        with pytest.raises(ValueError, match="cannot be estimated"):
            umeyama(source, target, weights=bad)


def test_quaternions_go_both_ways() -> None:
    rng = np.random.default_rng(0)
    vectors = np.concatenate([rng.normal(0, 2, (50, 3)), np.pi * np.eye(3), np.zeros((1, 3))])
    rotation = np.stack([turned(vector) for vector in vectors])
    again = rotation_from_quaternion(3 * torch.from_numpy(quaternion_from_rotation(rotation)))
    assert np.allclose(again.numpy(), rotation, atol=1e-12)


def test_parts_that_no_pair_joins_are_refused() -> None:
    pairs = pairwise(rigid_scene(5), "complete")
    kept = np.isin(pairs.edges, (0, 1)).all(axis=1) | np.isin(pairs.edges, (2, 3, 4)).all(axis=1)
    cut = PairwisePointmaps(pairs.edges[kept], pairs.points[kept], pairs.confidence[kept])
    with pytest.raises(UserError, match="does not reach frame"):
        align(cut, FEW_PIXELS)


def test_pointmaps_without_extent_are_refused() -> None:
    pairs = pairwise(rigid_scene(3), "complete")
    with pytest.raises(UserError, match="is the model trained"):
        align(PairwisePointmaps(pairs.edges, np.ones_like(pairs.points), pairs.confidence), FEW_PIXELS)
