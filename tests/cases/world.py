"""A small exact ray caster: a textured room with boxes and ellipsoids, seen by any sequence of pinhole cameras.

Lengths are world units, axes are OpenCV's (x right, y down, z forward), the centre of the first pixel is (0.5, 0.5). The truth is
analytic: depth, the body of each pixel, and the motion of the bodies.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import cv2
import numpy as np

from st4rtrack.geometry.camera import pixel_grid, project, unproject
from st4rtrack.geometry.transforms import invert_rigid, rigid, transform_points

TEXELS = 512
TEXEL_PERIOD = 8.0
"""World units after which a texture repeats (mirrored)."""
STYLES = ("noise", "tiles", "planks", "spots")
Motion = Callable[[float], np.ndarray]
"""Time 0..1 to `world_from_body` [4, 4]."""


@dataclass(frozen=True)
class Body:
    """A box or an ellipsoid.

    Attributes:
        half_size: [3] half of its extent along its own axes.
        motion: where it is at a time.
        round: an ellipsoid instead of a box.
        moving: dynamic, in the truth.
        texture: seed of the texture.
        style: of the texture, one of `STYLES`.
    """

    half_size: tuple[float, float, float]
    motion: Motion
    round: bool = False
    moving: bool = False
    texture: int = 0
    style: str = "noise"


@dataclass(frozen=True)
class World:
    """A room seen from inside, with bodies in it; `contrast` 0 paints everything in one flat tone."""

    low: tuple[float, float, float]
    high: tuple[float, float, float]
    bodies: tuple[Body, ...] = ()
    texture: int = 0
    style: str = "noise"
    contrast: float = 1.0


@dataclass(frozen=True)
class Clip:
    """Frames with truth; the world is the camera frame of frame 0.

    Attributes:
        rgb: [T, H, W, 3] uint8.
        intrinsics: [T, 3, 3] pixels.
        world_from_camera: [T, 4, 4].
        depth: [T, H, W] float32 z-depth, NaN where there is no truth (bars, black frames, another shot).
        moving: [T, H, W] bool, the pixel shows a dynamic body.
        body: [T, H, W] int8, number of the body, -1 for the room.
        world_from_body: [T, bodies, 4, 4].
    """

    rgb: np.ndarray
    intrinsics: np.ndarray
    world_from_camera: np.ndarray
    depth: np.ndarray
    moving: np.ndarray
    body: np.ndarray
    world_from_body: np.ndarray

    def __len__(self) -> int:
        return len(self.rgb)

    def select(self, frames: np.ndarray | list[int]) -> "Clip":
        """The clip of the given frames; the first of them becomes the world."""
        names = ("rgb", "intrinsics", "depth", "moving", "body")
        first = invert_rigid(self.world_from_camera[frames[0]])
        return replace(
            self,
            **{name: getattr(self, name)[frames] for name in names},
            world_from_camera=first @ self.world_from_camera[frames],
            world_from_body=first @ self.world_from_body[frames],
        )

    def move_points(self, frame: int, other: int, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixels [points, 2] and depth [points] in another frame of the content of pixels [points, 2] (integer column, row)."""
        column, row = pixels.T
        points = unproject(pixels + 0.5, self.depth[frame, row, column].astype(np.float64), self.intrinsics[frame])
        points = transform_points(self.world_from_camera[frame], points)
        moved = points.copy()
        for number in range(self.world_from_body.shape[1]):
            mine = self.body[frame, row, column] == number
            motion = self.world_from_body[other, number] @ invert_rigid(self.world_from_body[frame, number])
            moved[mine] = transform_points(motion, points[mine])
        camera = transform_points(invert_rigid(self.world_from_camera[other]), moved)
        return project(camera, self.intrinsics[other]), camera[:, 2]


def fixed(x: float, y: float, z: float, yaw_deg: float = 0.0) -> Motion:
    """A body that does not move."""
    place = pose(x, y, z, yaw_deg=yaw_deg)
    return lambda _: place


def pose(
    x: float = 0, y: float = 0, z: float = 0, *, yaw_deg: float = 0, pitch_deg: float = 0, roll_deg: float = 0
) -> np.ndarray:
    """A rigid transform [4, 4]: roll about z, then pitch about x, then yaw about y, then the translation."""
    turns = [
        cv2.Rodrigues(np.deg2rad(np.eye(3)[axis] * angle))[0] for axis, angle in ((1, yaw_deg), (0, pitch_deg), (2, roll_deg))
    ]
    return rigid(turns[0] @ turns[1] @ turns[2], np.array([x, y, z], float))


def intrinsics(
    focal: float, width: int, height: int, *, offset: tuple[float, float] = (0.0, 0.0), aspect: float = 1.0
) -> np.ndarray:
    """[3, 3]; `offset` of the principal point from the middle in pixels, `aspect` is fy / fx."""
    return np.array([[focal, 0, width / 2 + offset[0]], [0, focal * aspect, height / 2 + offset[1]], [0, 0, 1.0]])


def render(
    world: World,
    cameras: np.ndarray,
    matrices: np.ndarray,
    size: tuple[int, int],
    *,
    distortion: float = 0.0,
    times: np.ndarray | None = None,
) -> Clip:
    """Renders a clip.

    Args:
        world: the scene.
        cameras: [T, 4, 4] world_from_camera, in the coordinates of `world`.
        matrices: [T, 3, 3] intrinsics in pixels.
        size: (width, height) in pixels.
        distortion: first radial coefficient; the truth stays that of the pinhole.
        times: [T] 0..1 of the bodies' motion; default evenly spread.
    """
    times = np.linspace(0, 1, len(cameras)) if times is None else times
    bodies = np.array([[body.motion(t) for body in world.bodies] for t in times]).reshape(len(times), len(world.bodies), 4, 4)
    frames = [_view(world, *view, size, distortion) for view in zip(cameras, matrices, bodies, strict=True)]
    rgb, depth, body = (np.stack(part) for part in zip(*frames, strict=True))
    dynamic = np.array([b.moving for b in world.bodies] + [False])
    first = invert_rigid(cameras[0])
    return Clip(rgb, matrices, first @ cameras, depth, dynamic[body], body, first @ bodies)


def _view(
    world: World, camera: np.ndarray, matrix: np.ndarray, bodies: np.ndarray, size: tuple[int, int], distortion: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """RGB [H, W, 3], depth [H, W], body [H, W] of one frame. Rays have z = 1 in the camera, so a distance along them is a depth."""
    width, height = size
    rays = _undistorted(unproject(pixel_grid(height, width), np.ones((height, width)), matrix), distortion).reshape(-1, 3)
    direction, origin = rays @ camera[:3, :3].T, camera[:3, 3]
    with np.errstate(divide="ignore"):
        walls = np.where(direction > 0, (np.array(world.high) - origin) / direction, (np.array(world.low) - origin) / direction)
    axis, depth = walls.argmin(1), walls.min(1)
    face = 2 * axis + (np.take_along_axis(direction, axis[:, None], 1)[:, 0] > 0)
    owner = np.full(len(rays), -1, np.int8)
    colour = np.zeros((len(rays), 3), np.float32)
    hits = [
        _enter(body, direction @ place[:3, :3], (origin - place[:3, 3]) @ place[:3, :3])
        for body, place in zip(world.bodies, bodies)
    ]
    for number, hit in enumerate(hits):
        nearer = hit < depth
        owner[nearer], depth = number, np.where(nearer, hit, depth)
    points = origin + depth[:, None] * direction
    for number in (-1, *range(len(world.bodies))):
        mine = owner == number
        if not mine.any():
            continue
        if number < 0:
            colour[mine] = _paint(world.texture, world.style, points[mine], axis[mine], face[mine], world.contrast)
        else:
            body, place = world.bodies[number], bodies[number]
            local = (points[mine] - place[:3, 3]) @ place[:3, :3]
            side = np.abs(local / body.half_size).argmax(1)
            faces = 2 * side + (np.take_along_axis(local, side[:, None], 1)[:, 0] > 0)
            colour[mine] = _paint(body.texture + 100, body.style, local * 2, side, faces, world.contrast)
    shape = (height, width)
    return colour.reshape(*shape, 3).round().astype(np.uint8), depth.reshape(shape).astype(np.float32), owner.reshape(shape)


def _undistorted(rays: np.ndarray, distortion: float) -> np.ndarray:
    """Rays of the pinhole for pixels of a lens with radial distortion, by fixed-point iteration."""
    straight = rays.copy()
    for _ in range(12 if distortion else 0):
        straight[..., :2] = rays[..., :2] / (1 + distortion * (straight[..., :2] ** 2).sum(-1, keepdims=True))
    return straight


def _enter(body: Body, direction: np.ndarray, origin: np.ndarray) -> np.ndarray:
    """Distance [rays] at which rays in the body's frame meet it, infinite where they do not."""
    if body.round:
        d, o = direction / body.half_size, origin / np.array(body.half_size)
        a, b, c = (d**2).sum(1), d @ o, o @ o - 1
        inside = b**2 - a * c
        distance = np.where(inside > 0, (-b - np.sqrt(np.maximum(inside, 0))) / a, np.inf)
    else:
        with np.errstate(divide="ignore"):
            near, far = ((sign * np.sign(direction) * body.half_size - origin) / direction for sign in (-1, 1))
        near, far = near.max(1), far.min(1)
        distance = np.where(near < far, near, np.inf)
    return np.where(distance > 0, distance, np.inf)


def _paint(seed: int, style: str, points: np.ndarray, axis: np.ndarray, face: np.ndarray, contrast: float) -> np.ndarray:
    """Colours [points, 3] 0..255 of surface points [points, 3] whose normal is along an axis [points]."""
    colour = np.zeros((len(points), 3), np.float32)
    for number in np.unique(face):
        mine = face == number
        across = np.delete(points[mine], number // 2, axis=1) * (TEXELS / TEXEL_PERIOD) + TEXELS / 2
        across = across.astype(np.float32).reshape(-1, 1, 2)
        image = _texture(seed * 8 + int(number), style)
        # OpenCV maps at most 32767 rows at once
        parts = [
            cv2.remap(image, part, None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)
            for part in np.split(across, range(32000, len(across), 32000))
        ]
        colour[mine] = np.concatenate(parts)[:, 0]
    return np.clip(160 + contrast * (colour - 160), 0, 255)


@lru_cache(maxsize=256)
def _texture(seed: int, style: str) -> np.ndarray:
    """A texture [TEXELS, TEXELS, 3] float32 0..255: a tint, noise at several scales, and what the style draws."""
    rng = np.random.default_rng(seed)
    value = (
        0.35 * _noise(rng, 6, 3) + 0.5 * _noise(rng, 20, 1) + 0.5 * _noise(rng, 56, 1) + 0.25 * _drawing(rng, style)[..., None]
    )
    return (np.clip(0.55 + value, 0, 1) * rng.uniform(120, 255, 3)).astype(np.float32)


def _noise(rng: np.random.Generator, cells: int, channels: int) -> np.ndarray:
    """[TEXELS, TEXELS, channels] float32 of about -0.5..0.5 with `cells` cells across."""
    values = rng.random((cells, cells, channels), np.float32) - 0.5
    return cv2.resize(values, (TEXELS, TEXELS), interpolation=cv2.INTER_CUBIC).reshape(TEXELS, TEXELS, channels)


def _drawing(rng: np.random.Generator, style: str) -> np.ndarray:
    """[TEXELS, TEXELS] about -1..1."""
    drawing = np.zeros((TEXELS, TEXELS), np.float32)
    if style == "tiles":
        cell = int(rng.integers(28, 48))
        row, column = np.indices((TEXELS, TEXELS)) // cell
        drawing = np.where((row + column) % 2, 0.6, -0.6).astype(np.float32)
    elif style == "planks":
        edges = np.cumsum(rng.integers(14, 40, 60))
        drawing = rng.uniform(-1, 1, 61).astype(np.float32)[np.searchsorted(edges, np.arange(TEXELS))][:, None] * np.ones(
            TEXELS, np.float32
        )
    elif style == "spots":
        for x, y, radius, tone in zip(
            *rng.integers(0, TEXELS, (2, 90)), rng.integers(6, 26, 90), rng.uniform(-1, 1, 90), strict=True
        ):
            cv2.circle(drawing, (int(x), int(y)), int(radius), float(tone), -1)
    return cv2.GaussianBlur(drawing, (0, 0), 0.8)
