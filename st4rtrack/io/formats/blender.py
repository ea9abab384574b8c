"""Blender export: a folder with data and `import_scene.py`, which Blender 4.2 or later runs; written with NumPy only.

All data are in the world frame of the scene (OpenCV: x right, y down, z forward); the script parents every object to an empty
that turns these axes to Blender's (z up). Frame 1 of Blender is the first frame of the scene. At a variable frame rate, each
Blender frame shows the nearest frame in time. Unsolved frames have no key and no points.

The positions of the tracks over time are a PC2 file, which Blender's Mesh Cache modifier reads: a 32-byte header, then
[frames, points, 3] float32. Each frame has a point cloud of its own, of the dynamic pixels if the scene has motion masks.
"""

import json
import shutil
import struct
from pathlib import Path

import numpy as np

from st4rtrack.io.formats import blender_script
from st4rtrack.io.formats.common import METRES, camera_frames, image_intrinsics, lengths, world_from_cameras
from st4rtrack.io.formats.content import (
    DROP_LEAST_SURE,
    AnchorPixels,
    PointCloud,
    accumulated,
    choose_pixels,
    follow,
    point_width,
    read_cloud,
    track_colours,
    track_curves,
)
from st4rtrack.io.formats.frames import at_constant_rate
from st4rtrack.io.formats.images import SceneImages, scene_images
from st4rtrack.io.formats.tracks import tracks_2d
from st4rtrack.io.images import encode_jpeg
from st4rtrack.scene import Scene

_MAX_POSITIONS = 6_000_000
"""Maximum number of positions of the tracks, and of the points of all frames."""
_MAX_CURVES, _MAX_CURVE_VERTICES = 400, 64
_MAX_MARKERS = 100


def write_blender(
    scene: Scene,
    folder: str | Path,
    *,
    max_points: int = 200_000,
    max_frame_points: int | None = None,
    max_tracks: int | None = None,
) -> None:
    """Write `import_scene.py`, `scene.json`, `images/`, `clouds/`, `static.npz`, `tracks.npz` and `tracks.pc2`.

    Args:
        max_points: Maximum number of static points, from all frames.
        max_frame_points: Maximum number of points of each frame, dynamic ones if known. Default: 20,000, fewer in long videos.
        max_tracks: Maximum number of tracks. Default: 20,000, fewer in long videos.
    Raises:
        UserError: the scene has no cameras or no tracks.
    """
    folder, images = Path(folder), scene_images(scene)
    scene, shown, rate = at_constant_rate(scene)
    frames = camera_frames(scene)
    bound = min(20_000, max(100, _MAX_POSITIONS // len(scene)))
    max_frame_points = bound if max_frame_points is None else max_frame_points
    random = np.random.default_rng(0)
    shutil.copyfile(blender_script.__file__, folder / "import_scene.py")
    for part in ("images", "clouds"):
        (folder / part).mkdir()
    for frame, rgb in enumerate(images.frames(shown)):
        (folder / "images" / f"frame_{frame + 1:06d}.jpg").write_bytes(encode_jpeg(rgb))
    pixels = choose_pixels(scene, bound if max_tracks is None else max_tracks)
    _write_tracks(scene, pixels, images, folder)
    if scene.reconstruction.moving is not None:
        _write_cloud(accumulated(scene, max_points, dynamic=False), folder / "static.npz")
    for frame in frames.tolist():
        cloud = read_cloud(scene, frame, DROP_LEAST_SURE, dynamic=True).thinned(max_frame_points, random)
        _write_cloud(cloud, folder / "clouds" / f"frame_{frame + 1:06d}.npz")
    content = {
        "name": str(scene.info.get("source", {}).get("name") or "st4rtrack").encode(errors="replace").decode(),
        "lengths": lengths(scene.info),
        "metric": lengths(scene.info) == METRES,
        "frames_per_second": rate,
        "num_frames": len(scene),
        "width": images.width,
        "height": images.height,
        "time_s": np.asarray(scene.time_s, np.float64).tolist(),
        "camera_frames": (frames + 1).tolist(),
        "world_from_camera": world_from_cameras(scene)[frames].tolist(),
        "intrinsics": image_intrinsics(scene, images.image_map)[frames].tolist(),
        "point_width": point_width(scene, 1.0),
        "track_width": point_width(scene, pixels.spacing_px),
    }
    (folder / "scene.json").write_text(json.dumps(content) + "\n", encoding="utf-8")


def _write_cloud(cloud: PointCloud, path: Path) -> None:
    """Write a cloud unless it is empty."""
    if len(cloud):
        np.savez(path, points=cloud.points_world.astype(np.float32), colours=cloud.colours)


def _write_tracks(scene: Scene, pixels: AnchorPixels, images: SceneImages, folder: Path) -> None:
    """Write the tracks of anchor pixels: positions over time, and curves and 2D markers of fewer tracks."""
    with (folder / "tracks.pc2").open("wb") as file:
        file.write(struct.pack("<12siiffi", b"POINTCACHE2\0", 1, len(pixels), 1.0, 1.0, len(scene)))
        for points, _ in follow(scene, pixels):
            file.write(points.astype("<f4").tobytes())
    curves = choose_pixels(scene, _MAX_CURVES)
    markers = tracks_2d(scene, None, _MAX_MARKERS)
    np.savez(
        folder / "tracks.npz",
        points=np.asarray(scene.tracking.points_world[scene.anchor_index], np.float32)[pixels.row, pixels.column],
        colours=pixels.colours,
        curves=track_curves(scene, curves, _MAX_CURVE_VERTICES).astype(np.float32),
        curve_colours=track_colours(curves, scene.rgb.shape[2]),
        markers_px=images.image_map.source_from_network(scene.pixel_map.network_from_source(markers.pixels_px)),
        markers_visible=markers.visible,
    )
