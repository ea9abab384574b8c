"""GLB export: accumulated reconstruction, tracks as lines, all cameras, and an animation of tracks and camera; uses trimesh.

glTF axes: x right, y up, z backward. Cameras are glTF cameras (looking along -z), named `camera_000000` by frame. A glTF camera
has its principal point at the image centre, so its extras contain the exact intrinsics, in source pixels. Keyframes of the
animation are the solved frames, at their times since the first frame; positions and rotations are interpolated between them.
"""

from collections.abc import MutableMapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from st4rtrack.geometry.transforms import quaternion_from_rotation
from st4rtrack.geometry.vectors import length
from st4rtrack.io.formats.common import (
    camera_frames,
    fx_fy_cx_cy,
    image_intrinsics,
    lengths,
    need,
    opengl_from_opencv_points,
    opengl_poses,
    world_from_cameras,
)
from st4rtrack.io.formats.content import accumulated, choose_pixels, follow, track_colours, track_curves
from st4rtrack.scene import Scene
from st4rtrack.types import UserError

_SHOWN_CAMERAS = 32
_MAX_TRACK_VERTICES = 64
_FRUSTUM_LENGTH = 0.05
_MARKER_RADIUS = 0.004
"""Depth of a drawn frustum and radius of a marker, relative to the median distance of the points from the anchor camera."""


def write_glb(
    scene: Scene, path: str | Path, *, max_points: int = 500_000, max_tracks: int = 400, max_markers: int = 100
) -> None:
    """Write a GLB file with the reconstruction of all frames; dynamic objects appear once per frame.

    Args:
        max_points: Maximum number of points of the reconstruction.
        max_tracks: Maximum number of tracks of anchor pixels, each of up to 64 corners; 0: none.
        max_markers: Maximum number of tracks with an animated marker; 0: none.
    Raises:
        UserError: the scene has no cameras or no points, or trimesh is not installed.
    """
    trimesh = need("trimesh", "glb")
    frames, poses = camera_frames(scene), opengl_poses(world_from_cameras(scene))
    cloud = accumulated(scene, max_points)
    if not len(cloud):
        raise UserError("no point is left to write: the scene has no finite points")
    result = trimesh.Scene(base_frame="world")
    points = opengl_from_opencv_points(cloud.points_world)
    result.add_geometry(trimesh.PointCloud(points, colors=cloud.colours), geom_name="reconstruction", node_name="reconstruction")
    if max_tracks:
        result.add_geometry(_track_lines(trimesh, scene, max_tracks), geom_name="tracks", node_name="tracks")
    frustum_length = _FRUSTUM_LENGTH * float(np.median(length(cloud.points_world)))
    result.geometry["frustum"] = _frustum(trimesh, scene, frustum_length)
    shown = set(frames[np.linspace(0, len(frames) - 1, min(len(frames), _SHOWN_CAMERAS)).round().astype(int)].tolist())
    for frame in frames.tolist():
        name = f"camera_{frame:06d}"
        result.graph.update(frame_to=name, frame_from="world", matrix=poses[frame])
        if frame in shown:
            result.graph.update(frame_to=f"frustum_{frame:06d}", frame_from="world", matrix=poses[frame], geometry="frustum")
    data = trimesh.exchange.gltf.export_glb(
        result,
        buffer_postprocessor=lambda buffers, tree: add_animation(
            buffers, tree, scene, max_markers, _MARKER_RADIUS / _FRUSTUM_LENGTH * frustum_length
        ),
        tree_postprocessor=lambda tree: _add_cameras(tree, scene, frustum_length),
    )
    Path(path).write_bytes(data)


def _track_lines(trimesh: Any, scene: Scene, max_tracks: int) -> Any:
    """One polyline per track, over the whole video."""
    pixels = choose_pixels(scene, max_tracks)
    trajectories = track_curves(scene, pixels, _MAX_TRACK_VERTICES)
    corners = np.arange(trajectories.shape[0] * trajectories.shape[1]).reshape(trajectories.shape[:2])
    colours = np.pad(track_colours(pixels, scene.rgb.shape[2]), ((0, 0), (0, 1)), constant_values=255)
    lines = [trimesh.path.entities.Line(corner, color=colour) for corner, colour in zip(corners, colours)]
    return trimesh.path.Path3D(entities=lines, vertices=opengl_from_opencv_points(trajectories).reshape(-1, 3), process=False)


def _frustum(trimesh: Any, scene: Scene, length: float) -> Any:
    """Wireframe frustum of the anchor camera of depth `length`, in glTF camera axes."""
    height, width = scene.rgb.shape[1:3]
    k = np.asarray(scene.cameras.intrinsics[scene.anchor_index], np.float64)
    corners_px = np.array([[0, 0], [width, 0], [width, height], [0, height]], np.float64)
    rays = (corners_px - k[:2, 2]) / np.diag(k)[:2]
    corners = length * np.column_stack([rays[:, 0], -rays[:, 1], -np.ones(4)])
    orange = np.array([255, 140, 0, 255], np.uint8)
    order = ([1, 2, 3, 4, 1], [0, 1], [0, 2], [0, 3], [0, 4])
    lines = [trimesh.path.entities.Line(corner, color=orange) for corner in order]
    return trimesh.path.Path3D(entities=lines, vertices=np.vstack([np.zeros(3), corners]), process=False)


def _add_cameras(tree: dict[str, Any], scene: Scene, near: float) -> None:
    """Add glTF cameras to the camera nodes (trimesh writes at most one camera); the animated one has the anchor's lens."""
    pinholes = fx_fy_cx_cy(image_intrinsics(scene, scene.pixel_map.ideal)).tolist()
    height, width = scene.source_size
    tree["cameras"] = []
    tree["asset"]["extras"] = {"lengths": lengths(scene.info)}
    for node in tree["nodes"]:
        kind, _, number = str(node.get("name", "")).partition("_")
        if kind == "camera":
            fx, fy, cx, cy = pinholes[int(number or scene.anchor_index)]
            perspective = {
                "yfov": 2 * float(np.arctan2(height / 2, fy)),
                "aspectRatio": width * fy / (height * fx),
                "znear": near / 100,
            }
            extras = {"fx_fy_cx_cy": [fx, fy, cx, cy], "width": width, "height": height}
            node["camera"] = len(tree["cameras"])
            tree["cameras"].append({"type": "perspective", "perspective": perspective, "extras": extras})


_COMPONENTS = {"float32": 5126, "uint16": 5123}
_TYPES = {1: "SCALAR", 3: "VEC3", 4: "VEC4"}
_CORNERS = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], np.float32)
_FACES = np.array(
    [[x, 2 + y, 4 + z] if (x + y + z) % 2 == 0 else [x, 4 + z, 2 + y] for x, y, z in product((0, 1), repeat=3)], np.uint16
)


def add_animation(
    buffers: MutableMapping[Any, bytes], tree: dict[str, Any], scene: Scene, max_markers: int, radius: float
) -> None:
    """Add an animation with the node `camera` and nodes `track_000000` and so on to a glTF."""
    solved, time_s = np.flatnonzero(scene.solved_frames), np.asarray(scene.time_s, np.float64)
    animation = _Animation(buffers, tree, (time_s - time_s[0])[solved])
    poses = opengl_poses(world_from_cameras(scene))[solved]
    animation.add_node({"name": "camera"}, translation=poses[:, :3, 3], rotation=_continuous_xyzw(poses[:, :3, :3]))
    if not max_markers:
        return
    pixels = choose_pixels(scene, max_markers)
    tracks = list(follow(scene, pixels))
    positions = opengl_from_opencv_points(np.stack([points for points, _ in tracks])[solved])
    visible = np.stack([visible for _, visible in tracks])[solved]
    corners, faces = animation.accessor(radius * _CORNERS), animation.accessor(_FACES.reshape(-1, 1))
    for number, colour in enumerate(track_colours(pixels, scene.rgb.shape[2]) / 255):
        mesh = animation.add_mesh(corners, faces, (colour**2.2).tolist())
        scale = {} if visible[:, number].all() else {"scale": np.repeat(visible[:, number, None], 3, axis=1)}
        animation.add_node({"name": f"track_{number:06d}", "mesh": mesh}, translation=positions[:, number], **scale)


def _continuous_xyzw(rotation: np.ndarray) -> np.ndarray:
    """Unit quaternions [time, 4] (x, y, z, w) of rotations [time, 3, 3], without changes of sign between neighbours."""
    xyzw = quaternion_from_rotation(rotation)[:, (1, 2, 3, 0)]
    xyzw[1:] *= np.cumprod(np.where((xyzw[1:] * xyzw[:-1]).sum(axis=1) < 0, -1, 1))[:, None]
    return xyzw


class _Animation:
    def __init__(self, buffers: MutableMapping[Any, bytes], tree: dict[str, Any], times_s: np.ndarray) -> None:
        self._buffers, self._tree = buffers, tree
        self._times = self.accessor(times_s.astype(np.float32).reshape(-1, 1))
        self._samplers: list[dict[str, Any]] = []
        self._channels: list[dict[str, Any]] = []
        tree["animations"] = [{"name": "video", "samplers": self._samplers, "channels": self._channels}]
        tree["extensionsUsed"] = sorted({*tree.get("extensionsUsed", []), "KHR_materials_unlit"})

    def accessor(self, values: np.ndarray) -> int:
        """Add an accessor of values [count, components]."""
        self._buffers[f"animation_{len(self._buffers)}"] = values.tobytes() + bytes(-values.nbytes % 4)
        accessors = self._tree["accessors"]
        accessors[f"animation_{len(accessors)}"] = {
            "bufferView": len(self._buffers) - 1,
            "componentType": _COMPONENTS[values.dtype.name],
            "count": len(values),
            "type": _TYPES[values.shape[1]],
            "min": values.min(axis=0).tolist(),
            "max": values.max(axis=0).tolist(),
        }
        return len(accessors) - 1

    def add_mesh(self, corners: int, faces: int, colour: list[float]) -> int:
        """Add an unlit mesh of shared accessors in one linear colour."""
        extensions = {"KHR_materials_unlit": {}}
        material = {"pbrMetallicRoughness": {"baseColorFactor": [*colour, 1.0]}, "extensions": extensions}
        self._tree["materials"].append(material)
        primitive = {"attributes": {"POSITION": corners}, "indices": faces, "material": len(self._tree["materials"]) - 1}
        self._tree["meshes"].append({"primitives": [primitive]})
        return len(self._tree["meshes"]) - 1

    def add_node(self, node: dict[str, Any], **paths: np.ndarray) -> None:
        """Add a node with animated properties [time, components] by name; `scale` is not interpolated."""
        target = len(self._tree["nodes"])
        self._tree["nodes"].append(node)
        self._tree["scenes"][0]["nodes"].append(target)
        for path, values in paths.items():
            node[path] = values[0].astype(float).tolist()
            output = self.accessor(values.astype(np.float32))
            interpolation = "STEP" if path == "scale" else "LINEAR"
            self._samplers.append({"input": self._times, "output": output, "interpolation": interpolation})
            self._channels.append({"sampler": len(self._samplers) - 1, "target": {"node": target, "path": path}})
