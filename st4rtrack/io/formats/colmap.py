"""COLMAP export: images, cameras (with their lens distortion) and static 3D points with their observations; uses pycolmap.

A folder with `images/` and `sparse/0/`. As in the scene, cameras are camera-from-world with OpenCV axes, and the centre of the
first pixel is (0.5, 0.5). Unsolved frames are left out.

The points are static points of the anchor frame: each has one position, and its observations are the positions that the tracking
branch predicts per frame. A point is static if both agree in the image, COLMAP's own criterion (reprojection error).
"""

from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import numpy as np

from st4rtrack.geometry.camera import project_world
from st4rtrack.geometry.lens import Lens
from st4rtrack.geometry.sampling import inside_image
from st4rtrack.geometry.transforms import invert_rigid
from st4rtrack.geometry.vectors import length
from st4rtrack.io.formats.cameras import camera_frames, image_intrinsics, world_from_cameras
from st4rtrack.io.formats.content import AnchorPixels, choose_pixels, follow
from st4rtrack.io.formats.extras import need
from st4rtrack.io.formats.images import SceneImages, scene_images
from st4rtrack.io.images import encode_jpeg
from st4rtrack.scene import Scene

MAX_ERROR_PX = 2.0
"""Maximum reprojection error of an observation, in network pixels."""
_MIN_STILL_SHARE = 0.8
_MIN_FRAMES = 3
_FRAMES_FOR_PLACES = 32
_MAX_OBSERVATIONS = 2_000_000


@dataclass(frozen=True)
class Observations:
    """Static points and their observations.

    Attributes:
        place_world: [points, 3] float64 positions.
        colours: [points, 3] uint8.
        frame, point: [observations] frame index and point index.
        pixels_px: [observations, 2] image positions in network pixels.
    """

    place_world: np.ndarray
    colours: np.ndarray
    frame: np.ndarray
    point: np.ndarray
    pixels_px: np.ndarray


def write_colmap(scene: Scene, folder: str | Path, *, max_points: int | None = None) -> None:
    """Write a COLMAP project: `images/` and a binary model in `sparse/0/`.

    Args:
        scene: in memory or on disk.
        folder: existing output folder.
        max_points: Maximum number of 3D points. Default: 20,000, fewer in long videos.
    Raises:
        UserError: the scene has no cameras, or pycolmap is not installed.
    """
    _model(scene, Path(folder), max_points, "colmap").write_binary(_sparse(folder))


def write_colmap_text(scene: Scene, folder: str | Path, *, max_points: int | None = None) -> None:
    """Write a COLMAP project: `images/` and a text model in `sparse/0/`.

    Args:
        scene, folder: as in `write_colmap`.
        max_points: Maximum number of 3D points. Default: 20,000, fewer in long videos.
    """
    _model(scene, Path(folder), max_points, "colmap-text").write_text(_sparse(folder))


def _sparse(folder: str | Path) -> Path:
    path = Path(folder) / "sparse" / "0"
    path.mkdir(parents=True, exist_ok=True)
    return path


def _model(scene: Scene, folder: Path, max_points: int | None, format: str):
    pycolmap = need("pycolmap", format)
    frames = camera_frames(scene)
    images = scene_images(scene, distorted=True)
    _write_images(images, frames, folder / "images")
    if max_points is None:
        max_points = min(20_000, max(100, _MAX_OBSERVATIONS // len(frames)))
    seen = _observations(scene, frames, choose_pixels(scene, max_points))
    return _reconstruction(pycolmap, scene, frames, images, seen)


def _write_images(images: SceneImages, frames: np.ndarray, folder: Path) -> None:
    folder.mkdir()
    for frame, rgb in zip(frames, images.frames(frames)):
        (folder / image_name(frame)).write_bytes(encode_jpeg(rgb))


def image_name(frame: int) -> str:
    """File name of the image of a frame."""
    return f"frame_{frame:06d}.jpg"


def _observations(scene: Scene, frames: np.ndarray, pixels: AnchorPixels) -> Observations:
    """Select the static points among tracks of anchor pixels, and the frames where track and static position agree."""
    if scene.tracking.moving is not None:
        pixels = pixels.select(~np.asarray(scene.tracking.moving, bool)[pixels.row, pixels.column])
    place = _places(scene, frames, pixels)
    world_from_camera, intrinsics = world_from_cameras(scene), np.asarray(scene.cameras.intrinsics, np.float64)
    height, width = scene.rgb.shape[1:3]
    has_camera = set(frames.tolist())
    visible_in, found_frame, found_point, found_px = np.zeros(len(pixels), int), [], [], []
    for frame, (points, visible) in enumerate(follow(scene, pixels)):
        if frame not in has_camera:
            continue
        track_px, _ = project_world(points, world_from_camera[frame], intrinsics[frame])
        place_px, place_depth = project_world(place, world_from_camera[frame], intrinsics[frame])
        in_view = visible & (place_depth > 0) & inside_image(track_px, height, width)
        visible_in += in_view
        agrees = np.flatnonzero(in_view)
        agrees = agrees[length(track_px[agrees] - place_px[agrees]) <= MAX_ERROR_PX]
        found_frame.append(np.full(len(agrees), frame, np.int32))
        found_point.append(agrees.astype(np.int32))
        found_px.append(track_px[agrees])
    frame, point, pixels_px = np.concatenate(found_frame), np.concatenate(found_point), np.concatenate(found_px)
    seen = np.bincount(point, minlength=len(pixels))
    still = (seen >= min(_MIN_FRAMES, len(frames))) & (seen >= _MIN_STILL_SHARE * visible_in)
    kept = still[point]
    number = np.cumsum(still) - 1
    return Observations(place[still], pixels.colours[still], frame[kept], number[point[kept]], pixels_px[kept])


def _places(scene: Scene, frames: np.ndarray, pixels: AnchorPixels) -> np.ndarray:
    """Static positions [points, 3]: median over up to 32 frames where a point is visible, always including the anchor."""
    chosen = set(frames[np.linspace(0, len(frames) - 1, min(len(frames), _FRAMES_FOR_PLACES)).round().astype(int)].tolist())
    positions = [
        np.where(visible[:, None], points, np.nan)
        for frame, (points, visible) in enumerate(follow(scene, pixels))
        if frame in chosen or frame == scene.anchor_index
    ]
    anchor = np.asarray(scene.tracking.points_world[scene.anchor_index], np.float32)[pixels.row, pixels.column]
    return np.nanmedian(np.stack([anchor, *positions]), axis=0).astype(np.float64)


def _distortion_model(lens: Lens | None) -> tuple[str, list[float]]:
    """COLMAP's camera model with fx, fy, cx, cy, and its further parameters."""
    if lens is None:
        return "PINHOLE", []
    if lens.model == "fisheye":
        return "OPENCV_FISHEYE", list(lens.padded(4))
    return ("OPENCV", list(lens.padded(4))) if not any(lens.padded(8)[4:]) else ("FULL_OPENCV", list(lens.padded(8)))


def _reconstruction(pycolmap: ModuleType, scene: Scene, frames: np.ndarray, images: SceneImages, seen: Observations):
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
    elements = [[] for _ in range(len(seen.place_world))]
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
    for place, colour, track in zip(seen.place_world, seen.colours, elements):
        model.add_point3D(place, pycolmap.Track(track), colour)
    model.update_point_3d_errors()
    return model
