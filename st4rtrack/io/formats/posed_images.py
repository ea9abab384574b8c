"""Images with cameras: COLMAP, nerfstudio and Shape of Motion."""

import json
import logging
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np

from st4rtrack.geometry.camera import project_world
from st4rtrack.geometry.lens import Lens
from st4rtrack.geometry.transforms import invert_rigid
from st4rtrack.geometry.vectors import all_finite
from st4rtrack.io.formats.common import OPENCV_FROM_OPENGL, camera_frames, image_intrinsics, lengths, need, world_from_cameras
from st4rtrack.io.formats.content import PointCloud, choose_pixels, depth_map, dynamic_masks, follow, has_dynamic_masks
from st4rtrack.io.formats.frames import of_anchor
from st4rtrack.io.formats.images import SceneImages, scene_images
from st4rtrack.io.formats.ply import write_cloud
from st4rtrack.io.formats.static import StaticPoints, static_points
from st4rtrack.io.images import encode_jpeg
from st4rtrack.scene import Scene
from st4rtrack.types import UserError

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


_NAME = "video"
_MAX_FRAMES = 300
_UNKNOWN_LOGIT, _KNOWN_LOGIT = 4.0, -4.0
_MAX_PROBABILITY = 0.98
"""Bound of the visibility probability, whose logit is infinite at 0 and 1."""


def write_shape_of_motion(scene: Scene, folder: str | Path, *, max_tracks: int = 2000) -> None:
    """Write images, masks, depth, cameras and tracks of dynamic points of all anchors.

    Args:
        scene: in memory or on disk.
        folder: existing output folder.
        max_tracks: Maximum number of tracks of dynamic points per anchor.
    Raises:
        UserError: the scene has no cameras or no dynamic points, or more than 300 frames.
    """
    folder, frames, images = Path(folder), camera_frames(scene), scene_images(scene)
    if len(frames) > _MAX_FRAMES:
        raise UserError(
            f"{len(frames)} frames make {len(frames) ** 2:,} files of tracks, one per pair of frames; "
            f"at most {_MAX_FRAMES} frames are written: use --stride, or --start and --stop"
        )
    if not has_dynamic_masks(scene):
        raise UserError("this scene does not tell dynamic from static pixels, which this format needs; run st4rtrack again")
    places = {kind: folder / kind / _NAME for kind in ("images", "masks", "aligned_depth_anything", "bootstapir")}
    for place in (*places.values(), folder / "droid_recon"):
        place.mkdir(parents=True)
    depths = [depth_map(scene, int(frame)) for frame in frames]
    nearest = min(float(depth[depth > 0].min(initial=np.inf)) for depth in depths)
    for frame, rgb, mask, depth in zip(frames, images.frames(frames), dynamic_masks(scene, frames), depths, strict=True):
        (places["images"] / f"{_frame_name(frame)}.jpg").write_bytes(encode_jpeg(rgb))
        with np.errstate(divide="ignore"):
            inverse = np.where(depth > 0, 65535 * nearest / depth, 0).round().astype(np.uint16)
        for kind, values in (("masks", 255 * mask.astype(np.uint8)), ("aligned_depth_anything", inverse)):
            png = cv2.imencode(".png", images.from_network(values))[1]
            (places[kind] / f"{_frame_name(frame)}.png").write_bytes(png.tobytes())
    np.save(folder / "droid_recon" / f"{_NAME}.npy", np.array(_cameras(scene, frames, images, nearest)))
    _write_tracks(scene, frames, images, places["bootstapir"], max_tracks)


def _frame_name(frame: int) -> str:
    return f"frame_{frame:06d}"


def _cameras(scene: Scene, frames: np.ndarray, images: SceneImages, unit: float) -> dict[str, np.ndarray]:
    """The dictionary of the cameras; lengths are in `unit`, as the depth is."""
    intrinsics = image_intrinsics(scene, images.image_map)
    anchor = intrinsics[scene.anchor_index]
    if not np.allclose(intrinsics, anchor, rtol=1e-3):
        logger.warning("the focal length changes in this scene, but this format stores only one: that of the anchor is used")
    poses = world_from_cameras(scene)[frames].copy()
    poses[:, :3, 3] /= unit
    fx_fy_cx_cy = anchor[[0, 1, 0, 1], [0, 1, 2, 2]] - [0, 0, 0.5, 0.5]
    return {
        "traj_c2w": poses,
        "intrinsics": fx_fy_cx_cy,
        "img_shape": np.array([images.height, images.width]),
        "tstamps": np.arange(len(frames)),
    }


def _write_tracks(scene: Scene, frames: np.ndarray, images: SceneImages, folder: Path, max_tracks: int) -> None:
    """Write a file per pair of frames, with the tracks of all anchors that are visible in the first frame."""
    parts = [_tracks(of_anchor(scene, anchor), frames, images, max_tracks) for anchor in (scene.anchor_index, *scene.anchors)]
    tracks = np.concatenate([part for part in parts if part is not None] or [np.zeros((len(frames), 0, 4))], axis=1)
    if not tracks.shape[1]:
        raise UserError("no dynamic point of this scene is tracked; this format needs a moving object")
    visible = (1 / (1 + np.exp(tracks[..., 2]))) * (1 / (1 + np.exp(tracks[..., 3]))) > 0.5
    for k, first in enumerate(frames):
        for other, second in zip(tracks, frames, strict=True):
            np.save(folder / f"{_frame_name(first)}_{_frame_name(second)}.npy", other[visible[k]].astype(np.float32))


def _tracks(scene: Scene, frames: np.ndarray, images: SceneImages, max_tracks: int) -> np.ndarray | None:
    """Tracks [time, points, 4] of the dynamic pixels of the anchor, or `None`."""
    maps, moving = scene.tracking, scene.tracking.moving
    if moving is None or not np.asarray(moving).any():
        return None
    share = float(np.asarray(moving, bool).mean())
    pixels = choose_pixels(scene, max(1, round(max_tracks / share)), drop_least_sure=0)
    pixels = pixels.select(np.asarray(moving, bool)[pixels.row, pixels.column])
    rows, wanted = [], set(frames.tolist())
    for frame, (points, visible) in enumerate(follow(scene, pixels)):
        if frame not in wanted:
            continue
        network_px, _ = project_world(points, scene.cameras.world_from_camera[frame], scene.cameras.intrinsics[frame])
        known = all_finite(network_px)
        shown = np.where(visible, 1.0, 0.0)
        if maps.visibility is not None:
            probability = np.asarray(maps.visibility[frame], np.float64)[pixels.row, pixels.column]
            shown = np.where(visible, probability, np.minimum(probability, 0.5))
        shown = shown.clip(1 - _MAX_PROBABILITY, _MAX_PROBABILITY)
        pixels_px = np.where(known[:, None], images.image_map.source_from_network(network_px) - 0.5, 0)
        logits = np.stack([np.log((1 - shown) / shown), np.where(known, _KNOWN_LOGIT, _UNKNOWN_LOGIT)], axis=1)
        rows.append(np.concatenate([pixels_px, logits], axis=1))
    return np.stack(rows)
