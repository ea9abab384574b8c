"""Raw data sets of the paper's training, small, made of a procedural clip whose truth is known at every pixel."""

import json
import struct
import zlib
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from st4rtrack.data.procedural import ProceduralClip, ProceduralConfig, procedural_clip
from st4rtrack.geometry.camera import pixel_grid, project
from st4rtrack.geometry.transforms import invert_rigid, rigid, transform_points
from tests.raw_data import World

HEIGHT, WIDTH, FRAMES = 36, 64, 8
MOVED = 1e-3


@cache
def truth(anchor: int = 0) -> ProceduralClip:
    """A room with two or more rigid things that move, seen by a camera that moves; in the world of a frame."""
    return _render(_rigid_seed(), anchor)


@cache
def _rigid_seed() -> int:
    """Of a clip in which nothing has joints: what the generator makes of a seed may change."""
    for seed in range(100):
        clip = _render(seed, 0)
        motions, exact = rigid_objects(clip)
        if exact.all() and len(_moving(motions)) >= 2 and 0.05 < clip.moving.mean() < 0.6:
            return seed
    raise AssertionError("no clip of rigid things")


def _render(seed: int, anchor: int) -> ProceduralClip:
    config = ProceduralConfig(
        height=HEIGHT, width=WIDTH, num_frames=FRAMES, setting="room", camera="dolly", max_parts=8, superquadrics=0, shadows=False
    )
    return procedural_clip(seed, config, anchor=anchor)


WORLD_FROM_ANCHOR = rigid(cv2.Rodrigues(np.array([0.5, -1.1, 0.4]))[0], np.array([3.0, -2.0, 7.0]))
"""Raw data sets have worlds of their own."""


@dataclass(frozen=True)
class ProceduralWorld(World):
    """A procedural clip as the writers of `tests.raw_data` want a world; its points are pixels of some frames.

    Attributes:
        clip: in the world of its frame 0.
        point_rows: [points, 3] of integers: the frame of which a point is a pixel's content, the row and the column.
    """

    frames: int = FRAMES
    height: int = HEIGHT
    width: int = WIDTH
    clip: ProceduralClip = field(default_factory=truth)
    point_rows: np.ndarray = field(default_factory=lambda: np.zeros((0, 3), int))

    @cached_property
    def world_from_camera(self) -> np.ndarray:
        return WORLD_FROM_ANCHOR @ self.clip.world_from_camera

    @cached_property
    def points_world(self) -> np.ndarray:
        points = np.empty((self.frames, len(self.point_rows), 3))
        for k, (frame, row, column) in enumerate(self.point_rows):
            followed = truth(int(frame)).tracking_points_world[:, row, column].astype(np.float64)
            points[:, k] = transform_points(self.world_from_camera[frame], followed)
        return points

    @cached_property
    def stored_visible(self) -> np.ndarray:
        return np.stack([truth(int(f)).visible[:, row, column] for f, row, column in self.point_rows], axis=1)

    def depth(self, t: int) -> np.ndarray:
        return self.clip.depth[t]

    def rgb(self, t: int) -> np.ndarray:
        return self.clip.rgb[t]


def procedural_world(point_rows: np.ndarray) -> ProceduralWorld:
    """See `ProceduralWorld`."""
    clip = truth()
    assert np.ptp(clip.intrinsics, axis=0).max() == 0, "one lens"
    return ProceduralWorld(intrinsics=clip.intrinsics[0], points=len(point_rows), point_rows=point_rows)


def pixels_of(frame: int, count: int, seed: int = 0) -> np.ndarray:
    """`point_rows` of different pixels of a frame, at random."""
    chosen = np.random.default_rng(seed).choice(HEIGHT * WIDTH, count, replace=False)
    return np.stack([np.full(count, frame), *np.divmod(chosen, WIDTH)], axis=1)


def rigid_objects(clip: ProceduralClip) -> tuple[dict[int, np.ndarray], np.ndarray]:
    """Motion [time, 4, 4] from time 0 of each object that frame 0 shows, in the world of frame 0, and [height, width] whether
    that motion is the true one for what the pixel shows: objects with joints are not rigid.
    """
    exact = np.zeros(clip.moving.shape, bool)
    motions = {}
    for k in np.unique(clip.object_index[0]):
        shown = clip.object_index[0] == k
        points = clip.tracking_points_world[:, shown].astype(np.float64)
        if shown.sum() < 8:
            continue
        motion = np.stack([_rigid_fit(points[0], points[t]) for t in range(len(points))])
        error = np.linalg.norm(transform_points(motion, points[0]) - points, axis=-1).max(axis=0)
        motions[int(k)] = motion
        exact[shown] = error < 1e-4
    return motions, exact


def _moving(motions: dict[int, np.ndarray]) -> list[int]:
    return [k for k, motion in motions.items() if np.abs(motion - np.eye(4)).max() > MOVED]


def _rigid_fit(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Kabsch's algorithm."""
    centre_s, centre_t = source.mean(axis=0), target.mean(axis=0)
    u, _, vt = np.linalg.svd((target - centre_t).T @ (source - centre_s))
    rotation = u @ np.diag([1, 1, np.linalg.det(u @ vt)]) @ vt
    return rigid(rotation, centre_t - rotation @ centre_s)


def write_kubric(root: Path, name: str, clip: ProceduralClip | None = None) -> np.ndarray:
    """`{name}/` as a MOVi worker writes it. Returns the labels [time, height, width] of its segmentation."""
    clip = clip or truth()
    folder = root / name
    folder.mkdir(parents=True)
    motions, _ = rigid_objects(clip)
    labels = np.zeros(clip.object_index.shape, np.uint8)
    instances = []
    for number, k in enumerate(_moving(motions), start=1):
        labels[clip.object_index == k] = number
        start = rigid(
            cv2.Rodrigues(np.array([0.3 * number, -0.2, 1.0]))[0],
            clip.tracking_points_world[0][clip.object_index[0] == k].mean(0),
        )
        instances.append(_instance(WORLD_FROM_ANCHOR @ motions[k] @ start, labels == number))
    camera = WORLD_FROM_ANCHOR @ clip.world_from_camera @ np.diag([1.0, -1.0, -1.0, 1.0])  # OpenGL's axes
    frames, height, width = clip.depth.shape
    across = (pixel_grid(height, width) - [width / 2, height / 2]) / clip.intrinsics[0, 0, 0]
    for t in range(frames):
        distance = (clip.depth[t] * np.hypot(1, np.linalg.norm(across, axis=-1))).astype(np.float32)
        distance[clip.depth[t] == 0] = 1e10  # Blender, where there is nothing
        rgba = np.dstack([clip.rgb[t][..., ::-1], np.full((height, width), 255, np.uint8)])
        assert cv2.imwrite(str(folder / f"rgba_{t:05d}.png"), rgba)
        assert cv2.imwrite(str(folder / f"depth_{t:05d}.tiff"), distance)
        (folder / f"segmentation_{t:05d}.png").write_bytes(palette_png(labels[t]))
        for part in ("forward_flow", "backward_flow", "normal", "object_coordinates"):
            assert cv2.imwrite(str(folder / f"{part}_{t:05d}.png"), np.zeros((height, width, 3), np.uint16))
    sensor = 32.0
    metadata = {
        "flags": {"frame_end": frames},
        "metadata": {"resolution": [width, height], "num_frames": frames, "num_instances": len(instances), "background": "room"},
        "camera": {
            "focal_length": clip.intrinsics[0, 0, 0] / width * sensor,
            "sensor_width": sensor,
            "field_of_view": 2 * float(np.arctan(width / 2 / clip.intrinsics[0, 0, 0])),
            "positions": camera[:, :3, 3].tolist(),
            "quaternions": [quaternion_wxyz(m) for m in camera[:, :3, :3]],
            "K": [[1.0, 0.0, -0.5], [0.0, -1.0, -0.5], [0.0, 0.0, -1.0]],
        },
        "instances": instances,
    }
    (folder / "metadata.json").write_text(json.dumps(metadata, sort_keys=True, indent=4))
    (folder / "events.json").write_text(json.dumps({"collisions": []}))
    (folder / "data_ranges.json").write_text(json.dumps({"forward_flow": {"min": -1.0, "max": 1.0}}))
    return labels


def _instance(world_from_object: np.ndarray, shown: np.ndarray) -> dict[str, Any]:
    return {
        "asset_id": "thing",
        "category": "Toys",
        "mass": 1.0,
        "is_dynamic": True,
        "positions": world_from_object[:, :3, 3].tolist(),
        "quaternions": [quaternion_wxyz(m) for m in world_from_object[:, :3, :3]],
        "visibility": shown.sum(axis=(1, 2)).tolist(),
    }


def quaternion_wxyz(rotation: np.ndarray) -> list[float]:
    """Of a rotation [3, 3]."""
    axis_angle = cv2.Rodrigues(rotation)[0][:, 0]
    angle = float(np.linalg.norm(axis_angle))
    axis = axis_angle / angle if angle else axis_angle
    return [float(np.cos(angle / 2)), *(np.sin(angle / 2) * axis).tolist()]


def palette_png(labels: np.ndarray) -> bytes:
    """A PNG of numbers with colours for them, whose grey values say nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = labels.shape
    palette = np.random.default_rng(0).integers(0, 255, (int(labels.max()) + 1, 3), dtype=np.uint8).tobytes()
    rows = b"".join(b"\0" + row.tobytes() for row in labels)
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    parts = [(b"IHDR", header), (b"PLTE", palette), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def seen_at(points_world: np.ndarray, world_from_camera: np.ndarray, intrinsics: np.ndarray) -> np.ndarray:
    """Where a camera sees points [..., 3]: [..., 2] pixels."""
    return project(transform_points(invert_rigid(world_from_camera), points_world.astype(np.float64)), intrinsics)
