"""People: bodies baked from the parametric model `anny`, their clothes, poses and gaits."""

import importlib
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from st4rtrack.data.world.mesh import Materials, Mesh, unit, vertex_normals
from st4rtrack.io.installation import install_extra
from st4rtrack.types import UserError

NUM_BODIES = 64
BODY_FACES = 9000
REGIONS = ("skin", "hair", "torso", "upper_arm", "lower_arm", "hand", "hip", "upper_leg", "lower_leg", "foot", "eye", "lips")
_DOWN = np.array([[1.0, 0, 0], [0, 0, -1.0], [0, 1.0, 0]])
"""Axes of `anny` (z up, facing -y) to those of a mesh (y down, facing -z)."""


@dataclass(frozen=True)
class Bodies:
    """N bodies of one topology in their rest pose (arms spread), y down, facing -z."""

    # [N, V, 3] float32, heads: [N, B, 3] joints, faces: [F, 3], uv: [F, 3, 2], region: [V] index of `REGIONS`
    vertices: np.ndarray
    heads: np.ndarray
    faces: np.ndarray
    uv: np.ndarray
    region: np.ndarray
    # bones, weights: [V, 4] skinning
    bones: np.ndarray
    weights: np.ndarray
    parents: np.ndarray  # [B]
    labels: np.ndarray  # names of the bones


def save_bodies(path: Path, bodies: Bodies) -> None:
    """Write bodies as `.npz`."""
    np.savez(path, **vars(bodies))


def load_bodies(path: Path) -> Bodies:
    """Read bodies written by `save_bodies`."""
    with np.load(path) as file:
        return Bodies(**{field.name: file[field.name] for field in fields(Bodies)})


def bake_bodies(count: int = NUM_BODIES, seed: int = 7) -> Bodies:
    """Sample bodies from `anny` (the first call takes a minute) and simplify them to about 9,000 triangles."""
    try:
        torch, anny = importlib.import_module("torch"), importlib.import_module("anny")
        simplify = importlib.import_module("fast_simplification").simplify
    except ImportError as error:
        raise UserError(f"{error.name} is needed to make people; install it with: {install_extra('world')}") from None
    model = anny.Anny().to(dtype=torch.float32)
    rng = np.random.default_rng(seed)
    age = np.where(rng.random(count) < 0.25, rng.uniform(0.2, 0.45, count), rng.uniform(0.55, 1.0, count))
    shape = {"age": age, "gender": np.where(rng.random(count) < 0.5, rng.uniform(0, 0.15, count), rng.uniform(0.85, 1, count))}
    for name, low, high in (("muscle", 0.3, 0.8), ("weight", 0.25, 0.85), ("height", 0.35, 0.65), ("proportions", 0.3, 0.9)):
        shape[name] = rng.uniform(low, high, count)
    pose = torch.eye(4)[None, None].repeat(count, model.bone_count, 1, 1)
    with torch.no_grad():
        out = model(pose_parameters=pose, phenotype_kwargs={k: torch.tensor(v, dtype=torch.float32) for k, v in shape.items()})
    rest = out["rest_vertices"].numpy().astype(np.float64) @ _DOWN.T
    heads = out["rest_bone_heads"].numpy().astype(np.float64) @ _DOWN.T
    faces, uv_index = model.faces.numpy(), model.face_texture_coordinate_indices.numpy()
    inside = _inside_faces(model)
    faces, uv_index = faces[~inside], uv_index[~inside]
    template = rest[0]
    points, simple = simplify(template.astype(np.float32), faces.astype(np.int32), target_count=BODY_FACES)
    nearest = np.concatenate([_nearest(chunk, template) for chunk in np.array_split(points, 20)])
    simple = nearest[simple]
    simple = simple[(simple[:, 0] != simple[:, 1]) & (simple[:, 1] != simple[:, 2]) & (simple[:, 2] != simple[:, 0])]
    used, simple = np.unique(simple, return_inverse=True)
    simple = simple.reshape(-1, 3).astype(np.int32)
    corner_uv = np.zeros((len(template), 2), np.float32)
    corner_uv[faces.ravel()] = model.texture_coordinates.numpy()[uv_index.ravel()]
    weights, bones = model.vertex_bone_weights.numpy()[used], model.vertex_bone_indices.numpy()[used]
    order = np.argsort(-weights, axis=1)[:, :4]
    weights, bones = np.take_along_axis(weights, order, 1), np.take_along_axis(bones, order, 1)
    labels = np.array(model.bone_labels)
    uv = corner_uv[used][simple]
    wide = np.ptp(uv, axis=1).max(1) > 0.1  # triangles across a chart border
    uv[wide] = uv[wide][:, :1]
    return Bodies(
        vertices=rest[:, used].astype(np.float32),
        heads=heads.astype(np.float32),
        faces=simple,
        uv=uv,
        region=_regions(template[used], labels[bones[:, 0]], heads[0], labels),
        bones=bones.astype(np.int16),
        weights=(weights / weights.sum(1, keepdims=True)).astype(np.float32),
        parents=np.array(model.bone_parents, np.int16),
        labels=labels,
    )


def _nearest(points: np.ndarray, among: np.ndarray) -> np.ndarray:
    squares = (among**2).sum(1)[None] - 2 * points @ among.T
    return squares.argmin(1)


def _inside_faces(model: object) -> np.ndarray:
    """Faces [F] bool of the cavities of mouth and eyes, which are never visible."""
    mask = importlib.import_module("anny.face_segmentation").get_face_segmentation_mask
    return mask(model, ["mouth_cavity", "tongue", "eye_cavity.L", "eye_cavity.R", "eye_back.L", "eye_back.R"]).numpy()


def _regions(vertices: np.ndarray, bone: np.ndarray, heads: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Region [V] of every vertex, by its most influential bone and its position."""
    region = np.zeros(len(vertices), np.int8)
    prefixes = (
        ("spine", "torso"), ("clavicle", "torso"), ("shoulder", "torso"), ("upperarm", "upper_arm"), ("lowerarm", "lower_arm"),
        ("wrist", "hand"), ("finger", "hand"), ("metacarpal", "hand"), ("pelvis", "hip"), ("root", "hip"), ("upperleg", "upper_leg"),
        ("lowerleg", "lower_leg"), ("foot", "foot"), ("toe", "foot"), ("eye", "eye"),
    )  # fmt: skip
    for prefix, name in prefixes:
        region[np.char.startswith(bone, prefix)] = REGIONS.index(name)
    at = {str(label): heads[k] for k, label in enumerate(labels)}
    hip, waist = at["upperleg01.L"], at["spine04"]
    region[(region == REGIONS.index("torso")) & (vertices[:, 1] > waist[1])] = REGIONS.index("hip")
    eye, head = at["eye.L"], at["head"]
    is_head = np.char.startswith(bone, "head")
    top = vertices[is_head, 1].min()
    # Hair covers the vertices above the brow line and behind a plane through the ears.
    behind = vertices[:, 2] > head[2] + 0.01
    above = vertices[:, 1] < eye[1] - 0.35 * (eye[1] - top)
    neck = vertices[:, 1] > eye[1] + 0.09 * abs(hip[1] - eye[1]) / 0.65
    region[is_head & (above | (behind & ~neck))] = REGIONS.index("hair")
    lips = (
        is_head
        & (np.abs(vertices[:, 0]) < 0.026)
        & (np.abs(vertices[:, 1] - (eye[1] + 0.068)) < 0.009)
        & (vertices[:, 2] < eye[2])
    )
    region[lips] = REGIONS.index("lips")
    return region


def rotation(axis: int, angle: float) -> np.ndarray:
    """Rotation matrix [3, 3] about a coordinate axis."""
    c, s = np.cos(angle), np.sin(angle)
    matrix = np.eye(3)
    a, b = (axis + 1) % 3, (axis + 2) % 3
    matrix[a, a], matrix[a, b], matrix[b, a], matrix[b, b] = c, -s, s, c
    return matrix


@dataclass(frozen=True)
class Pose:
    """Joint angles in radians; arms, elbows, hips, knees as (left, right); lean and nod are forwards.

    `lower`: 0 for arms spread (rest pose), 1 for arms hanging; `swing`: forwards; `raise_`: sideways beyond that.
    """

    swing: tuple[float, float] = (0.0, 0.0)
    lower: tuple[float, float] = (1.0, 1.0)
    elbow: tuple[float, float] = (0.25, 0.25)
    hip: tuple[float, float] = (0.0, 0.0)
    knee: tuple[float, float] = (0.0, 0.0)
    lean: float = 0.0
    twist: float = 0.0
    nod: float = 0.0
    look: float = 0.0


class Body:
    """Dressed person that can be posed."""

    def __init__(self, bodies: Bodies, number: int, mesh: Mesh) -> None:
        self.bodies, self.mesh, self.heads = bodies, mesh, bodies.heads[number].astype(np.float64)
        at = {str(label): self.heads[k] for k, label in enumerate(bodies.labels)}
        arm = at["lowerarm01.L"] - at["upperarm01.L"]
        self._down = float(np.arctan2(arm[0], arm[1]))
        fore = rotation(2, self._down) @ (at["wrist.L"] - at["lowerarm01.L"])
        self._bent = float(np.arctan2(-fore[2], fore[1]))
        self.leg_m = float(at["foot.L"][1] - at["upperleg01.L"][1])
        self._bone = {str(label): k for k, label in enumerate(bodies.labels)}

    def matrices(self, pose: Pose) -> np.ndarray:
        """Transforms [B, 4, 4] of every bone from the rest pose, in the frame of the body."""
        turn: dict[str, np.ndarray] = {}
        for k, (side, sign) in enumerate((("L", 1.0), ("R", -1.0))):
            lowered = rotation(2, sign * self._down * pose.lower[k])
            turn[f"upperarm01.{side}"] = rotation(0, -pose.swing[k]) @ lowered
            turn[f"lowerarm01.{side}"] = lowered.T @ rotation(0, -(pose.elbow[k] - self._bent)) @ lowered
            turn[f"upperleg01.{side}"] = rotation(0, -pose.hip[k])
            turn[f"lowerleg01.{side}"] = rotation(0, pose.knee[k])
            turn[f"foot.{side}"] = rotation(0, 0.5 * (pose.hip[k] - pose.knee[k]))
        for name in ("spine04", "spine03", "spine02"):
            turn[name] = rotation(0, pose.lean / 3) @ rotation(1, pose.twist / 3)
        turn["neck01"] = rotation(0, pose.nod / 2) @ rotation(1, pose.look / 2)
        turn["head"] = turn["neck01"]
        moved = np.empty((len(self.heads), 4, 4))
        for bone, parent in enumerate(self.bodies.parents):
            local = np.eye(4)
            change = turn.get(str(self.bodies.labels[bone]))
            if change is not None:
                local[:3, :3] = change
                local[:3, 3] = self.heads[bone] - change @ self.heads[bone]
            moved[bone] = local if parent < 0 else moved[parent] @ local
        return moved

    def skin(
        self, pose: Pose, world_from_body: np.ndarray, seat_m: float | None = None
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Vertices, normals and bones [B, 4, 4] in the world; the lowest point is level with the origin of `world_from_body`.

        seat_m: if set, height of the hips instead, for sitting people.
        """
        moved = self.matrices(pose)
        blend = (moved[:, :3].reshape(-1, 12)[self.bodies.bones] * self.bodies.weights[..., None]).sum(1).reshape(-1, 3, 4)
        local = (blend[:, :, :3] @ self.mesh.vertices[:, :, None])[..., 0] + blend[:, :, 3]
        drop = -local[:, 1].max() if seat_m is None else -seat_m - self.heads[self._bone["root"], 1]
        place = world_from_body.copy()
        place[:3, 3] += place[:3, 1] * drop
        vertices = local @ place[:3, :3].T + place[:3, 3]
        normals = (blend[:, :, :3] @ self.mesh.normals[:, :, None])[..., 0] @ place[:3, :3].T
        return vertices.astype(np.float32), unit(normals).astype(np.float32), place @ moved

    def hand(self, bones: np.ndarray, side: str = "R") -> np.ndarray:
        """Centre of the palm [3] in the world, from the bones returned by `skin`."""
        bone = self._bone[f"metacarpal2.{side}"]
        tip = self.heads[self._bone[f"finger3-1.{side}"]]
        return bones[bone, :3, :3] @ tip + bones[bone, :3, 3]


def dress(
    bodies: Bodies, number: int, textures: dict[str, int], colours: dict[str, np.ndarray], rng: np.random.Generator
) -> Body:
    """Dress body `number`: clothes are surfaces offset from the skin, textured by region.

    Args:
        textures, colours: texture numbers, and their mean linear colours, of "skin", "hair", "top", "bottom" and "shoes".
    """
    sleeves, shorts = rng.choice(3, p=[0.15, 0.35, 0.5]), rng.random() < 0.25
    one_piece = rng.random() < 0.15
    names = ["skin", "hair", "top", "bottom", "shoes"]
    worn = {"torso": "top", "hip": "bottom", "upper_leg": "bottom", "foot": "shoes", "hair": "hair"}
    worn |= {"upper_arm": "top"} if sleeves >= 1 else {}
    worn |= {"lower_arm": "top"} if sleeves == 2 else {}
    worn |= {} if shorts else {"lower_leg": "bottom"}
    if one_piece:
        worn = {region: "top" if part == "bottom" else part for region, part in worn.items()}
    if rng.random() < 0.06:
        worn.pop("hair")
    lift = np.array([0.0, rng.uniform(0.012, 0.035), rng.uniform(0.006, 0.03), rng.uniform(0.005, 0.025), 0.008])
    part = np.array([names.index(worn.get(region, "skin")) for region in REGIONS])
    part_of_vertex = part[bodies.region]
    vertices = bodies.vertices[number].astype(np.float64)
    normals = vertex_normals(vertices, bodies.faces)
    amount = lift[part_of_vertex]
    wave = np.sin(vertices @ rng.normal(0, 40, (3, 3)) + rng.uniform(0, 6, 3)).mean(1)
    vertices += normals * (amount * (1 + 0.35 * wave))[:, None]
    material = part_of_vertex[bodies.faces].max(1)
    special = bodies.region[bodies.faces]
    eyes, lips = (special == REGIONS.index("eye")).any(1), (special == REGIONS.index("lips")).any(1)
    material = np.where(eyes, 5, np.where(lips, 6, material))
    special_colours = [[0.3, 0.28, 0.26], colours["skin"] * [0.75, 0.45, 0.45]]
    materials = Materials(
        np.concatenate([np.stack([colours[name] for name in names]), special_colours]).astype(np.float32),
        np.array([textures[name] for name in names] + [-1, -1], np.int32),
        np.array([0.015, 0.02, 0.0, 0.0, 0.03, 0.04, 0.02], np.float32),
        np.full(7, 0.3, np.float32),
    )
    scale = np.array([1.0, 1.5, rng.uniform(2, 5), rng.uniform(2, 5), 3.0, 1, 1])[material]
    mesh = Mesh(
        vertices.astype(np.float32),
        vertex_normals(vertices, bodies.faces).astype(np.float32),
        bodies.faces,
        (bodies.uv * scale[:, None, None]).astype(np.float32),
        material.astype(np.int16),
        materials,
    )
    return Body(bodies, number, mesh)


def walking(phase: float, effort: float = 1.0) -> Pose:
    """Pose of a walk cycle; a phase of 2 pi is two steps."""
    s, c = np.sin(phase), np.cos(phase)
    knee = (0.15 + 0.75 * max(0.0, float(np.cos(phase))) ** 2, 0.15 + 0.75 * max(0.0, float(-np.cos(phase))) ** 2)
    return Pose(
        swing=(-0.45 * effort * s, 0.45 * effort * s),
        elbow=(0.35 - 0.15 * s, 0.35 + 0.15 * s),
        hip=(0.42 * effort * s + 0.1, -0.42 * effort * s + 0.1),
        knee=(knee[0] * effort, knee[1] * effort),
        lean=0.05,
        twist=0.12 * s * effort,
        look=-0.1 * c * effort,
    )


def blend(a: Pose, b: Pose, share: float) -> Pose:
    """Interpolate between two poses."""

    def mix(x: float | tuple[float, float], y: float | tuple[float, float]) -> float | tuple[float, float]:
        if isinstance(x, tuple) and isinstance(y, tuple):
            return (x[0] + (y[0] - x[0]) * share, x[1] + (y[1] - x[1]) * share)
        return float(x) + (float(y) - float(x)) * share  # type: ignore[arg-type]

    return Pose(**{name: mix(value, getattr(b, name)) for name, value in vars(a).items()})  # type: ignore[arg-type]


SITTING = Pose(hip=(1.5, 1.45), knee=(1.5, 1.4), elbow=(1.2, 1.1), swing=(0.35, 0.4), lean=-0.05)
SQUATTING = Pose(hip=(1.7, 1.6), knee=(2.0, 1.9), lean=0.6, swing=(1.0, 1.1), nod=0.3)
GESTURES = (
    Pose(swing=(0.1, 2.6), elbow=(0.3, 0.7), lower=(1, 0.8), look=0.3),
    Pose(swing=(2.7, 2.7), elbow=(0.2, 0.2), lower=(0.9, 0.9), nod=-0.2),
    Pose(swing=(0.0, 0.0), lower=(-0.5, -0.5), elbow=(0.3, 0.3)),
    Pose(swing=(0.6, 1.4), elbow=(1.3, 0.3), twist=0.4, look=0.4),
    Pose(swing=(0.5, 0.5), elbow=(1.7, 1.7), nod=0.35),
    Pose(swing=(0.3, 0.2), elbow=(0.5, 1.9), look=-0.5),
    Pose(hip=(0.9, 0.0), knee=(1.2, 0.1), swing=(-0.4, 0.6), lean=0.1),
    Pose(lean=0.9, swing=(1.0, 1.0), elbow=(0.3, 0.3), knee=(0.2, 0.2), nod=0.3),
    SQUATTING,
    Pose(twist=-0.7, look=-0.6, swing=(0.3, -0.3)),
)
