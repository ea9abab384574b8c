"""Camera trajectories of the rendered world: position, target and motion."""

from dataclasses import dataclass

import numpy as np

from st4rtrack.data.world.cast import Caster
from st4rtrack.data.world.mesh import unit
from st4rtrack.data.world.shade import camera_rays

KINDS = ("tripod", "pan", "hand", "walk", "orbit", "zoom", "follow")
KIND_SHARES = (0.14, 0.12, 0.26, 0.18, 0.14, 0.06, 0.1)
NEAREST_M = 0.22
TRIES, GOOD = 12, 0.75


@dataclass(frozen=True)
class CameraPath:
    """Camera trajectory."""

    kind: str  # one of `KINDS`
    # eye, target: [3] at the start
    eye: np.ndarray
    target: np.ndarray
    # travel, pan: [3] velocities of the two in metres per second
    travel: np.ndarray
    pan: np.ndarray
    orbit: float  # rotation about the target in radians per second
    focal: float  # focal length over the long side
    zoom: float  # change of its logarithm per second
    shake: np.ndarray  # [2, 3] amplitude at eye and target in metres
    # rate, phase: [2, 3] of the shake
    rate: np.ndarray
    phase: np.ndarray
    roll: float  # radians

    def pose(self, time_s: float) -> np.ndarray:
        """Pose world_from_camera [4, 4] at a time."""
        wave = self.shake * (
            np.sin(2 * np.pi * self.rate * time_s + self.phase) + 0.4 * np.sin(5.3 * self.rate * time_s + 2 * self.phase)
        )
        target = self.target + self.pan * time_s
        arm = self.eye - self.target
        c, s = np.cos(self.orbit * time_s), np.sin(self.orbit * time_s)
        eye = self.target + np.array([c * arm[0] + s * arm[2], arm[1], c * arm[2] - s * arm[0]]) + self.travel * time_s
        return look_at(eye + wave[0], target + wave[1], self.roll + 0.3 * wave[1, 0])

    def intrinsics(self, time_s: float, height: int, width: int) -> np.ndarray:
        """Intrinsics [3, 3] in pixels at a time."""
        focal = self.focal * max(height, width) * np.exp(self.zoom * time_s)
        return np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1.0]])


def look_at(eye: np.ndarray, target: np.ndarray, roll: float = 0.0) -> np.ndarray:
    """Pose world_from_camera of a camera at `eye` that looks at `target`, y down."""
    forward = unit(target - eye)
    right = unit(np.cross(np.array([0.0, 1.0, 0.0]), forward))
    down = np.cross(forward, right)
    c, s = np.cos(roll), np.sin(roll)
    matrix = np.eye(4)
    matrix[:3, 0], matrix[:3, 1], matrix[:3, 2], matrix[:3, 3] = c * right + s * down, c * down - s * right, forward, eye
    return matrix


def draw_fov_deg(rng: np.random.Generator) -> float:
    """Draw a field of view across the long side, mostly 60 to 75 degrees."""
    kind = rng.random()
    if kind < 0.6:
        return rng.uniform(58, 76)
    return rng.uniform(76, 100) if kind < 0.75 else rng.uniform(30, 58)


def find_camera_path(casters: list[tuple[float, Caster]], rng: np.random.Generator, kind: str | None = None) -> CameraPath:
    """Find a camera with a good view of the scene at several times that intersects no object; the best of several tries.

    Args:
        casters: (time in seconds, scene at that time).
        kind: one of `KINDS`, None for a mixture.
    """
    best, score = None, -np.inf
    for _ in range(TRIES):
        camera_path = _draw(casters, rng, kind)
        value = min(_value(caster, camera_path, time_s) for time_s, caster in casters)
        if value > score:
            best, score = camera_path, value
        if score > GOOD:
            break
    assert best is not None
    return best


def _value(caster: Caster, camera_path: CameraPath, time_s: float) -> float:
    """Quality of a view, at most 1: nothing too near, not only walls or sky."""
    v, u = np.meshgrid(np.arange(9) + 0.5, np.arange(12) + 0.5, indexing="ij")
    pose = camera_path.pose(time_s)
    rays = camera_rays(camera_path.intrinsics(time_s, 9, 12), pose, np.stack([u.ravel(), v.ravel()], 1))
    hits = caster.trace(np.broadcast_to(pose[:3, 3].astype(np.float32), rays.shape), rays, cutouts=False)
    met = hits.face >= 0
    z = np.where(met, hits.distance, 50.0)
    objects = caster.geometry.object_index[hits.face[met]]
    subject = caster.geometry.moves[objects].mean() if met.any() else 0.0
    kinds = len(np.unique(objects))
    value = (
        1.0
        - 6 * float((z < NEAREST_M).mean())
        - 2 * max(0.0, float((z < 0.45).mean()) - 0.1)
        - max(0.0, float((~met).mean()) - 0.5)
    )
    value -= 0.08 * max(0, 5 - kinds) + (0.25 if subject < 0.02 else 0.0) + 2 * max(0.0, float(subject) - 0.7)
    if caster.blocked(pose[None, :3, 3].astype(np.float32), np.array([[0, 1, 0]], np.float32), np.array([0.1], np.float32))[0]:
        value -= 1.0
    inside = np.abs(pose[[0, 2], 3]) < caster.geometry.world_scene.layout.half - 0.1
    return value - (0.0 if inside.all() else 3.0)


def _draw(casters: list[tuple[float, Caster]], rng: np.random.Generator, kind: str | None) -> CameraPath:
    layout = casters[0][1].geometry.world_scene.layout
    kind = kind or str(rng.choice(KINDS, p=KIND_SHARES))
    target, velocity, size = _target(casters, rng)
    fov = np.radians(draw_fov_deg(rng))
    spots = layout.free_spots(0.3)
    away = np.linalg.norm(spots - target[[0, 2]], axis=1) if len(spots) else np.zeros(0)
    wanted = max(size * np.exp(rng.uniform(np.log(0.55), np.log(2.4))) / (2 * np.tan(fov / 2)), 0.45)
    near = np.flatnonzero((away > 0.6 * wanted) & (away < 1.6 * wanted + 0.3))
    if len(near):
        spot = spots[near[int(rng.integers(len(near)))]]
    else:
        spot = spots[int(np.abs(away - wanted).argmin())] if len(spots) else np.array([0.0, 0.0])
    distance = float(np.linalg.norm(spot - target[[0, 2]]))
    low = rng.random() < 0.15
    eye_height = rng.uniform(0.3, 0.9) if low else rng.uniform(1.1, 1.85)
    if size < 0.5:  # a table top: look from above
        eye_height = -target[1] + rng.uniform(0.15, 0.7) * max(distance, 0.4)
    eye = np.array([spot[0], -layout.height(spot) - eye_height, spot[1]])
    scale = max(distance, 0.5)
    hand = rng.uniform(0.004, 0.025) if kind not in ("tripod", "pan", "zoom") else rng.choice([0.0, 0.001])
    side = unit(np.cross(target - eye, np.array([0.0, 1.0, 0.0])))
    ahead = unit((target - eye) * np.array([1, 0, 1]))
    travel, pan, orbit, zoom = np.zeros(3), np.zeros(3), 0.0, 0.0
    if kind == "walk":
        travel = (rng.normal(0, 1) * side + rng.normal(0.3, 1) * ahead) * rng.uniform(0.05, 0.35) * min(scale, 3.0)
    elif kind == "pan":
        pan = side * rng.normal(0, 0.25) * scale + np.array([0, rng.normal(0, 0.05) * scale, 0])
    elif kind == "orbit":
        orbit = rng.uniform(0.05, 0.35) * rng.choice([-1, 1])
    elif kind == "zoom":
        zoom = rng.normal(0, 0.25)
    elif kind == "follow":
        pan, travel = velocity, velocity * rng.choice([0.0, 0.5, 1.0])
    elif kind == "hand":
        hand *= 2
        travel = rng.normal(0, 0.03, 3) * scale * np.array([1, 0.4, 1])
    target = target + rng.normal(0, 0.12, 3) * scale * np.array([1, 0.5, 1])
    return CameraPath(
        kind, eye, target, travel, pan, orbit, 0.5 / np.tan(fov / 2), zoom,
        np.stack([np.full(3, hand), np.full(3, hand * scale)]) * rng.uniform(0.3, 1, (2, 3)),
        rng.uniform(0.3, 1.7, (2, 3)), rng.uniform(0, 2 * np.pi, (2, 3)),
        rng.normal(0, 0.01 if kind in ("tripod", "pan") else 0.03),
    )  # fmt: skip


def _target(casters: list[tuple[float, Caster]], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, float]:
    """Draw the target of the camera: point, velocity, size."""
    (first_s, start), (last_s, end) = casters[0], casters[-1]
    geometry = start.geometry
    world_scene = geometry.world_scene
    subjects = np.flatnonzero(geometry.moves)
    if world_scene.focus is not None and rng.random() < 0.8:
        return world_scene.focus + rng.normal(0, 0.1, 3) * np.array([1, 0.2, 1]), np.zeros(3), rng.uniform(0.25, 0.9)
    named = [k for k, item in enumerate(world_scene.objects) if item.name and "-" in item.name and not item.moves]
    if len(subjects) and (rng.random() < 0.82 or not named):
        number = int(rng.choice(subjects))
        first, last = start.vertices_of(number), end.vertices_of(number)
        low, high = first.min(0), first.max(0)
        point = (low + high) / 2 * np.array([1, 1, 1]) + np.array([0, (low - high)[1] * rng.uniform(-0.1, 0.25), 0])
        return (
            point.astype(np.float64),
            (last.mean(0) - first.mean(0)).astype(np.float64) / max(last_s - first_s, 1e-3),
            float(np.linalg.norm(high - low)),
        )
    if named:
        points = start.vertices_of(int(rng.choice(named)))
        low, high = points.min(0), points.max(0)
        return ((low + high) / 2).astype(np.float64), np.zeros(3), float(np.clip(np.linalg.norm(high - low), 0.3, 4))
    return np.array([0.0, -1.0, 0.0]), np.zeros(3), 2.0
