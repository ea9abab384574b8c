"""Rerun export: images, cameras, both branches and tracks with tails as an `.rrd`; uses rerun-sdk.

Points are in the world frame of the scene: x right, y down, z forward. Timelines: `frame` and `time` (seconds of the source).
Unsolved frames are left out.
"""

from collections import deque
from pathlib import Path
from typing import Any

import numpy as np

from st4rtrack.io.formats.common import image_intrinsics, lengths, need, utf8_path, world_from_cameras
from st4rtrack.io.formats.content import DROP_LEAST_SURE, choose_pixels, follow, read_cloud, track_colours
from st4rtrack.io.formats.images import scene_images
from st4rtrack.io.images import encode_jpeg
from st4rtrack.scene import Scene

_MAX_POSITIONS = 3_000_000
_TAIL_FRAMES = 16


def write_rerun(scene: Scene, path: str | Path, *, max_points: int | None = None, max_tracks: int = 300) -> None:
    """Write an `.rrd` with `camera`, `camera/image`, `tracking`, `reconstruction` and `tracks` below `world/`.

    Args:
        max_points: Maximum number of points of each branch in a frame. Default: 30,000, fewer in long videos.
        max_tracks: Maximum number of tracks, with tails over the last 16 frames; 0: none.
    Raises:
        UserError: the scene has no cameras or no tracks, or rerun-sdk is not installed.
    """
    rr = need("rerun", "rerun")
    if max_points is None:
        max_points = min(30_000, max(100, _MAX_POSITIONS // len(scene)))
    recording = rr.RecordingStream("st4rtrack", send_properties=False)
    with utf8_path(path) as file:
        recording.save(str(file))
        recording.log("world", rr.ViewCoordinates.RDF, static=True)
        recording.log("about", rr.TextDocument(lengths(scene.info)), static=True)
        _log_frames(rr, recording, scene, max_points, max_tracks)
        recording.flush()
        recording.disconnect()


def _log_frames(rr: Any, recording: Any, scene: Scene, max_points: int, max_tracks: int) -> None:
    world_from_camera = world_from_cameras(scene)
    images = scene_images(scene)
    intrinsics = image_intrinsics(scene, images.image_map)
    solved = scene.solved_frames
    pixels = choose_pixels(scene, max_points)
    tails = _tails(rr, scene, max_tracks)
    for frame, (rgb, (points, _)) in enumerate(zip(images.frames(range(len(scene))), follow(scene, pixels))):
        strips = None if tails is None else next(tails)
        if not solved[frame]:
            continue
        recording.set_time("frame", sequence=frame)
        recording.set_time("time", duration=float(scene.time_s[frame]))
        pose = world_from_camera[frame]
        recording.log("world/camera", rr.Transform3D(translation=pose[:3, 3], mat3x3=pose[:3, :3]))
        pinhole = rr.Pinhole(image_from_camera=intrinsics[frame], resolution=[images.width, images.height])
        recording.log("world/camera/image", pinhole)
        recording.log("world/camera/image", rr.EncodedImage(contents=encode_jpeg(rgb, 85), media_type="image/jpeg"))
        recording.log("world/tracking", rr.Points3D(points, colors=pixels.colours))
        cloud = read_cloud(scene, frame, DROP_LEAST_SURE).evenly(max_points)
        recording.log("world/reconstruction", rr.Points3D(cloud.points_world, colors=cloud.colours))
        if strips is not None:
            recording.log("world/tracks", strips)


def _tails(rr: Any, scene: Scene, max_tracks: int) -> Any:
    """Iterator over the track tails (last 16 frames) of each frame; None if `max_tracks` is 0."""
    if not max_tracks:
        return None
    pixels = choose_pixels(scene, max_tracks)
    colours = track_colours(pixels, scene.rgb.shape[2])
    recent: deque[np.ndarray] = deque(maxlen=_TAIL_FRAMES)

    def strips() -> Any:
        for points, _ in follow(scene, pixels):
            recent.append(points)
            trajectories = np.stack([*recent] if len(recent) > 1 else [points, points], axis=1)
            yield rr.LineStrips3D(trajectories, colors=colours)

    return strips()
