"""Layout of a scene: a grid of free ground, ground heights, and the objects placed so far."""

import functools
from dataclasses import replace

import cv2
import numpy as np

from st4rtrack.data.world import patterns, people
from st4rtrack.data.world.assets import Assets, Model
from st4rtrack.data.world.cast import FAR, build_tree
from st4rtrack.data.world.mesh import Materials, Mesh
from st4rtrack.data.world.objects import SceneObject, turned
from st4rtrack.data.world.textures import Textures, join_textures, pyramid, select_textures


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
        return Materials(colour[None], np.array([number], np.int32), np.array([gloss], np.float32), np.array([rough], np.float32))

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
        self.heights: np.ndarray | None = None
        self.models_used: list[str] = []
        self.seated: list[str] = []  # names of occupied seats

    def height(self, at: np.ndarray) -> float:
        """Height of the ground above y = 0 at (x, z)."""
        if self.heights is None:
            return 0.0
        n = len(self.heights)
        spread = np.max(self.half) * 1.0
        column, row = (np.clip((at + spread) / (2 * spread) * (n - 1), 0, n - 1.001)).tolist()
        c, r = int(column), int(row)
        f, g = column - c, row - r
        h = self.heights
        return float((h[r, c] * (1 - f) + h[r, c + 1] * f) * (1 - g) + (h[r + 1, c] * (1 - f) + h[r + 1, c + 1] * f) * g)

    def _mask(self, corners: np.ndarray) -> tuple[np.ndarray, bool]:
        cells = np.round((corners + self.half) / self.cell_m).astype(np.int32)
        inside = bool((np.abs(corners) <= self.half + 1e-6).all())
        mask = np.zeros_like(self.taken)
        cv2.fillConvexPoly(mask, cells, 1)
        return mask > 0, inside

    def footprint(self, size: np.ndarray, matrix: np.ndarray, margin: float) -> np.ndarray:
        """Ground corners [4, 2] of a box of size [3] under a pose."""
        x, z = size[0] / 2 + margin, size[2] / 2 + margin
        corners = np.array([[-x, 0, -z], [x, 0, -z], [x, 0, z], [-x, 0, z]])
        return (corners @ matrix[:3, :3].T + matrix[:3, 3])[:, [0, 2]]

    def free(self, corners: np.ndarray) -> bool:
        """Whether a convex area is unoccupied and within the borders."""
        mask, inside = self._mask(corners)
        return inside and not (self.taken[mask] > 0).any()

    def take(self, corners: np.ndarray) -> None:
        """Mark a convex area as occupied."""
        self.taken[self._mask(corners)[0]] = 1

    def free_spots(self, clearance_m: float) -> np.ndarray:
        """Grid cells (x, z) [N, 2] at least this far from every object."""
        distance = cv2.distanceTransform(1 - np.pad(self.taken, 1, constant_values=1), cv2.DIST_L2, 3)[1:-1, 1:-1] * self.cell_m
        rows, columns = np.nonzero(distance > clearance_m)
        return np.stack([columns, rows], 1) * self.cell_m - self.half

    def models(self, *categories: str) -> list[Model]:
        """Models of the split in any of the categories (all models without any)."""
        return _models(self.assets, self.split, categories)

    def pick(self, models: list[Model]) -> Model | None:
        """Pick a model at random; small meshes are slightly preferred."""
        return models[int(self.rng.integers(len(models)))] if models else None

    def put(self, model: Model, matrix: np.ndarray, margin: float = 0.03, scale: float = 1.0) -> SceneObject | None:
        """Place a model on the ground at `matrix` if the area is free; its y is set to the ground height."""
        mesh = self.assets.mesh(model.name)
        corners = self.footprint(mesh.size * scale, matrix, margin)
        if not self.free(corners):
            return None
        self.take(corners)
        return self.add(model, matrix)

    def add(self, model: Model, matrix: np.ndarray) -> SceneObject:
        """Add a model without checking for free space."""
        item = SceneObject(self.texture_set.adopt(self.assets.mesh(model.name)), matrix, name=model.name)
        self.models_used.append(model.name)
        self.objects.append(item)
        return item

    def scatter(self, models: list[Model], count: int, tries: int = 8, margin: float = 0.1) -> list[SceneObject]:
        """Place models at random positions and headings."""
        placed: list[SceneObject] = []
        for _ in range(count):
            model = self.pick(models)
            for _ in range(tries if model else 0):
                x, z = self.rng.uniform(-1, 1, 2) * (self.half - 0.3)
                matrix = turned(self.rng.uniform(0, 2 * np.pi), (x, -self.height(np.array([x, z])), z))
                assert model is not None
                item = self.put(model, matrix, margin)
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
        makers = {
            "skin": patterns.skin,
            "hair": patterns.hair,
            "top": patterns.cloth,
            "bottom": patterns.cloth,
            "shoes": patterns.leather,
        }
        made = {name: self.texture_set.add(make(rng)) for name, make in makers.items()}
        self.models_used.append(f"body-{number:02d}")
        return people.dress(bodies, number, {k: v[0] for k, v in made.items()}, {k: v[1] for k, v in made.items()}, rng)


def body_split(number: int) -> str:
    """Split of a body: every eighth is held out for validation."""
    return "validation" if number % 8 == 7 else "train"


@functools.lru_cache(maxsize=256)
def _models_cached(key: tuple[int, str, tuple[str, ...]]) -> list[Model]:
    assets, split, categories = _OPEN[key[0]], key[1], key[2]
    return [m for m in assets.models.values() if m.split == split and (not categories or m.category in categories)]


_OPEN: dict[int, Assets] = {}


def _models(assets: Assets, split: str, categories: tuple[str, ...]) -> list[Model]:
    _OPEN[id(assets)] = assets
    return _models_cached((id(assets), split, categories))


def surface_height(mesh: Mesh, local: np.ndarray, reach: float) -> float | None:
    """y of the upper surface at (x, z) in the frame of the mesh; None where it is not level within `reach`."""
    offsets = np.array([[0, 0], [1, 0], [-1, 0], [0, 1], [0, -1]]) * reach * 0.8
    start = np.zeros((5, 3), np.float32)
    start[:, [0, 2]] = local + offsets
    start[:, 1] = -mesh.size[1] - 1
    down = np.tile(np.array([[0, 1, 0]], np.float32), (5, 1))
    result = _tree_of(_Key(mesh)).scene.run(start, down, np.full(5, FAR, np.float32), output=1)
    y = start[:, 1] + result["tfar"]
    if (result["primID"] < 0).any() or np.ptp(y) > 0.02 or y[0] > -0.1:
        return None
    return float(y[0])


class _Key:
    """Cache key of a mesh, by its vertices."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh

    def __hash__(self) -> int:
        return id(self.mesh.vertices)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and other.mesh.vertices is self.mesh.vertices


@functools.lru_cache(maxsize=64)
def _tree_of(key: _Key):
    return build_tree(key.mesh.vertices, key.mesh.faces)
