"""Export in the layout that Shape of Motion reads for own videos: images, masks, inverse depth, cameras and pairwise 2D tracks.

    images/NAME/frame_000000.jpg                 solved frames only
    masks/NAME/frame_000000.png                  255 on dynamic pixels
    aligned_depth_anything/NAME/frame_000000.png 16-bit inverse depth, 65535 at depth 1
    droid_recon/NAME.npy                         cameras: a pickled dictionary
    bootstapir/NAME/frame_A_frame_B.npy          [tracks, 4]: u, v in B of the tracks visible in A, and two logits

From its documentation: https://github.com/vye16/shape-of-motion, `preproc/README.md` and the loader it names. There the centre of
the first pixel is (0, 0), and a track is visible where (1 - sigmoid(third)) (1 - sigmoid(fourth)) is above one half.
"""

import logging
from pathlib import Path

import cv2
import numpy as np

from st4rtrack.geometry.camera import project_world
from st4rtrack.geometry.vectors import all_finite
from st4rtrack.io.formats.cameras import camera_frames, image_intrinsics, world_from_cameras
from st4rtrack.io.formats.content import choose_pixels, depth_map, dynamic_masks, follow, has_dynamic_masks
from st4rtrack.io.formats.frames import of_anchor
from st4rtrack.io.formats.images import SceneImages, scene_images
from st4rtrack.io.images import encode_jpeg
from st4rtrack.scene import Scene
from st4rtrack.types import UserError

logger = logging.getLogger(__name__)

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
    pixels = choose_pixels(scene, round(max_tracks / share), drop_least_sure=0)
    pixels = pixels.select(np.asarray(moving, bool)[pixels.row, pixels.column])
    pixels = pixels.select(np.linspace(0, len(pixels) - 1, min(len(pixels), max_tracks)).round().astype(int))
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
