"""Rigid scenes as a network of pairs would see them: every pair in its own frame and scale, with noise and unsure outliers."""

from dataclasses import dataclass

import numpy as np

from st4rtrack.bench.global_alignment.pairs import parse_graph
from st4rtrack.bench.global_alignment.problem import PairwisePointmaps
from st4rtrack.geometry.align import umeyama
from st4rtrack.geometry.camera import intrinsics_from_focal, pixel_grid, project, unproject
from st4rtrack.geometry.transforms import invert_rigid, rigid, rotation_angle, transform_maps, transform_points

HEIGHT, WIDTH = 32, 48


@dataclass
class RigidScene:
    """Truth: cameras [images, 4, 4] with the first at the identity, focal lengths, depth and world points of every pixel."""

    world_from_camera: np.ndarray
    focal_px: np.ndarray
    depth: np.ndarray
    points_world: np.ndarray


def turned(axis_angle: np.ndarray) -> np.ndarray:
    """Rotation matrix of a rotation vector [3]."""
    angle = np.linalg.norm(axis_angle)
    if angle == 0:
        return np.eye(3)
    x, y, z = axis_angle / angle
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * k + (1 - np.cos(angle)) * k @ k


def rigid_scene(
    frames: int = 7, *, seed: int = 0, focal_px: float = 40.0, height: int = HEIGHT, width: int = WIDTH
) -> RigidScene:
    """A camera that wanders at random before smooth depth."""
    rng = np.random.default_rng(seed)
    cameras, pose = [], np.eye(4)
    for _ in range(frames):
        cameras.append(pose)
        pose = pose @ rigid(turned(rng.normal(0, 0.06, 3)), rng.normal(0, 0.12, 3))
    world_from_camera = np.stack(cameras)
    grid = pixel_grid(height, width) / max(height, width)
    phase, wave = rng.uniform(0, 6, (frames, 2)), rng.uniform(3, 8, (frames, 2))
    bumps = [
        np.sin(wave[t, 0] * grid[..., 0] + phase[t, 0]) + np.cos(wave[t, 1] * grid[..., 1] + phase[t, 1]) for t in range(frames)
    ]
    depth = 2.5 + 0.4 * np.stack(bumps)
    focal = np.full(frames, focal_px)
    return RigidScene(world_from_camera, focal, depth, world_points(world_from_camera, focal, depth))


def plane_scene(
    frames: int = 6, *, seed: int = 0, focal_px: float = 40.0, height: int = HEIGHT, width: int = WIDTH
) -> RigidScene:
    """One tilted plane seen by all cameras, so that there is optical flow between them."""
    scene = rigid_scene(frames, seed=seed, focal_px=focal_px, height=height, width=width)
    normal, offset = np.array([0.1, -0.2, 1.0]), 3.0
    rays = unproject(pixel_grid(height, width), np.ones((height, width)), intrinsics_from_focal(focal_px, height, width))
    depth = np.stack([(offset - normal @ pose[:3, 3]) / (rays @ (normal @ pose[:3, :3])) for pose in scene.world_from_camera])
    return RigidScene(
        scene.world_from_camera, scene.focal_px, depth, world_points(scene.world_from_camera, scene.focal_px, depth)
    )


def world_points(world_from_camera: np.ndarray, focal_px: np.ndarray, depth: np.ndarray) -> np.ndarray:
    height, width = depth.shape[1:]
    grid = pixel_grid(height, width)
    return np.stack(
        [
            transform_maps(pose, unproject(grid, d, intrinsics_from_focal(float(f), height, width)))
            for pose, f, d in zip(world_from_camera, focal_px, depth, strict=True)
        ]
    )


def pairwise(
    scene: RigidScene, graph: str = "swinstride-3-noncyclic", *, noise: float = 0.0, outliers: float = 0.0, seed: int = 0
) -> PairwisePointmaps:
    """What a network would say: relative noise per point, and a share of far-off points of low confidence."""
    rng = np.random.default_rng(seed)
    edges = parse_graph(graph).edges(len(scene.depth))
    points, confidence = [], []
    for i, j in edges:
        both = transform_maps(invert_rigid(scene.world_from_camera[i]), scene.points_world[[i, j]])
        distance = np.linalg.norm(both, axis=-1, keepdims=True)
        both = both + noise * distance * rng.normal(size=both.shape)
        sure = rng.uniform(2, 10, both.shape[:-1])
        wrong = rng.random(both.shape[:-1]) < outliers
        both[wrong] += rng.normal(0, 2, (int(wrong.sum()), 3))
        points.append(rng.uniform(0.5, 2.0) * both)
        confidence.append(np.where(wrong, 1.05, sure))
    return PairwisePointmaps(edges, np.stack(points).astype(np.float32), np.stack(confidence).astype(np.float32))


def jittered(pairs: PairwisePointmaps, size: float = 0.03, *, seed: int = 0) -> PairwisePointmaps:
    """Every pair wrong about its relative camera in its own way: by `size` radians and `size` median depths, per axis."""
    rng = np.random.default_rng(seed)
    points = pairs.points.copy()
    for edge in points:
        jitter = rigid(turned(rng.normal(0, size, 3)), rng.normal(0, size, 3) * np.median(edge[0, ..., 2]))
        edge[1] = transform_maps(jitter, edge[1].astype(np.float64))
    return PairwisePointmaps(pairs.edges, points, pairs.confidence)


def scene_error(points_world: np.ndarray, scene: RigidScene) -> float:
    """Median over points of the distance to the truth over the true distance from camera 0, after the best similarity."""
    fit = umeyama(points_world, scene.points_world)
    distance = np.linalg.norm(fit(points_world.astype(np.float64)) - scene.points_world, axis=-1)
    return float(np.median(distance / np.linalg.norm(scene.points_world, axis=-1)))


def camera_errors(world_from_camera: np.ndarray, scene: RigidScene) -> tuple[float, float]:
    """Largest rotation error in degrees; largest distance of camera centres over the mean depth, after a scale."""
    truth = scene.world_from_camera
    turn = np.swapaxes(world_from_camera[:, :3, :3], 1, 2) @ truth[:, :3, :3]
    centre, true_centre = world_from_camera[:, :3, 3], truth[:, :3, 3]
    scale = (centre * true_centre).sum() / (centre * centre).sum()
    distance = np.linalg.norm(scale * centre - true_centre, axis=1)
    return float(np.degrees(rotation_angle(turn)).max()), float(distance.max() / scene.depth.mean())


def true_flow(scene: RigidScene, edges: np.ndarray) -> np.ndarray:
    """[edges, height, width, 2] where image i's points are in image j, minus where they are in i."""
    height, width = scene.depth.shape[1:]
    grid, flows = pixel_grid(height, width), []
    for i, j in edges:
        in_j = transform_points(invert_rigid(scene.world_from_camera[j]), scene.points_world[i].reshape(-1, 3))
        landed = project(in_j, intrinsics_from_focal(float(scene.focal_px[j]), height, width))
        flows.append(landed.reshape(height, width, 2) - grid)
    return np.stack(flows)
