"""Small WorldTrack sequences with known truth, written as the published files are."""

from pathlib import Path

import numpy as np

from st4rtrack.geometry.camera import pixel_grid, unproject
from st4rtrack.geometry.transforms import invert_rigid, rigid, transform_points
from st4rtrack.io.worldtrack import WorldTrackSequence, encode_jpeg, read_worldtrack, write_worldtrack

HEIGHT, WIDTH = 48, 64
FX_FY_CX_CY = np.array([60.0, 58.0, 31.5, 24.5])


def write_sequence(
    path: Path, *, frames: int = 8, points: int = 120, moving_share: float = 0.4, seed: int = 0, fixed_camera: bool = False
) -> WorldTrackSequence:
    """A wavy wall with points on it, some of which leave it; a camera that turns and moves (or none in the file)."""
    rng = np.random.default_rng(seed)
    intrinsics = np.array([[60.0, 0.0, 31.5], [0.0, 58.0, 24.5], [0.0, 0.0, 1.0]])
    world_from_camera = np.stack([_camera(0.0 if fixed_camera else t / frames) for t in range(frames)])
    camera_from_world = invert_rigid(world_from_camera)
    start_px = rng.uniform((1, 1), (WIDTH - 1, HEIGHT - 1), (points, 2))
    start = unproject(start_px, 2 + 0.5 * np.sin(start_px[:, 0] / 9), intrinsics)
    velocity = rng.normal(0, 0.05, (points, 3)) * (rng.random(points) < moving_share)[:, None]
    tracks_world = start + velocity * np.arange(frames)[:, None, None]
    visible = rng.random((frames, points)) < 0.8
    grid = pixel_grid(HEIGHT, WIDTH)
    depth = np.stack([2 + 0.5 * np.sin(grid[..., 0] / 9 + 0.1 * t) for t in range(frames)])
    depth[:, :4, :5] = 0.0
    images = [encode_jpeg(rng.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)) for _ in range(frames)]
    any_world = rigid(np.eye(3), np.array([5.0, -2.0, 1.0]))  # files keep the data set's own world
    write_worldtrack(
        path,
        images_jpeg=images,
        fx_fy_cx_cy=FX_FY_CX_CY,
        camera_from_world=None if fixed_camera else camera_from_world @ any_world,
        visibility=visible,
        tracks_camera=transform_points(camera_from_world, tracks_world),
        depth=depth,
    )
    return read_worldtrack(path)


def true_reconstruction(sequence: WorldTrackSequence, first_pixel_centre: float = 0.5) -> np.ndarray:
    """[time, height, width, 3] the world point of every pixel; arbitrary where depth is unknown."""
    depth = sequence.read_depth().astype(np.float64)
    grid = pixel_grid(*depth.shape[1:]) - 0.5 + first_pixel_centre
    rays = unproject(grid.reshape(-1, 2), np.ones(depth[0].size), sequence.intrinsics)
    points = [transform_points(sequence.world_from_camera[t], rays * depth[t].reshape(-1, 1)) for t in range(len(depth))]
    return np.stack(points).reshape(*depth.shape, 3)


def _camera(turn: float) -> np.ndarray:
    cos, sin = np.cos(0.3 * turn), np.sin(0.3 * turn)
    return rigid(np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]]), np.array([0.4 * turn, -0.1 * turn, 0.2 * turn]))
