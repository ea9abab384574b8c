"""Textured triangle meshes (cache format of all assets of the rendered world), and a reader of Wavefront OBJ."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from st4rtrack.geometry.vectors import dot

CREASE_COSINE = 0.6
"""Cosine threshold of creases: faces whose normals differ by more than about 53 degrees share no smooth normal."""
TRANSPARENT_BELOW = 0.6
"""Minimum opacity; more transparent materials (window panes, drinking glasses) are left out, as they would have two depths."""


@dataclass(frozen=True)
class Materials:
    """Surface properties of M materials."""

    colour: np.ndarray  # [M, 3] float32 linear albedo, used without a texture
    texture: np.ndarray  # [M] int32 number in the texture store, -1 for none
    gloss: np.ndarray  # [M] float32 share of light that is reflected specularly at normal incidence
    rough: np.ndarray  # [M] float32 spread of that reflection, radians


@dataclass(frozen=True, eq=False)
class Mesh:
    """Textured mesh in metres, y down, lowest point at y = 0, footprint centred, front facing -z."""

    vertices: np.ndarray  # [V, 3] float32
    normals: np.ndarray  # [V, 3] float32, unit; vertices are split at creases
    faces: np.ndarray  # [F, 3] int32
    uv: np.ndarray  # [F, 3, 2] float32 texture coordinates of the corners
    material: np.ndarray  # [F] int16 row of `materials`
    materials: Materials  # surface properties

    @property
    def size(self) -> np.ndarray:
        """Width, height and depth [3] in metres."""
        return self.vertices.max(0) - self.vertices.min(0)


def save_mesh(path: Path, mesh: Mesh) -> None:
    """Write a rigid mesh as `.npz`."""
    arrays = {name: getattr(mesh, name) for name in ("vertices", "normals", "faces", "uv", "material")}
    np.savez(path, **arrays, **{f"materials_{name}": value for name, value in vars(mesh.materials).items()})


def load_mesh(path: Path) -> Mesh:
    """Read a mesh written by `save_mesh`."""
    with np.load(path) as file:
        materials = Materials(**{name: file[f"materials_{name}"] for name in ("colour", "texture", "gloss", "rough")})
        return Mesh(file["vertices"], file["normals"], file["faces"], file["uv"], file["material"], materials)


def plain_materials(colour: np.ndarray | list[float], texture: int = -1, gloss: float = 0.0, rough: float = 0.2) -> Materials:
    """Make one material."""
    values = (np.array([texture], np.int32), np.array([gloss], np.float32), np.array([rough], np.float32))
    return Materials(np.asarray(colour, np.float32).reshape(1, 3), *values)


@dataclass(frozen=True)
class ObjText:
    """Triangles of an OBJ file: positions, texture coordinates, [F, 3, 2] indices of both (-1 absent), materials."""

    positions: np.ndarray
    coordinates: np.ndarray
    corners: np.ndarray
    material: np.ndarray
    names: list[str]


def parse_obj(text: str) -> ObjText:
    """Parse OBJ text; polygons are triangulated as fans. Lines that are not vertices, faces or materials are skipped."""
    lists: dict[str, list[list[float]]] = {"v": [], "vt": []}
    corners, material = [], []
    names, current = [""], 0
    for line in text.splitlines():
        parts = line.split()
        if not parts:
            continue
        if parts[0] in lists:
            lists[parts[0]].append([float(x) for x in parts[1:4]])
        elif parts[0] == "usemtl":
            name = line.split(None, 1)[1].strip() if len(parts) > 1 else ""
            if name not in names:
                names.append(name)
            current = names.index(name)
        elif parts[0] == "f":
            polygon = [_corner(part, lists) for part in parts[1:]]
            for k in range(1, len(polygon) - 1):
                corners.append((polygon[0], polygon[k], polygon[k + 1]))
                material.append(current)

    def array(name: str, width: int) -> np.ndarray:
        rows = [(row + [0.0] * width)[:width] for row in lists[name]]
        return np.array(rows, np.float64).reshape(-1, width)

    return ObjText(
        array("v", 3), array("vt", 2), np.array(corners, np.int64).reshape(-1, 3, 2), np.array(material, np.int16), names
    )


def _corner(part: str, lists: dict[str, list[list[float]]]) -> list[int]:
    """Indices (from 0) of position and texture coordinates of a face corner `a/b/c`; -1 if absent."""
    numbers = [int(field or 0) for field in (part + "/").split("/")[:2]]
    return [n - 1 if n > 0 else (n + len(values) if n < 0 else -1) for n, values in zip(numbers, lists.values())]


def face_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Normals [F, 3] of triangles, with twice the area as length."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    return np.cross(b - a, c - a)


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit normals [V, 3], area-weighted means of the adjacent faces."""
    flat = face_normals(vertices, faces)
    total = np.stack([np.bincount(faces.ravel(), np.repeat(flat[:, k], 3), len(vertices)) for k in range(3)], 1)
    return unit(total)


def unit(vectors: np.ndarray) -> np.ndarray:
    """Normalise vectors [..., 3] to length 1; zero stays zero."""
    return vectors / np.maximum(np.sqrt(dot(vectors, vectors)), 1e-20)[..., None]


def smooth_split(positions: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Split vertices at creases: vertices [V, 3], unit normals [V, 3], faces [F, 3]."""
    _, same = np.unique(np.round(positions, 5), axis=0, return_inverse=True)
    shared = vertex_normals(positions, faces)
    merged = np.stack([np.bincount(same, shared[:, k]) for k in range(3)], 1)
    smooth, flat = unit(merged)[same][faces], unit(face_normals(positions, faces))[:, None]
    corner = np.where(dot(smooth, flat)[..., None] > CREASE_COSINE, smooth, flat)
    keys = np.concatenate([faces.reshape(-1, 1), np.round(corner.reshape(-1, 3) * 40).astype(np.int64)], 1)
    _, first, back = np.unique(keys, axis=0, return_index=True, return_inverse=True)
    return positions[faces.ravel()[first]], corner.reshape(-1, 3)[first], back.reshape(-1, 3).astype(np.int32)


def build_mesh(
    positions: np.ndarray, faces: np.ndarray, uv: np.ndarray, materials: Materials, material: np.ndarray | None = None
) -> Mesh:
    """Build a rigid mesh without degenerate faces, and compute its normals.

    Args:
        positions: [V, 3] metres, y down.
        faces, uv, material: [F, 3], [F, 3, 2] and [F]; the first material by default.
    """
    material = np.zeros(len(faces), np.int16) if material is None else material
    keep = np.linalg.norm(face_normals(positions, faces), axis=1) > 1e-12
    vertices, normals, split = smooth_split(positions, faces[keep])
    return Mesh(
        vertices.astype(np.float32),
        normals.astype(np.float32),
        split,
        np.ascontiguousarray(uv[keep], np.float32),
        material[keep].astype(np.int16),
        materials,
    )
