"""Ray casting against a scene at one time with Embree: one tree for all static objects, one per dynamic object."""

import importlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from st4rtrack.data.world.objects import SceneObject, WorldScene
from st4rtrack.data.world.textures import Textures, sample
from st4rtrack.geometry.vectors import dot
from st4rtrack.io.installation import install_extra
from st4rtrack.types import UserError

FAR = 1e6


def _embree() -> tuple[Any, Any]:
    try:
        return (
            importlib.import_module("embreex.rtcore_scene").EmbreeScene,
            importlib.import_module("embreex.mesh_construction").TriangleMesh,
        )
    except ImportError:
        raise UserError(f"the rendered world needs Embree; install it with: {install_extra('world')}") from None


@dataclass(frozen=True)
class Tree:
    """Ray tracing tree of triangles in the frame `from_world` (None: the world); `first_face` is the number of its first face."""

    scene: Any
    first_face: int
    from_world: np.ndarray | None
    centre: np.ndarray
    radius: float


def build_tree(vertices: np.ndarray, faces: np.ndarray, first_face: int = 0, from_world: np.ndarray | None = None) -> Tree:
    """Build a tree of triangles."""
    scene_class, mesh_class = _embree()
    scene = scene_class()
    mesh_class(scene, np.ascontiguousarray(vertices, np.float32), np.ascontiguousarray(faces, np.int32))
    low, high = vertices.min(0), vertices.max(0)
    return Tree(scene, first_face, from_world, (low + high) / 2, float(np.linalg.norm(high - low) / 2) * 1.001)


@dataclass(frozen=True)
class Hits:
    """Hits of N rays: global face (-1 for none), ray parameter (inf for none), barycentric coordinates of corners 1 and 2."""

    face: np.ndarray
    distance: np.ndarray
    u: np.ndarray
    v: np.ndarray


class Geometry:
    """Arrays over all faces of a scene, and its vertices at any time."""

    def __init__(self, world_scene: WorldScene) -> None:
        self.world_scene = world_scene
        objects = world_scene.objects
        counts = np.array([len(t.mesh.vertices) for t in objects])
        self.first_vertex = np.cumsum(counts) - counts
        face_counts = np.array([len(t.mesh.faces) for t in objects])
        self.first_face = np.cumsum(face_counts) - face_counts
        self.faces = np.concatenate([t.mesh.faces + start for t, start in zip(objects, self.first_vertex)]).astype(np.int32)
        self.object_index = np.repeat(np.arange(len(objects), dtype=np.int32), face_counts)
        self.uv = np.concatenate([t.mesh.uv for t in objects])
        rows = np.array([len(t.mesh.materials.texture) for t in objects])
        first_row = np.cumsum(rows) - rows
        self.material = np.concatenate([t.mesh.material + first for t, first in zip(objects, first_row)]).astype(np.int32)
        self.colour, self.texture, self.gloss, self.rough = (
            np.concatenate([getattr(t.mesh.materials, name) for t in objects]) for name in ("colour", "texture", "gloss", "rough")
        )
        self.moves = np.array([t.moves for t in objects])
        self._static: np.ndarray | None = None
        self._static_normals: np.ndarray | None = None
        self._alpha = _alpha_textures(world_scene.textures)
        self.cutout = (self.texture >= 0) & self._alpha[self.texture] if len(self._alpha) else np.zeros(len(self.texture), bool)
        self._tree: Tree | None = None
        self._rigid: dict[int, Tree] = {}
        static = np.concatenate([np.arange(s, s + n) for s, n, t in zip(self.first_face, face_counts, objects) if not t.moves])
        self.static_faces = static.astype(np.int64)

    def vertices(self, time_s: float) -> tuple[np.ndarray, np.ndarray]:
        """Vertices and normals [V, 3] of all objects in the world at a time."""
        if self._static is None or self._static_normals is None:
            posed = [t.at(0.0) for t in self.world_scene.objects]
            self._static = np.concatenate([v for v, _ in posed]).astype(np.float32)
            self._static_normals = np.concatenate([n for _, n in posed]).astype(np.float32)
        if not self.moves.any():
            return self._static, self._static_normals
        vertices, normals = self._static.copy(), self._static_normals.copy()
        for k in np.flatnonzero(self.moves).tolist():
            span = slice(self.first_vertex[k], self.first_vertex[k] + len(self.world_scene.objects[k].mesh.vertices))
            vertices[span], normals[span] = self.world_scene.objects[k].at(time_s)
        return vertices, normals

    def trees(self, time_s: float, vertices: np.ndarray) -> list[Tree]:
        """All ray tracing trees at a time; those of static and rigid objects are built once."""
        if self._tree is None:
            self._tree = build_tree(vertices, self.faces[self.static_faces])
        trees = [self._tree]
        for k in np.flatnonzero(self.moves).tolist():
            item: SceneObject = self.world_scene.objects[k]
            if item.posed is None:
                if k not in self._rigid:
                    self._rigid[k] = build_tree(item.mesh.vertices, item.mesh.faces, int(self.first_face[k]))
                base = self._rigid[k]
                world_from_object = item.matrix(time_s)
                inverse = np.linalg.inv(world_from_object)
                centre = world_from_object[:3, :3] @ base.centre + world_from_object[:3, 3]
                trees.append(Tree(base.scene, base.first_face, inverse, centre, base.radius * _scale(world_from_object)))
            else:
                span = slice(self.first_vertex[k], self.first_vertex[k] + len(item.mesh.vertices))
                trees.append(build_tree(vertices[span], item.mesh.faces, int(self.first_face[k])))
        return trees


def _scale(matrix: np.ndarray) -> float:
    return float(np.cbrt(abs(np.linalg.det(matrix[:3, :3]))))


def _alpha_textures(textures: Textures) -> np.ndarray:
    """Textures with texels that are not opaque: [N] bool."""
    finest = [textures.texels_of(n)[: 1 << int(textures.log_size[n].sum())] for n in range(len(textures.start))]
    return np.array([bool((level.view(np.uint8)[3::4] < 128).any()) for level in finest], bool)


class Caster:
    """Ray caster of a scene at a fixed time."""

    def __init__(self, geometry: Geometry, time_s: float) -> None:
        self.geometry = geometry
        self.vertices, self.normals = geometry.vertices(time_s)
        self._trees = geometry.trees(time_s, self.vertices)

    def trace(self, origins: np.ndarray, directions: np.ndarray, cutouts: bool = True) -> Hits:
        """First surface hit by rays [N, 3]; `distance` [N] is in units of the length of the direction."""
        hits = self._trace_once(origins, directions)
        for _ in range(4 if cutouts and self.geometry.cutout.any() else 0):
            holes = self._holes(hits)
            if not len(holes):
                break
            start = hits.distance[holes] * (1 + 1e-4) + 1e-4
            moved = origins[holes] + directions[holes] * start[:, None]
            beyond = self._trace_once(moved, directions[holes])
            for name in ("face", "u", "v"):
                getattr(hits, name)[holes] = getattr(beyond, name)
            hits.distance[holes] = beyond.distance + start
        return hits

    def _trace_once(self, origins: np.ndarray, directions: np.ndarray) -> Hits:
        count = len(origins)
        face, u, v = np.full(count, -1, np.int64), np.zeros(count, np.float32), np.zeros(count, np.float32)
        distance = np.full(count, FAR, np.float32)
        for k, tree in enumerate(self._trees):
            rows, o, d = _rays_of(tree, origins, directions)
            if not len(o):
                continue
            result = tree.scene.run(o, d, distance[rows].copy(), output=1)
            met = result["primID"] >= 0
            at = np.flatnonzero(met) if isinstance(rows, slice) else rows[met]
            face[at] = self.geometry.static_faces[result["primID"][met]] if k == 0 else result["primID"][met] + tree.first_face
            distance[at], u[at], v[at] = result["tfar"][met], result["u"][met], result["v"][met]
        distance[face < 0] = np.inf
        return Hits(face, distance, u, v)

    def _holes(self, hits: Hits) -> np.ndarray:
        """Rays whose hit lies on a transparent texel."""
        some = np.flatnonzero(hits.face >= 0)
        some = some[self.geometry.cutout[self.geometry.material[hits.face[some]]]]
        if not len(some):
            return some
        face = hits.face[some]
        uv = corners_at(self.geometry.uv[face], hits.u[some], hits.v[some])
        number = self.geometry.texture[self.geometry.material[face]]
        alpha = sample(self.geometry.world_scene.textures, number, uv, np.full(len(some), 1e-3, np.float32))[:, 3]
        return some[alpha < 0.5]

    def blocked(self, origins: np.ndarray, directions: np.ndarray, limit: np.ndarray) -> np.ndarray:
        """Occlusion test: [N] bool, something lies on the ray before `limit`; cut-outs count as solid."""
        hit = np.zeros(len(origins), bool)
        for tree in self._trees:
            rows, o, d = _rays_of(tree, origins, directions)
            if not len(o):
                continue
            hit[rows] |= tree.scene.run(o, d, limit[rows].astype(np.float32), query="OCCLUDED") == 0
        return hit

    def vertices_of(self, item: int) -> np.ndarray:
        """Vertices [V, 3] of one object."""
        first = self.geometry.first_vertex[item]
        return self.vertices[first : first + len(self.geometry.world_scene.objects[item].mesh.vertices)]

    def points(self, face: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """World positions [N, 3] float32 of surface points at this time."""
        return corners_at(self.vertices[self.geometry.faces[face]], u, v)


def corners_at(corners: np.ndarray, u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Interpolate corner values [N, 3 corners, C] at barycentric coordinates: [N, C] float32."""
    first = corners[:, 0]
    return first + u[:, None] * (corners[:, 1] - first) + v[:, None] * (corners[:, 2] - first)


def _rays_of(tree: Tree, origins: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray | slice, np.ndarray, np.ndarray]:
    """Indices of the rays that may hit a tree, and these rays in the frame of the tree."""
    rows = slice(None)
    if tree.first_face:
        to = tree.centre.astype(np.float32) - origins
        along = dot(to, directions)
        beside = dot(to, to) - along * np.abs(along) / dot(directions, directions)  # overestimated for trees behind the origin
        rows = np.flatnonzero(beside < tree.radius**2)
        origins, directions = origins[rows], directions[rows]
    if tree.from_world is not None and len(origins):
        linear = tree.from_world[:3, :3].T.astype(np.float32)
        origins = origins @ linear + tree.from_world[:3, 3].astype(np.float32)
        directions = directions @ linear
    return rows, np.ascontiguousarray(origins, np.float32), np.ascontiguousarray(directions, np.float32)
