"""GLB export: accumulated reconstruction, tracks as lines, all cameras, and an animation of tracks and camera; uses trimesh.

glTF axes: x right, y up, z backward. Cameras are glTF cameras (looking along -z), named `camera_000000` by frame. A glTF camera
has its principal point at the image centre, so its extras contain the exact intrinsics, in source pixels.
"""

from pathlib import Path
from typing import Any

import numpy as np

from st4rtrack.geometry.vectors import length
from st4rtrack.io.formats.cameras import (
    camera_frames,
    image_intrinsics,
    opengl_from_opencv_points,
    opengl_poses,
    world_from_cameras,
)
from st4rtrack.io.formats.content import accumulated, choose_pixels, track_colours, track_curves
from st4rtrack.io.formats.extras import need
from st4rtrack.io.formats.glb_animation import add_animation
from st4rtrack.io.formats.units import lengths
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
        scene: in memory or on disk.
        path: path of the `.glb`; replaced if it exists.
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
    intrinsics = image_intrinsics(scene, scene.pixel_map.ideal)
    height, width = scene.source_size
    tree["cameras"] = []
    tree["asset"]["extras"] = {"lengths": lengths(scene.info)}
    for node in tree["nodes"]:
        kind, _, number = str(node.get("name", "")).partition("_")
        if kind == "camera":
            fx, fy, cx, cy = intrinsics[int(number or scene.anchor_index)][[0, 1, 0, 1], [0, 1, 2, 2]].tolist()
            perspective = {
                "yfov": 2 * float(np.arctan2(height / 2, fy)),
                "aspectRatio": width * fy / (height * fx),
                "znear": near / 100,
            }
            extras = {"fx_fy_cx_cy": [fx, fy, cx, cy], "width": width, "height": height}
            node["camera"] = len(tree["cameras"])
            tree["cameras"].append({"type": "perspective", "perspective": perspective, "extras": extras})
