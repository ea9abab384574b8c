"""nerfstudio export: `transforms.json` and a folder of images, initial points and masks of dynamic objects.

Cameras are world-from-camera with OpenGL axes (x right, y up, looking along -z) in the world frame of the scene, intrinsics in
pixels of the images. Unsolved frames are left out.
"""

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from st4rtrack.geometry.camera import project_world
from st4rtrack.geometry.lens import Lens
from st4rtrack.geometry.sampling import covered_pixels
from st4rtrack.io.formats.cameras import OPENCV_FROM_OPENGL, camera_frames, image_intrinsics, world_from_cameras
from st4rtrack.io.formats.content import AnchorPixels, accumulated, follow
from st4rtrack.io.formats.images import SceneImages, scene_images
from st4rtrack.io.formats.ply import write_cloud
from st4rtrack.io.formats.units import lengths
from st4rtrack.io.images import encode_jpeg
from st4rtrack.scene import Scene

logger = logging.getLogger(__name__)

_HOLE_PX = 5
"""Mask holes up to nearly this size, in network pixels, are filled: point spacing grows as objects approach."""


def write_transforms(scene: Scene, path: str | Path, *, max_points: int = 200_000) -> None:
    """Write the `.json` and a folder `NAME_files/` with `images/`, `points.ply` and, if available, `masks/`.

    Args:
        scene: in memory or on disk.
        path: path of the `.json`; the folder `NAME_files/` beside it must not exist.
        max_points: Maximum number of points to start Gaussian splatting from.
    Raises:
        UserError: the scene has no cameras.
    """
    path = Path(path)
    files = path.with_name(path.stem + "_files")
    frames, images = camera_frames(scene), scene_images(scene, distorted=True)
    (files / "images").mkdir(parents=True)
    for frame, rgb in zip(frames, images.frames(frames)):
        (files / "images" / f"frame_{frame:06d}.jpg").write_bytes(encode_jpeg(rgb))
    masked = scene.tracking.moving is not None or scene.reconstruction.moving is not None
    if masked:
        (files / "masks").mkdir()
        for frame, mask in zip(frames, _masks(scene, frames, images)):
            (files / "masks" / f"frame_{frame:06d}.png").write_bytes(cv2.imencode(".png", mask)[1].tobytes())
    write_cloud(accumulated(scene, max_points), files / "points.ply", lengths(scene.info))
    content = _content(scene, frames, images, files.name, masked=masked) | {"lengths": lengths(scene.info)}
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")


def _content(scene: Scene, frames: np.ndarray, images: SceneImages, folder: str, *, masked: bool) -> dict[str, Any]:
    intrinsics = image_intrinsics(scene, images.image_map)[frames]
    camera_from_opengl = world_from_cameras(scene)[frames] @ OPENCV_FROM_OPENGL
    shared = bool((intrinsics == intrinsics[0]).all())
    entries = []
    for frame, matrix, k in zip(frames.tolist(), camera_from_opengl, intrinsics):
        entry: dict[str, Any] = {"file_path": f"{folder}/images/frame_{frame:06d}.jpg", "transform_matrix": matrix.tolist()}
        if masked:
            entry["mask_path"] = f"{folder}/masks/frame_{frame:06d}.png"
        entry["time"] = float(scene.time_s[frame])
        entries.append(entry if shared else entry | _pinhole(k))
    return {
        **_distortion(images.image_map.lens),
        **(_pinhole(intrinsics[0]) if shared else {}),
        "w": images.width,
        "h": images.height,
        "ply_file_path": f"{folder}/points.ply",
        "frames": entries,
    }


def _distortion(lens: Lens | None) -> dict[str, Any]:
    """Camera model of nerfstudio and its distortion coefficients."""
    if lens is None:
        return {"camera_model": "OPENCV"}
    if lens.model == "fisheye":
        return {"camera_model": "OPENCV_FISHEYE", **dict(zip(("k1", "k2", "k3", "k4"), lens.padded(4)))}
    found = dict(zip(("k1", "k2", "p1", "p2", "k3"), lens.padded(5)))
    if any(lens.padded(8)[5:]):
        logger.warning("this format has no coefficients k4 to k6: they are left out; use the format colmap")
    return {"camera_model": "OPENCV", **found}


def _pinhole(intrinsics: np.ndarray) -> dict[str, float]:
    return {
        "fl_x": float(intrinsics[0, 0]),
        "fl_y": float(intrinsics[1, 1]),
        "cx": float(intrinsics[0, 2]),
        "cy": float(intrinsics[1, 2]),
    }


def _masks(scene: Scene, frames: np.ndarray, images: SceneImages) -> Iterator[np.ndarray]:
    """Masks of the frames at image size, [height, width] uint8: 0 for dynamic, 255 for static pixels.

    From the per-frame masks of the scene or, without these, from the projected dynamic points of the anchor.
    """
    if scene.reconstruction.moving is not None:
        for frame in frames.tolist():
            yield _at_image_size(np.asarray(scene.reconstruction.moving[frame], bool), images)
        return
    moving = np.asarray(scene.tracking.moving, bool)
    row, column = np.nonzero(moving)
    pixels = AnchorPixels(row, column, np.zeros((len(row), 3), np.uint8), 1.0)
    wanted = set(frames.tolist())
    for frame, (points, visible) in enumerate(follow(scene, pixels)):
        if frame not in wanted:
            continue
        covered = moving if frame == scene.anchor_index else _covered(scene, frame, points[visible])
        yield _at_image_size(covered, images)


def _covered(scene: Scene, frame: int, points_world: np.ndarray) -> np.ndarray:
    """Mask [height, width] of the network pixels that points [points, 3] project to, with small holes filled."""
    height, width = scene.rgb.shape[1:3]
    pixels_px, _ = project_world(points_world, scene.cameras.world_from_camera[frame], scene.cameras.intrinsics[frame])
    return covered_pixels(pixels_px, height, width, hole_px=_HOLE_PX)


def _at_image_size(covered: np.ndarray, images: SceneImages) -> np.ndarray:
    """Resize a mask to image size (nearest neighbour); pixels outside the network's crop are not masked."""
    u, v = np.meshgrid(np.arange(images.width) + 0.5, np.arange(images.height) + 0.5)
    network_px = images.image_map.network_from_source(np.stack([u, v], axis=-1))
    height, width = covered.shape
    column, row = np.moveaxis(np.floor(network_px).astype(int), -1, 0)
    inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
    moves = inside & covered[row.clip(0, height - 1), column.clip(0, width - 1)]
    return np.where(moves, 0, 255).astype(np.uint8)
