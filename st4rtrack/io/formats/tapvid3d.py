"""TAPVid-3D / WorldTrack export: images and tracks of anchor pixels in an `.npz`.

`bench` and the tools of these data sets read it. Tracks are in the camera frame of each frame, `queries_xyt` are their pixels in
the anchor and its frame index, cameras are camera-from-world with OpenCV axes, intrinsics in pixels of the images.
"""

import logging
from pathlib import Path

import numpy as np

from st4rtrack.geometry.transforms import invert_rigid, transform_points
from st4rtrack.io.formats.cameras import image_intrinsics, world_from_cameras
from st4rtrack.io.formats.content import choose_pixels, follow
from st4rtrack.io.formats.images import scene_images
from st4rtrack.io.worldtrack import encode_jpeg, write_worldtrack
from st4rtrack.scene import Scene

logger = logging.getLogger(__name__)


def write_tapvid3d(scene: Scene, path: str | Path, *, max_tracks: int = 1024) -> None:
    """Write the tracks of a grid of anchor pixels.

    Args:
        scene: in memory or on disk.
        path: path of the `.npz`; replaced if it exists.
        max_tracks: Maximum number of tracks.
    Raises:
        UserError: the scene has no cameras or no tracks.
    """
    camera_from_world = invert_rigid(world_from_cameras(scene, every_frame=True))
    images = scene_images(scene)
    intrinsics = image_intrinsics(scene, images.image_map)
    anchor = intrinsics[scene.anchor_index]
    if not np.allclose(intrinsics, anchor, rtol=1e-3):
        logger.warning("the focal length changes in this scene, but this format stores only one: that of the anchor is used")
    tracks, visibility = [], []
    pixels = choose_pixels(scene, max_tracks)
    query_px = images.image_map.source_from_network(pixels.centre_px)
    for camera, (points, visible) in zip(camera_from_world, follow(scene, pixels)):
        tracks.append(transform_points(camera, points.astype(np.float64)).astype(np.float32))
        visibility.append(visible)
    write_worldtrack(
        Path(path),
        images_jpeg=map(encode_jpeg, images.frames(range(len(scene)))),
        fx_fy_cx_cy=anchor[[0, 1, 0, 1], [0, 1, 2, 2]],
        camera_from_world=camera_from_world,
        visibility=np.stack(visibility),
        tracks_camera=np.stack(tracks),
        queries_xyt=np.column_stack([query_px, np.full(len(pixels), scene.anchor_index)]),
    )
