"""Contents of a scene over time: objects with meshes and poses, lights, sky and textures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from st4rtrack.data.world.mesh import Mesh
from st4rtrack.data.world.textures import Textures

Place = Callable[[float], np.ndarray]
"""Function of time in seconds that returns world_from_object [4, 4]."""
Posed = Callable[[float], tuple[np.ndarray, np.ndarray]]
"""Function of time in seconds that returns vertices [V, 3] and normals [V, 3] in the world."""


@dataclass(frozen=True)
class SceneObject:
    """Object of a scene."""

    mesh: Mesh  # surface of the object
    # world_from_object [4, 4], or a function of time in seconds that returns it
    place: Place | np.ndarray
    posed: Posed | None = None  # motion of skinned and bending objects, instead of `place`
    moves: bool = False  # whether it is dynamic: a person, an animal, a car or another moving object
    name: str = ""  # name of its model

    def at(self, time_s: float) -> tuple[np.ndarray, np.ndarray]:
        """Vertices and normals in the world at a time."""
        if self.posed is not None:
            return self.posed(time_s)
        matrix = self.matrix(time_s)
        return apply(matrix, self.mesh.vertices), self.mesh.normals @ matrix[:3, :3].T.astype(np.float32)

    def matrix(self, time_s: float) -> np.ndarray:
        """Pose world_from_object [4, 4] of a rigid object."""
        return self.place if isinstance(self.place, np.ndarray) else self.place(time_s)


@dataclass(frozen=True)
class Light:
    """Light source with soft shadows."""

    position: np.ndarray  # [3]; for the sun, its direction times a large distance
    radius: float  # radius of the spherical light
    power: np.ndarray  # [3] irradiance at one metre (lamp) or anywhere (sun)
    sun: bool = False  # whether the light does not fall off with distance
    window: np.ndarray | None = None  # [2, 3] half edges of a rectangular light, instead of the sphere


@dataclass
class WorldScene:
    """Scene that can be rendered at any time."""

    objects: list[SceneObject]  # all objects; static ones share one ray tracing tree
    lights: list[Light]  # lamps and the sun
    sky: np.ndarray  # [H, W, 3] float32 linear radiance by latitude and longitude, row 0 at the zenith
    textures: Textures  # textures of all meshes of the scene
    ambient: np.ndarray  # [3] irradiance after many reflections, added at the surfaces hit by indirect rays
    haze: float = 0.0  # share of the light that the air replaces per metre
    seconds: float = 4.0  # duration of the motion
    layout: Any = None  # the `Layout` of its objects
    focus: np.ndarray | None = None  # [3] point for a camera to look at


def apply(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Apply an affine map [4, 4] to points [N, 3], float32."""
    return (points @ matrix[:3, :3].T.astype(np.float32)) + matrix[:3, 3].astype(np.float32)


def turned(yaw: float, position: Sequence[float] | np.ndarray) -> np.ndarray:
    """Pose world_from_object [4, 4]: rotated about the vertical by `yaw` radians, then translated."""
    c, s = np.cos(yaw), np.sin(yaw)
    matrix = np.array([[c, 0, s, 0], [0, 1, 0, 0], [-s, 0, c, 0], [0, 0, 0, 1.0]])
    matrix[:3, 3] = position
    return matrix
