"""nerfstudio export: `transforms.json` and a folder of images, initial points and masks of dynamic objects.

Cameras are world-from-camera with OpenGL axes (x right, y up, looking along -z) in the world frame of the scene, intrinsics in
pixels of the images. Unsolved frames are left out.
"""

import json
import logging
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from st4rtrack.geometry.lens import Lens
from st4rtrack.io.formats.cameras import OPENCV_FROM_OPENGL, camera_frames, image_intrinsics, world_from_cameras
from st4rtrack.io.formats.content import PointCloud, dynamic_masks, has_dynamic_masks
from st4rtrack.io.formats.images import SceneImages, scene_images
from st4rtrack.io.formats.ply import write_cloud
from st4rtrack.io.formats.static import static_points
from st4rtrack.io.formats.units import lengths
from st4rtrack.io.images import encode_jpeg
from st4rtrack.scene import Scene

logger = logging.getLogger(__name__)


def write_transforms(scene: Scene, path: str | Path, *, max_points: int = 200_000) -> None:
    """Write the `.json` and a folder `NAME_files/` with `images/`, `points.ply` and, if available, `masks/`.

    Args:
        scene: in memory or on disk.
        path: path of the `.json`; the folder `NAME_files/` beside it must not exist.
        max_points: Maximum number of static points to start Gaussian splatting from.
    Raises:
        UserError: the scene has no cameras.
    """
    path = Path(path)
    files = path.with_name(path.stem + "_files")
    frames, images = camera_frames(scene), scene_images(scene, distorted=True)
    (files / "images").mkdir(parents=True)
    for frame, rgb in zip(frames, images.frames(frames)):
        (files / "images" / f"frame_{frame:06d}.jpg").write_bytes(encode_jpeg(rgb))
    masked = has_dynamic_masks(scene)
    if masked:
        (files / "masks").mkdir()
        for frame, dynamic in zip(frames, dynamic_masks(scene, frames)):
            mask = 255 - images.from_network(255 * dynamic.astype(np.uint8))
            (files / "masks" / f"frame_{frame:06d}.png").write_bytes(cv2.imencode(".png", mask)[1].tobytes())
    static = static_points(scene).thinned(max_points)
    cloud = PointCloud(static.points_world.astype(np.float32), static.colours, None)
    write_cloud(cloud, files / "points.ply", lengths(scene.info))
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
