"""Animation of a GLB file: a camera that follows the poses, and markers that follow tracks, as animated glTF nodes.

Keyframes are the solved frames, at their times since the first frame of the scene; between them positions and rotations are
interpolated.
"""

from collections.abc import MutableMapping
from itertools import product
from typing import Any

import numpy as np

from st4rtrack.geometry.transforms import quaternion_from_rotation
from st4rtrack.io.formats.cameras import opengl_from_opencv_points, opengl_poses, world_from_cameras
from st4rtrack.io.formats.content import choose_pixels, follow, track_colours
from st4rtrack.scene import Scene

_COMPONENTS = {"float32": 5126, "uint16": 5123}
_TYPES = {1: "SCALAR", 3: "VEC3", 4: "VEC4"}
_CORNERS = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], np.float32)
_FACES = np.array(
    [[x, 2 + y, 4 + z] if (x + y + z) % 2 == 0 else [x, 4 + z, 2 + y] for x, y, z in product((0, 1), repeat=3)], np.uint16
)


def add_animation(
    buffers: MutableMapping[Any, bytes], tree: dict[str, Any], scene: Scene, max_markers: int, radius: float
) -> None:
    """Add an animation with the node `camera` and nodes `track_000000` and so on to a glTF.

    Args:
        buffers: contents of the buffer views, as trimesh passes them to a `buffer_postprocessor`.
        tree: the glTF, with accessors by key.
        scene: the scene.
        max_markers: maximum number of tracks with a marker; a marker is shown where its point is visible.
        radius: radius of a marker.
    """
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
