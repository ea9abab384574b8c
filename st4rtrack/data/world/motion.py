"""Motion of people, animals, cars and small objects: functions of time that pose a `SceneObject`."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from st4rtrack.data.world import people
from st4rtrack.data.world.mesh import Mesh, unit
from st4rtrack.data.world.objects import Place, Posed, apply, turned


@dataclass(frozen=True)
class Path:
    """Path on the ground at constant speed: from `start` [2] (x, z) with heading `yaw`, turning at `turn` radians per second."""

    start: np.ndarray
    yaw: float
    speed: float
    turn: float = 0.0

    def at(self, time_s: float) -> tuple[np.ndarray, float]:
        """Position [2] and heading; the front of an object points along the heading."""
        yaw = self.yaw + self.turn * time_s
        if abs(self.turn) < 1e-4:
            step = self.speed * time_s * np.array([-np.sin(yaw), -np.cos(yaw)])
        else:
            step = self.speed / self.turn * np.array([np.cos(yaw) - np.cos(self.yaw), -np.sin(yaw) + np.sin(self.yaw)])
        return self.start + step, yaw

    def place(self, height: Callable[[np.ndarray], float]) -> Place:
        """Rigid motion along the path on a ground of given height."""

        def matrix(time_s: float) -> np.ndarray:
            at, yaw = self.at(time_s)
            return turned(yaw, (at[0], -height(at), at[1]))

        return matrix


def walker(body: people.Body, path: Path, height: Callable[[np.ndarray], float], phase: float) -> Posed:
    """Motion of a person who walks along a path."""
    stride = 1.55 * body.leg_m

    def posed(time_s: float) -> tuple[np.ndarray, np.ndarray]:
        at, yaw = path.at(time_s)
        pose = people.walking(phase + np.pi * 2 * path.speed * time_s / stride, min(1.0, path.speed / 0.9 + 0.2))
        return body.skin(pose, turned(yaw, (at[0], -height(at), at[1])))[:2]

    return posed


@dataclass(frozen=True)
class Acting:
    """Person who acts in place: changes pose every `hold_s` seconds and turns at `turn` radians per second."""

    body: people.Body
    poses: tuple[people.Pose, ...]
    hold_s: float
    place: np.ndarray
    turn: float = 0.0
    seat_m: float | None = None

    def bones(self, time_s: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Vertices, normals and bones at a time."""
        step = max(time_s, 0.0) / self.hold_s
        k = min(int(step), len(self.poses) - 1)
        share = min(step - k, 1.0)
        share = share * share * (3 - 2 * share)
        pose = people.blend(self.poses[k], self.poses[min(k + 1, len(self.poses) - 1)], share)
        breath = 0.02 * np.sin(2.1 * time_s)
        pose = people.blend(pose, people.blend(pose, people.Pose(lean=0.3, twist=0.3), breath), 1.0)
        return self.body.skin(pose, self.place @ turned(self.turn * time_s, (0, 0, 0)), self.seat_m)

    def __call__(self, time_s: float) -> tuple[np.ndarray, np.ndarray]:
        """Vertices and normals at a time (see `Posed`)."""
        return self.bones(time_s)[:2]

    def held(self, side: str, offset: np.ndarray) -> Place:
        """Pose of an object carried upright in a hand."""

        def matrix(time_s: float) -> np.ndarray:
            _, _, bones = self.bones(time_s)
            yaw = np.arctan2(bones[0, 0, 2], bones[0, 0, 0])
            return turned(yaw, self.body.hand(bones, side) + offset)

        return matrix


def striding(mesh: Mesh, path: Path, height: Callable[[np.ndarray], float], pace: float) -> Posed:
    """Motion of a four-legged animal with swinging legs; its front is at -z of the mesh."""
    size = mesh.size
    y, z = -mesh.vertices[:, 1], mesh.vertices[:, 2]
    leg = np.clip(1 - y / (0.45 * size[1]), 0, 1).astype(np.float32) ** 0.7
    front, left = z < 0, mesh.vertices[:, 0] < 0
    offset = np.where(front == left, 0.0, np.pi).astype(np.float32)
    tail = np.clip(np.abs(z) / size[2] * 2 - 0.5, 0, 1).astype(np.float32)

    def posed(time_s: float) -> tuple[np.ndarray, np.ndarray]:
        at, yaw = path.at(time_s)
        angle = 0.35 * np.sin(pace * time_s + offset)
        vertices = mesh.vertices.copy()
        vertices[:, 2] += 0.42 * size[1] * leg * angle
        vertices[:, 1] += -0.012 * size[1] * np.sin(2 * pace * time_s)
        vertices[:, 0] += 0.05 * size[0] * tail * np.sin(pace * 0.5 * time_s) * np.sign(z)
        vertices[:, 1] -= vertices[:, 1].max()
        matrix = turned(yaw, (at[0], -height(at), at[1]))
        return apply(matrix, vertices), (mesh.normals @ matrix[:3, :3].T).astype(np.float32)

    return posed


def bending(mesh: Mesh, place: Place, amount: float, pace: float, phase: float) -> Posed:
    """Motion of a person without a rig who sways: bends sideways and twists about the vertical, increasing with height."""
    up = (-mesh.vertices[:, 1] / max(mesh.size[1], 1e-3)).astype(np.float32)
    weight = np.clip((up - 0.3) / 0.7, 0, 1) ** 1.5

    def posed(time_s: float) -> tuple[np.ndarray, np.ndarray]:
        wave = np.sin(pace * time_s + phase)
        twist = amount * weight * wave
        c, s = np.cos(twist), np.sin(twist)
        x, y, z = mesh.vertices.T
        bent = np.stack(
            [c * x + s * z + 0.12 * amount * weight * mesh.size[1] * np.cos(pace * 0.7 * time_s), y, c * z - s * x], 1
        )
        nx, ny, nz = mesh.normals.T
        normals = np.stack([c * nx + s * nz, ny, c * nz - s * nx], 1)
        matrix = place(time_s)
        return apply(matrix, bent.astype(np.float32)), unit(normals @ matrix[:3, :3].T).astype(np.float32)

    return posed


def picked_up(rest: np.ndarray, lift_m: float, drift: np.ndarray, turn: float, start_s: float, length_s: float) -> Place:
    """Pose of an object that is lifted, turned, carried by `drift` [2] and put down at the same height."""

    def matrix(time_s: float) -> np.ndarray:
        share = float(np.clip((time_s - start_s) / length_s, 0, 1))
        smooth = share * share * (3 - 2 * share)
        moved = rest @ turned(turn * smooth, (0, 0, 0))
        moved[:3, 3] = rest[:3, 3] + np.array([drift[0] * smooth, -lift_m * np.sin(np.pi * smooth), drift[1] * smooth])
        return moved

    return matrix


def falling(rest: np.ndarray, radius: float, height: float, velocity: np.ndarray, axis: int) -> Place:
    """Pose of a ball that drops from `height`, bounces, and rolls with `velocity` [2]; `rest` is its pose on the ground."""

    def matrix(time_s: float) -> np.ndarray:
        y, period, top = height, np.sqrt(2 * height / 9.8), height
        left = max(time_s, 0.0)
        if left < period:
            y = height - 4.9 * left * left
        else:
            left -= period
            for _ in range(8):
                top *= 0.5
                flight = 2 * np.sqrt(2 * top / 9.8)
                if left < flight:
                    y = 4.9 * left * (flight - left)
                    break
                left, y = left - flight, 0.0
        moved = rest.copy()
        spin = people.rotation(axis, float(np.linalg.norm(velocity)) * time_s / radius)
        centre = np.array([0, -radius, 0])
        moved[:3, :3] = rest[:3, :3] @ spin
        moved[:3, 3] = rest[:3, 3] + centre - moved[:3, :3] @ centre + np.array([velocity[0] * time_s, -y, velocity[1] * time_s])
        return moved

    return matrix
