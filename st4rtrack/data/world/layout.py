"""Layout of a scene: a grid of free ground, ground heights, and the objects placed so far."""

import functools
from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np

from st4rtrack.data.world import patterns, people
from st4rtrack.data.world.assets import Assets, Model
from st4rtrack.data.world.cast import FAR, Tree, build_tree
from st4rtrack.data.world.mesh import Materials, Mesh, plain_materials
from st4rtrack.data.world.objects import Place, Posed, SceneObject, turned
from st4rtrack.data.world.textures import Textures, join_textures, pyramid, select_textures

SCATTER_TRIES = 8


class TextureSet:
    """Textures of one scene."""

    def __init__(self, assets: Assets) -> None:
        self._assets = assets
        self._parts: list[tuple[np.ndarray, tuple[int, int]]] = []
        self._number: dict[int, int] = {}

    def add(self, image: np.ndarray) -> tuple[int, np.ndarray]:
        """Add an image [H, W, 3 or 4] uint8; returns its number and mean linear colour."""
        self._parts.append(pyramid(image))
        shown = image[..., :3] if image.shape[2] == 3 else image[image[..., 3] > 127][:, :3]
        return len(self._parts) - 1, np.square(shown.reshape(-1, 3).mean(0) / 255).astype(np.float32)

    def material(self, image: np.ndarray, gloss: float = 0.0, rough: float = 0.15) -> Materials:
        """Make a textured material from an image."""
        number, colour = self.add(image)
        return plain_materials(colour, number, gloss, rough)

    def adopt(self, mesh: Mesh) -> Mesh:
        """Renumber the textures of a cached mesh for this scene."""
        stored = mesh.materials.texture
        fresh = [n for n in dict.fromkeys(stored.tolist()) if n >= 0 and n not in self._number]
        for number, part in zip(fresh, select_textures(self._assets.textures, fresh)):
            self._number[number] = len(self._parts)
            self._parts.append(part)
        texture = np.array([self._number.get(n, -1) for n in stored.tolist()], np.int32)
        return replace(mesh, materials=replace(mesh.materials, texture=texture))

    def textures(self) -> Textures:
        """Join all textures of the scene."""
        return join_textures(self._parts)


class Layout:
    """Rectangle of ground, x in [-half_x, half_x], z in [-half_z, half_z], and the objects on it."""

    def __init__(self, assets: Assets, split: str, half_x: float, half_z: float, cell_m: float, rng: np.random.Generator) -> None:
        self.assets, self.split, self.rng = assets, split, rng
        self.half = np.array([half_x, half_z])
        self.cell_m = cell_m
        self.taken = np.zeros((int(2 * half_z / cell_m) + 1, int(2 * half_x / cell_m) + 1), np.uint8)
        self.texture_set = TextureSet(assets)
        self.objects: list[SceneObject] = []
        self.height: Callable[[np.ndarray], float] = lambda at: 0.0  # of the ground above y = 0 at (x, z)
        self.seated: list[str] = []  # names of occupied seats

    def _mask(self, size: np.ndarray, matrix: np.ndarray, margin: float) -> tuple[np.ndarray, bool]:
        """Grid cells below a box of size [3] under a pose, and whether all of it is within the borders."""
        x, z = size[0] / 2 + margin, size[2] / 2 + margin
        corners = np.array([[-x, 0, -z], [x, 0, -z], [x, 0, z], [-x, 0, z]])
        corners = (corners @ matrix[:3, :3].T + matrix[:3, 3])[:, [0, 2]]
        cells = np.round((corners + self.half) / self.cell_m).astype(np.int32)
        mask = np.zeros_like(self.taken)
        cv2.fillConvexPoly(mask, cells, 1)
        return mask > 0, bool((np.abs(corners) <= self.half + 1e-6).all())

    def take(self, size: np.ndarray, matrix: np.ndarray, margin: float = 0.0) -> None:
        """Mark the ground below a box of size [3] under a pose as occupied."""
        self.taken[self._mask(size, matrix, margin)[0]] = 1

    def free_spots(self, clearance_m: float) -> np.ndarray:
        """Grid cells (x, z) [N, 2] at least this far from every object."""
        distance = cv2.distanceTransform(1 - np.pad(self.taken, 1, constant_values=1), cv2.DIST_L2, 3)[1:-1, 1:-1] * self.cell_m
        rows, columns = np.nonzero(distance > clearance_m)
        return np.stack([columns, rows], 1) * self.cell_m - self.half

    def models(self, *categories: str) -> list[Model]:
        """Models of the split in any of the categories (all models if there is no category)."""
        return _models(self.assets, self.split, categories)

    def pick(self, models: list[Model]) -> Model | None:
        """Pick a model at random; None if there is none."""
        return models[int(self.rng.integers(len(models)))] if models else None

    def put(self, model: Model, matrix: np.ndarray, margin: float = 0.03, size: np.ndarray | None = None) -> SceneObject | None:
        """Place a model at `matrix` if the ground below its box (or one of another size [3]) is unoccupied."""
        size = self.assets.mesh(model.name).size if size is None else size
        mask, inside = self._mask(size, matrix, margin)
        if not inside or (self.taken[mask] > 0).any():
            return None
        self.taken[mask] = 1
        return self.add(model, matrix)

    def add(self, model: Model, matrix: np.ndarray) -> SceneObject:
        """Add a model without checking for free space."""
        return self.add_static(self.use(model), matrix, model.name)

    def use(self, model: Model) -> Mesh:
        """Mesh of a model with the textures of this scene."""
        return self.texture_set.adopt(self.assets.mesh(model.name))

    def add_static(self, mesh: Mesh, matrix: np.ndarray | None = None, name: str = "") -> SceneObject:
        """Add a static mesh."""
        item = SceneObject(mesh, np.eye(4) if matrix is None else matrix, name=name)
        self.objects.append(item)
        return item

    def add_dynamic(self, mesh: Mesh, name: str, *, place: Place | None = None, posed: Posed | None = None) -> None:
        """Add a mesh that moves rigidly (`place`), or is skinned or bent (`posed`)."""
        self.objects.append(SceneObject(mesh, place or np.eye(4), posed, moves=True, name=name))

    def scatter(self, models: list[Model], count: int) -> list[SceneObject]:
        """Place models at random positions and headings."""
        placed: list[SceneObject] = []
        for _ in range(count):
            model = self.pick(models)
            for _ in range(SCATTER_TRIES if model else 0):
                x, z = self.rng.uniform(-1, 1, 2) * (self.half - 0.3)
                matrix = turned(self.rng.uniform(0, 2 * np.pi), (x, -self.height(np.array([x, z])), z))
                assert model is not None
                item = self.put(model, matrix, 0.1)
                if item is not None:
                    placed.append(item)
                    break
        return placed

    def on_top(self, below: SceneObject, models: list[Model], count: int, spread: float = 0.8) -> list[SceneObject]:
        """Place small models on the upper surface of a static object, where it is level."""
        placed: list[SceneObject] = []
        boxes: list[np.ndarray] = []
        matrix = below.matrix(0.0)
        for _ in range(count * 3):
            model = self.pick(models)
            if model is None or len(placed) >= count:
                break
            size = self.assets.mesh(model.name).size
            local = (self.rng.uniform(-0.5, 0.5, 2) * below.mesh.size[[0, 2]] * spread).astype(np.float64)
            reach = max(size[0], size[2]) / 2
            top = surface_height(below.mesh, local, min(reach, 0.2))
            if top is None or any(np.abs(local - other[:2]).max() < reach + other[2] + 0.005 for other in boxes):
                continue
            boxes.append(np.array([*local, reach]))
            placed.append(self.add(model, matrix @ turned(self.rng.uniform(0, 2 * np.pi), (local[0], top, local[1]))))
        return placed

    def make_body(self) -> people.Body | None:
        """Make a dressed person of the split."""
        bodies = self.assets.bodies
        if bodies is None:
            return None
        rng = self.rng
        chosen = [k for k in range(len(bodies.vertices)) if body_split(k) == self.split]
        number = chosen[int(rng.integers(len(chosen)))]
        makers = (patterns.skin, patterns.hair, patterns.cloth, patterns.cloth, patterns.leather)
        names = ("skin", "hair", "top", "bottom", "shoes")
        made = {name: self.texture_set.add(make(rng)) for name, make in zip(names, makers)}
        return people.dress(bodies, number, {k: v[0] for k, v in made.items()}, {k: v[1] for k, v in made.items()}, rng)


def body_split(number: int) -> str:
    """Split of a body: every eighth is held out for validation."""
    return "validation" if number % 8 == 7 else "train"


@functools.lru_cache(maxsize=256)
def _models(assets: Assets, split: str, categories: tuple[str, ...]) -> list[Model]:
    return [m for m in assets.models.values() if m.split == split and (not categories or m.category in categories)]


def grid_height(heights: np.ndarray, half: float) -> Callable[[np.ndarray], float]:
    """Height at (x, z) of a square of ground around the origin with heights [n, n] (rows along z), bilinear."""
    n = len(heights)

    def height(at: np.ndarray) -> float:
        column, row = (np.clip((at + half) / (2 * half) * (n - 1), 0, n - 1.001)).tolist()
        c, r = int(column), int(row)
        f, g = column - c, row - r
        h = heights
        return float((h[r, c] * (1 - f) + h[r, c + 1] * f) * (1 - g) + (h[r + 1, c] * (1 - f) + h[r + 1, c + 1] * f) * g)

    return height


def surface_height(mesh: Mesh, local: np.ndarray, reach: float) -> float | None:
    """y of the upper surface at (x, z) in the frame of the mesh; None where it is not level within `reach`."""
    offsets = np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]]) * reach * 0.8
    start = np.zeros((5, 3), np.float32)
    start[:, [0, 2]] = local + offsets
    start[:, 1] = -mesh.size[1] - 1
    down = np.tile(np.array([[0, 1, 0]], np.float32), (5, 1))
    result = _tree_of(mesh).scene.run(start, down, np.full(5, FAR, np.float32), output=1)
    y = start[:, 1] + result["tfar"]
    if (result["primID"] < 0).any() or np.ptp(y) > 0.02 or y[0] > -0.1:
        return None
    return float(y[0])


@functools.lru_cache(maxsize=64)
def _tree_of(mesh: Mesh) -> Tree:
    return build_tree(mesh.vertices, mesh.faces)
