"""Images with cameras: COLMAP, nerfstudio and Shape of Motion. Unsolved frames are left out."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np

from st4rtrack.geometry.camera import project_world
from st4rtrack.geometry.lens import Lens
from st4rtrack.geometry.transforms import invert_rigid
from st4rtrack.geometry.vectors import all_finite
from st4rtrack.io.formats.common import (
    OPENCV_FROM_OPENGL,
    anchor_pinhole,
    camera_frames,
    fx_fy_cx_cy,
    image_intrinsics,
    lengths,
    world_from_cameras,
)
from st4rtrack.io.formats.content import PointCloud, choose_pixels, depth_map, dynamic_masks, follow, has_dynamic_masks
from st4rtrack.io.formats.frames import of_anchor
from st4rtrack.io.formats.images import SceneImages, scene_images
from st4rtrack.io.formats.ply import write_cloud
from st4rtrack.io.formats.static import StaticPoints, static_points
from st4rtrack.scene import Scene
from st4rtrack.types import UserError

logger = logging.getLogger(__name__)

_MAX_OBSERVATIONS = 1_500_000


def write_colmap(scene: Scene, folder: str | Path, *, max_points: int = 100_000) -> None:
    """Write a COLMAP project: `images/` and a binary model in `sparse/0/`.

    As in the scene, cameras have OpenCV axes, and the centre of the first pixel is (0.5, 0.5). Points are those of `static`.

    Args:
        max_points: Maximum number of 3D points; of their observations, at most 1,500,000 are written.
    Raises:
        UserError: the scene has no cameras.
    """
    _colmap(scene, Path(folder), max_points).write_binary(_sparse(folder))


def write_colmap_text(scene: Scene, folder: str | Path, *, max_points: int = 100_000) -> None:
    """Write a COLMAP project as `write_colmap`, with a text model.

    Args:
        max_points: Maximum number of 3D points; of their observations, at most 1,500,000 are written.
    """
    _colmap(scene, Path(folder), max_points).write_text(_sparse(folder))


def _sparse(folder: str | Path) -> Path:
    path = Path(folder) / "sparse" / "0"
    path.mkdir(parents=True, exist_ok=True)
    return path


def _colmap(scene: Scene, folder: Path, max_points: int) -> Any:
    frames, images = camera_frames(scene), scene_images(scene, distorted=True)
    images.write_jpegs(folder / "images", frames)
    return _colmap_model(scene, frames, images, static_points(scene).thinned(max_points, _MAX_OBSERVATIONS))


def _colmap_lens(lens: Lens | None) -> tuple[str, list[float]]:
    """COLMAP's camera model with fx, fy, cx, cy, and its further parameters."""
    if lens is None:
        return "PINHOLE", []
    if lens.model == "fisheye":
        return "OPENCV_FISHEYE", list(lens.padded(4))
    return ("OPENCV", list(lens.padded(4))) if not any(lens.padded(8)[4:]) else ("FULL_OPENCV", list(lens.padded(8)))


def _colmap_model(scene: Scene, frames: np.ndarray, images: SceneImages, seen: StaticPoints) -> Any:
    """A `pycolmap.Reconstruction`."""
    import pycolmap

    model = pycolmap.Reconstruction()
    pinholes = fx_fy_cx_cy(image_intrinsics(scene, images.image_map))[frames]
    world_from_camera = world_from_cameras(scene)
    cameras, camera_of = np.unique(pinholes, axis=0, return_inverse=True)
    model_name, coefficients = _colmap_lens(images.image_map.lens)
    for number, pinhole in enumerate(cameras.tolist(), 1):
        params = [*pinhole, *coefficients]
        camera = pycolmap.Camera(camera_id=number, model=model_name, width=images.width, height=images.height, params=params)
        model.add_camera_with_trivial_rig(camera)
    order = np.lexsort((seen.point, seen.frame))
    first = np.searchsorted(seen.frame[order], frames)
    after = np.searchsorted(seen.frame[order], frames, side="right")
    pixels_px = images.image_map.source_from_network(seen.pixels_px[order])
    elements = [[] for _ in range(len(seen.points_world))]
    for image_id, (frame, low, high) in enumerate(zip(frames, first, after), 1):
        name, camera_id = f"frame_{frame:06d}.jpg", int(camera_of[image_id - 1]) + 1
        image = pycolmap.Image(name=name, keypoints=pixels_px[low:high], camera_id=camera_id, image_id=image_id)
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(invert_rigid(world_from_camera[frame])[:3]))
        for index, point in enumerate(seen.point[order][low:high].tolist()):
            elements[point].append(pycolmap.TrackElement(image_id, index))
    for place, colour, track in zip(seen.points_world, seen.colours, elements):
        model.add_point3D(place, pycolmap.Track(track), colour)
    model.update_point_3d_errors()
    return model


def write_transforms(scene: Scene, path: str | Path, *, max_points: int = 200_000) -> None:
    """Write the `.json` of nerfstudio and a folder `NAME_files/` with `images/`, `points.ply` and, if available, `masks/`.

    Cameras are world-from-camera with OpenGL axes (x right, y up, looking along -z) in the world frame of the scene, intrinsics
    in pixels of the images.

    Args:
        max_points: Maximum number of static points to start Gaussian splatting from.
    Raises:
        UserError: the scene has no cameras.
    """
    path = Path(path)
    files = path.with_name(path.stem + "_files")
    frames, images, masked = camera_frames(scene), scene_images(scene, distorted=True), has_dynamic_masks(scene)
    images.write_jpegs(files / "images", frames)
    for frame, dynamic in zip(frames, dynamic_masks(scene, frames) if masked else ()):
        images.write_png(files / "masks" / f"frame_{frame:06d}.png", 255 - 255 * dynamic.astype(np.uint8), outside=255)
    static = static_points(scene).thinned(max_points)
    cloud = PointCloud(static.points_world.astype(np.float32), static.colours, None)
    write_cloud(cloud, files / "points.ply", lengths(scene.info))
    content = _transforms(scene, frames, images, files.name, masked=masked) | {"lengths": lengths(scene.info)}
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")


def _transforms(scene: Scene, frames: np.ndarray, images: SceneImages, folder: str, *, masked: bool) -> dict[str, Any]:
    values = fx_fy_cx_cy(image_intrinsics(scene, images.image_map))[frames].tolist()
    pinholes: list[dict[str, float]] = [dict(zip(("fl_x", "fl_y", "cx", "cy"), value)) for value in values]
    camera_from_opengl = world_from_cameras(scene)[frames] @ OPENCV_FROM_OPENGL
    shared = all(pinhole == pinholes[0] for pinhole in pinholes)
    entries = []
    for frame, matrix, pinhole in zip(frames.tolist(), camera_from_opengl, pinholes):
        entry: dict[str, Any] = {"file_path": f"{folder}/images/frame_{frame:06d}.jpg", "transform_matrix": matrix.tolist()}
        if masked:
            entry["mask_path"] = f"{folder}/masks/frame_{frame:06d}.png"
        entries.append(entry | {"time": float(scene.time_s[frame])} | ({} if shared else pinhole))
    return {
        **_nerfstudio_lens(images.image_map.lens),
        **(pinholes[0] if shared else {}),
        "w": images.width,
        "h": images.height,
        "ply_file_path": f"{folder}/points.ply",
        "frames": entries,
    }


def _nerfstudio_lens(lens: Lens | None) -> dict[str, Any]:
    """Camera model of nerfstudio and its distortion coefficients."""
    if lens is None:
        return {"camera_model": "OPENCV"}
    if lens.model == "fisheye":
        return {"camera_model": "OPENCV_FISHEYE", **dict(zip(("k1", "k2", "k3", "k4"), lens.padded(4)))}
    if any(lens.padded(8)[5:]):
        logger.warning("this format has no coefficients k4 to k6: they are left out; use the format colmap")
    return {"camera_model": "OPENCV", **dict(zip(("k1", "k2", "p1", "p2", "k3"), lens.padded(5)))}


_NAME = "video"
_MAX_FRAMES = 300
_UNKNOWN_LOGIT, _KNOWN_LOGIT = 4.0, -4.0
_MAX_PROBABILITY = 0.98
"""Bound of the visibility probability, whose logit is infinite at 0 and 1."""


def write_shape_of_motion(scene: Scene, folder: str | Path, *, max_tracks: int = 2000) -> None:
    """Write images, masks, depth, cameras and tracks of dynamic points of all anchors.

        images/NAME/frame_000000.jpg                 solved frames only
        masks/NAME/frame_000000.png                  255 on dynamic pixels
        aligned_depth_anything/NAME/frame_000000.png 16-bit inverse depth, 65535 at depth 1
        droid_recon/NAME.npy                         cameras: a pickled dictionary
        bootstapir/NAME/frame_A_frame_B.npy          [tracks, 4]: u, v in B of the tracks visible in A, and two logits

    Source: https://github.com/vye16/shape-of-motion, `preproc/README.md` and the loader it names. There the centre of the first
    pixel is (0, 0), and a track is visible where (1 - sigmoid(third)) (1 - sigmoid(fourth)) is above one half.

    Args:
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
    depths = [depth_map(scene, int(frame)) for frame in frames]
    nearest = min(float(depth[depth > 0].min(initial=np.inf)) for depth in depths)
    images.write_jpegs(folder / "images" / _NAME, frames)
    for frame, mask, depth in zip(frames, dynamic_masks(scene, frames), depths, strict=True):
        with np.errstate(divide="ignore"):
            inverse = np.where(depth > 0, 65535 * nearest / depth, 0).round().astype(np.uint16)
        for kind, values in (("masks", 255 * mask.astype(np.uint8)), ("aligned_depth_anything", inverse)):
            images.write_png(folder / kind / _NAME / f"frame_{frame:06d}.png", values)
    poses = world_from_cameras(scene)[frames].copy()
    poses[:, :3, 3] /= nearest  # lengths in the unit of the depth images
    cameras = {
        "traj_c2w": poses,
        "intrinsics": anchor_pinhole(scene, images.image_map) - [0, 0, 0.5, 0.5],
        "img_shape": np.array([images.height, images.width]),
        "tstamps": np.arange(len(frames)),
    }
    for kind in ("droid_recon", f"bootstapir/{_NAME}"):
        (folder / kind).mkdir(parents=True)
    np.save(folder / "droid_recon" / f"{_NAME}.npy", np.array(cameras))
    _write_pairs(scene, frames, images, folder / "bootstapir" / _NAME, max_tracks)


def _write_pairs(scene: Scene, frames: np.ndarray, images: SceneImages, folder: Path, max_tracks: int) -> None:
    """Write a file per pair of frames, with the tracks of all anchors that are visible in the first frame."""
    parts = [_tracks(of_anchor(scene, anchor), frames, images, max_tracks) for anchor in (scene.anchor_index, *scene.anchors)]
    tracks = np.concatenate([part for part in parts if part is not None] or [np.zeros((len(frames), 0, 4))], axis=1)
    if not tracks.shape[1]:
        raise UserError("no dynamic point of this scene is tracked; this format needs a moving object")
    visible = (1 / (1 + np.exp(tracks[..., 2]))) * (1 / (1 + np.exp(tracks[..., 3]))) > 0.5
    for k, first in enumerate(frames):
        for other, second in zip(tracks, frames, strict=True):
            np.save(folder / f"frame_{first:06d}_frame_{second:06d}.npy", other[visible[k]].astype(np.float32))


def _tracks(scene: Scene, frames: np.ndarray, images: SceneImages, max_tracks: int) -> np.ndarray | None:
    """Tracks [time, points, 4] of the dynamic pixels of the anchor, or `None`."""
    maps, moving = scene.tracking, scene.tracking.moving
    if moving is None or not np.asarray(moving).any():
        return None
    share = float(np.asarray(moving, bool).mean())
    pixels = choose_pixels(scene, round(max_tracks / share), drop_least_sure=0)
    pixels = pixels.select(np.asarray(moving, bool)[pixels.row, pixels.column])
    pixels = pixels.select(np.linspace(0, len(pixels) - 1, min(len(pixels), max_tracks)).round().astype(int))
    rows, written = [], set(frames.tolist())
    for frame, (points, visible) in enumerate(follow(scene, pixels)):
        if frame not in written:
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
