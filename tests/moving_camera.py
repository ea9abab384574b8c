"""Two textured walls, seen by a camera that moves past it: exact truth for classical methods."""

from dataclasses import dataclass

import cv2
import numpy as np

from st4rtrack.geometry.camera import pixel_grid, project, unproject
from st4rtrack.geometry.transforms import invert_rigid, rigid, transform_points

HEIGHT, WIDTH, FOCAL = 96, 128, 115.0
INTRINSICS = np.array([[FOCAL, 0.0, WIDTH / 2], [0.0, FOCAL, HEIGHT / 2], [0.0, 0.0, 1.0]])


@dataclass
class Walk:
    """A rendered sequence: `rgb` [time, height, width, 3], `world_from_camera` [time, 4, 4]."""

    rgb: np.ndarray
    world_from_camera: np.ndarray


def path(frames: int, *, moves: bool = True) -> np.ndarray:
    """Cameras [time, 4, 4] that go sideways and turn back towards the wall."""
    steps = np.linspace(0, 1 if moves else 0, frames)
    cameras = []
    for s in steps:
        angle = 0.4 * s
        turn = np.array([[np.cos(angle), 0, -np.sin(angle)], [0, 1, 0], [np.sin(angle), 0, np.cos(angle)]])
        cameras.append(rigid(turn, np.array([2.0 * s, 0.15 * s, 0.6 * np.sin(3 * s)])))
    return np.stack(cameras)


def walk(frames: int = 16, *, moves: bool = True, seed: int = 0) -> Walk:
    """Two fronto-parallel textured walls, the nearer one covering the lower half, rendered by their homographies."""
    rng = np.random.default_rng(seed)
    cameras = path(frames, moves=moves)
    textures = [_texture(rng), _texture(rng)]
    rgb = []
    for camera in cameras:
        far, near = (_plane(texture, depth, camera) for texture, depth in zip(textures, (5.0, 3.5), strict=True))
        rgb.append(np.where(near[..., 3:] > 0, near[..., :3], far[..., :3]).astype(np.uint8))
    return Walk(np.stack(rgb), cameras)


def points_on_walls(query_px: np.ndarray) -> np.ndarray:
    """World points [points, 3] that frame 0 shows at pixels [points, 2]."""
    near = unproject(query_px, np.full(len(query_px), 3.5), INTRINSICS)
    far = unproject(query_px, np.full(len(query_px), 5.0), INTRINSICS)
    return np.where(near[:, 1:2] > 0, near, far)


def depth_of_walls(world_from_camera: np.ndarray) -> np.ndarray:
    """True depth [height, width] of a frame: the near wall covers the lower half of the world."""
    turn, centre = world_from_camera[:3, :3], world_from_camera[:3, 3]
    rays = unproject(pixel_grid(HEIGHT, WIDTH), np.ones((HEIGHT, WIDTH)), INTRINSICS) @ turn.T
    near, far = ((z - centre[2]) / rays[..., 2] for z in (3.5, 5.0))
    return np.where(centre[1] + near * rays[..., 1] > 0, near, far)


def seen_at(points_world: np.ndarray, cameras: np.ndarray) -> np.ndarray:
    """Pixels [time, points, 2] of world points [points, 3] or [time, points, 3]."""
    points_world = np.broadcast_to(points_world, (len(cameras), *points_world.shape[-2:]))
    return project(transform_points(invert_rigid(cameras), points_world), INTRINSICS)


def _texture(rng: np.random.Generator) -> np.ndarray:
    """Noise at several scales, [512, 512, 3]."""
    image = np.zeros((512, 512, 3), np.float32)
    for cells in (16, 48, 128):
        noise = rng.random((cells, cells, 3), np.float32)
        image += cv2.resize(noise, (512, 512), interpolation=cv2.INTER_CUBIC) / np.sqrt(cells / 16)
    return 255 * (image - image.min()) / np.ptp(image)


def _plane(texture: np.ndarray, depth: float, world_from_camera: np.ndarray) -> np.ndarray:
    """RGB and whether it is there [height, width, 4] of the wall z = depth; the nearer wall ends at y = 0."""
    rays = unproject(pixel_grid(HEIGHT, WIDTH), np.ones((HEIGHT, WIDTH)), INTRINSICS) @ world_from_camera[:3, :3].T
    centre = world_from_camera[:3, 3]
    hit = centre + rays * ((depth - centre[2]) / rays[..., 2])[..., None]
    at = ((hit[..., :2] + (5, 5)) * (512 / 12)).astype(np.float32)
    colour = cv2.remap(texture, at[..., 0], at[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
    there = (hit[..., 1] > 0) if depth < 4 else np.ones(hit.shape[:2], bool)
    return np.concatenate([colour, there[..., None]], axis=-1)
