"""COLMAP export: images, cameras (with their lens distortion) and static 3D points with their observations; uses pycolmap.

A folder with `images/` and `sparse/0/`. As in the scene, cameras are camera-from-world with OpenCV axes, and the centre of the
first pixel is (0.5, 0.5). Unsolved frames are left out. Points and observations are those of `static`.
"""

from pathlib import Path
from types import ModuleType

import numpy as np

from st4rtrack.geometry.lens import Lens
from st4rtrack.geometry.transforms import invert_rigid
from st4rtrack.io.formats.cameras import camera_frames, image_intrinsics, world_from_cameras
from st4rtrack.io.formats.extras import need
from st4rtrack.io.formats.images import SceneImages, scene_images
from st4rtrack.io.formats.static import StaticPoints, static_points
from st4rtrack.io.images import encode_jpeg
from st4rtrack.scene import Scene

_MAX_OBSERVATIONS = 1_500_000


def write_colmap(scene: Scene, folder: str | Path, *, max_points: int = 100_000) -> None:
    """Write a COLMAP project: `images/` and a binary model in `sparse/0/`.

    Args:
        scene: in memory or on disk.
        folder: existing output folder.
        max_points: Maximum number of 3D points; of their observations, at most 1,500,000 are written.
    Raises:
        UserError: the scene has no cameras, or pycolmap is not installed.
    """
    _model(scene, Path(folder), max_points, "colmap").write_binary(_sparse(folder))


def write_colmap_text(scene: Scene, folder: str | Path, *, max_points: int = 100_000) -> None:
    """Write a COLMAP project: `images/` and a text model in `sparse/0/`.

    Args:
        scene, folder: as in `write_colmap`.
        max_points: Maximum number of 3D points; of their observations, at most 1,500,000 are written.
    """
    _model(scene, Path(folder), max_points, "colmap-text").write_text(_sparse(folder))


def _sparse(folder: str | Path) -> Path:
    path = Path(folder) / "sparse" / "0"
    path.mkdir(parents=True, exist_ok=True)
    return path


def _model(scene: Scene, folder: Path, max_points: int, format: str):
    pycolmap = need("pycolmap", format)
    frames = camera_frames(scene)
    images = scene_images(scene, distorted=True)
    _write_images(images, frames, folder / "images")
    return _reconstruction(pycolmap, scene, frames, images, static_points(scene).thinned(max_points, _MAX_OBSERVATIONS))


def _write_images(images: SceneImages, frames: np.ndarray, folder: Path) -> None:
    folder.mkdir()
    for frame, rgb in zip(frames, images.frames(frames)):
        (folder / image_name(frame)).write_bytes(encode_jpeg(rgb))


def image_name(frame: int) -> str:
    """File name of the image of a frame."""
    return f"frame_{frame:06d}.jpg"


def _distortion_model(lens: Lens | None) -> tuple[str, list[float]]:
    """COLMAP's camera model with fx, fy, cx, cy, and its further parameters."""
    if lens is None:
        return "PINHOLE", []
    if lens.model == "fisheye":
        return "OPENCV_FISHEYE", list(lens.padded(4))
    return ("OPENCV", list(lens.padded(4))) if not any(lens.padded(8)[4:]) else ("FULL_OPENCV", list(lens.padded(8)))


def _reconstruction(pycolmap: ModuleType, scene: Scene, frames: np.ndarray, images: SceneImages, seen: StaticPoints):
    model = pycolmap.Reconstruction()
    intrinsics, world_from_camera = image_intrinsics(scene, images.image_map), world_from_cameras(scene)
    cameras, camera_of = np.unique(intrinsics[frames].reshape(-1, 9), axis=0, return_inverse=True)
    for number, k in enumerate(cameras, 1):
        model_name, coefficients = _distortion_model(images.image_map.lens)
        params = [k[0], k[4], k[2], k[5], *coefficients]
        camera = pycolmap.Camera(camera_id=number, model=model_name, width=images.width, height=images.height, params=params)
        model.add_camera_with_trivial_rig(camera)
    order = np.lexsort((seen.point, seen.frame))
    first = np.searchsorted(seen.frame[order], frames)
    after = np.searchsorted(seen.frame[order], frames, side="right")
    pixels_px = images.image_map.source_from_network(seen.pixels_px[order])
    elements = [[] for _ in range(len(seen.points_world))]
    for image_id, (frame, low, high) in enumerate(zip(frames, first, after), 1):
        image = pycolmap.Image(
            name=image_name(frame),
            keypoints=pixels_px[low:high],
            camera_id=int(camera_of[image_id - 1]) + 1,
            image_id=image_id,
        )
        pose = pycolmap.Rigid3d(invert_rigid(world_from_camera[frame])[:3])
        model.add_image_with_trivial_frame(image, pose)
        for index, point in enumerate(seen.point[order][low:high].tolist()):
            elements[point].append(pycolmap.TrackElement(image_id, index))
    for place, colour, track in zip(seen.points_world, seen.colours, elements):
        model.add_point3D(place, pycolmap.Track(track), colour)
    model.update_point_3d_errors()
    return model
