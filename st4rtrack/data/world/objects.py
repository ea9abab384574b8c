"""Contents of a scene over time: objects with meshes and poses, lights, sky and textures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from st4rtrack.data.world.mesh import Mesh
from st4rtrack.data.world.textures import Textures

Posed = Callable[[float], tuple[np.ndarray, np.ndarray]]
"""Function of time in seconds that returns vertices [V, 3] and normals [V, 3] in the world."""


@dataclass(frozen=True)
class SceneObject:
    """Object of a scene.

    Attributes:
        mesh: surface of the object.
        place: world_from_object [4, 4], or a function of time in seconds that returns it.
        posed: motion of skinned and bending objects, instead of `place`.
        moves: whether the object is dynamic.
        subject: whether it is a person, an animal, or a dynamic object.
        name: name of its model.
    """

    mesh: Mesh
    place: Callable[[float], np.ndarray] | np.ndarray
    posed: Posed | None = None
    moves: bool = False
    subject: bool = False
    name: str = ""

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
    """Light source with soft shadows.

    Attributes:
        position: [3]; for the sun, its direction times a large distance.
        radius: radius of the spherical light.
        power: [3] irradiance at one metre (lamp) or anywhere (sun).
        sun: whether the light does not fall off with distance.
        window: [2, 3] half edges of a rectangular light, instead of the sphere.
    """

    position: np.ndarray
    radius: float
    power: np.ndarray
    sun: bool = False
    window: np.ndarray | None = None


@dataclass
class WorldScene:
    """Scene that can be rendered at any time.

    Attributes:
        objects: all objects; static ones share one ray tracing tree.
        lights: lamps and the sun.
        sky: [H, W, 3] float32 linear radiance by latitude and longitude, row 0 at the zenith.
        textures: textures of all meshes of the scene.
        ambient: [3] irradiance after many reflections, added at the surfaces hit by indirect rays.
        haze: share of the light that the air replaces per metre.
        seconds: duration of the motion.
        notes: setting, layout and names of the models used; `focus` [3] is a point for a camera to look at.
    """

    objects: list[SceneObject]
    lights: list[Light]
    sky: np.ndarray
    textures: Textures
    ambient: np.ndarray
    haze: float = 0.0
    seconds: float = 4.0
    notes: dict[str, object] = field(default_factory=dict)


def apply(matrix: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Apply an affine map [4, 4] to points [N, 3], float32."""
    return (points @ matrix[:3, :3].T.astype(np.float32)) + matrix[:3, 3].astype(np.float32)


def turned(yaw: float, position: Sequence[float] | np.ndarray, scale: float = 1.0) -> np.ndarray:
    """Pose world_from_object [4, 4]: rotated about the vertical by `yaw` radians, then translated."""
    c, s = np.cos(yaw) * scale, np.sin(yaw) * scale
    matrix = np.array([[c, 0, s, 0], [0, scale, 0, 0], [-s, 0, c, 0], [0, 0, 0, 1.0]])
    matrix[:3, 3] = position
    return matrix
