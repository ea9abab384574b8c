"""What a scene holds at every time: objects with meshes and poses, lights, sky and textures."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from st4rtrack.data.world.mesh import Mesh
from st4rtrack.data.world.textures import Textures

Posed = Callable[[float], tuple[np.ndarray, np.ndarray]]
"""Vertices [V, 3] and normals [V, 3] in the world at a time in seconds."""


@dataclass(frozen=True)
class SceneObject:
    """One object of a scene.

    Attributes:
        mesh: its surface.
        place: world_from_object [4, 4], or a function of time in seconds that gives it.
        posed: for skinned and bending objects, instead of `place`.
        moves: it is dynamic.
        subject: it is a person, an animal, or a moving object.
        name: of its model.
    """

    mesh: Mesh
    place: Callable[[float], np.ndarray] | np.ndarray
    posed: Posed | None = None
    moves: bool = False
    subject: bool = False
    name: str = ""

    def at(self, time_s: float) -> tuple[np.ndarray, np.ndarray]:
        """Vertices and normals in the world."""
        if self.posed is not None:
            return self.posed(time_s)
        matrix = self.matrix(time_s)
        return apply(matrix, self.mesh.vertices), self.mesh.normals @ matrix[:3, :3].T.astype(np.float32)

    def matrix(self, time_s: float) -> np.ndarray:
        """world_from_object [4, 4] of a rigid object."""
        return self.place if isinstance(self.place, np.ndarray) else self.place(time_s)


@dataclass(frozen=True)
class Light:
    """A light with soft shadows.

    Attributes:
        position: [3]; for the sun the direction towards it times a large distance.
        radius: of the sphere that shines.
        power: [3] irradiance at one metre (lamp) or anywhere (sun).
        sun: light that does not fall off with distance.
        window: [2, 3] half edges of a rectangle that shines instead of a sphere.
    """

    position: np.ndarray
    radius: float
    power: np.ndarray
    sun: bool = False
    window: np.ndarray | None = None


@dataclass
class WorldScene:
    """A scene that can be rendered at any time.

    Attributes:
        objects: all objects; static ones share one tree.
        lights: lamps, the sun.
        sky: [H, W, 3] float32 linear radiance by latitude and longitude, row 0 at the zenith.
        textures: of all meshes of the scene.
        ambient: [3] light that arrives after many reflections, on surfaces that rays from others meet.
        haze: share of the light that air replaces per metre.
        seconds: length of its motion.
        notes: setting, layout and names of the models used; `focus` [3] is where a camera should look.
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
    """Affine [4, 4] applied to points [N, 3], float32."""
    return (points @ matrix[:3, :3].T.astype(np.float32)) + matrix[:3, 3].astype(np.float32)


def turned(yaw: float, position: Sequence[float] | np.ndarray, scale: float = 1.0) -> np.ndarray:
    """world_from_object [4, 4]: turned about the vertical by `yaw` radians, then moved."""
    c, s = np.cos(yaw) * scale, np.sin(yaw) * scale
    matrix = np.array([[c, 0, s, 0], [0, scale, 0, 0], [-s, 0, c, 0], [0, 0, 0, 1.0]])
    matrix[:3, 3] = position
    return matrix
