"""Structure from motion on 2D tracks with pycolmap, and triangulation of all tracks from its cameras.

Dynamic points are outliers of the first, and leave large residuals in the second.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from st4rtrack.classical.solver.colmap import camera, pycolmap, read_model, verify, write_database
from st4rtrack.geometry.camera import intrinsics_from_focal, project
from st4rtrack.geometry.transforms import invert_rigid, transform_points
from st4rtrack.geometry.vectors import length

FIRST_FOCAL = 0.9
"""Initial focal length in long sides of the image: 58 degrees, typical of videos. It is refined."""
FOCAL_RANGE = (0.4, 3.0)
"""Bounds of the refined focal length, in long sides: 102 to 19 degrees."""
PAIR_OFFSETS = (1, 2, 4, 8, 16, 32)
"""Frame distances of image pairs: small ones for short tracks, large ones for parallax."""
MAX_ERROR_PX = 2.0
MIN_COMMON_TRACKS = 30
ITERATIONS = 8
MIN_VIEWS = 3
STILL_PX = 1.0
"""Image motion up to which the camera counts as fixed; the mapper would search such a video for parallax in vain."""


@dataclass
class SparseScene:
    """Result of structure from motion.

    Attributes:
        world_from_camera: [time, 4, 4] in the frame of the first registered camera; NaN for unregistered frames.
        intrinsics: [3, 3] pixels.
        points_world: [points, 3] static points; NaN for tracks without one.
    """

    world_from_camera: np.ndarray
    intrinsics: np.ndarray
    points_world: np.ndarray


def structure_from_motion(
    pixels_px: np.ndarray, visible: np.ndarray, height: int, width: int, *, seed: int = 0
) -> SparseScene | None:
    """Cameras and static points from 2D tracks; one pinhole camera with an unknown focal length.

    Args:
        pixels_px: [time, points, 2] tracks.
        visible: [time, points] bool.
        height, width: image size.
        seed: seed of the robust estimators.
    Returns:
        The largest model, or None if none could be initialised (no parallax, too few tracks).
    Raises:
        UserError: pycolmap is not installed.
    """
    module = pycolmap()
    pairs = _pairs(visible)
    if not any(_moves(pixels_px, visible, pair) for pair in pairs):
        return None
    module.set_random_seed(seed)
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "database.db"
        track_of = [np.flatnonzero(seen) for seen in visible]
        matches = ((a, b, _common(track_of[a], track_of[b])) for a, b in pairs)
        pixels = [frame_px[tracks] for frame_px, tracks in zip(pixels_px, track_of, strict=True)]
        write_database(database, camera(FIRST_FOCAL * max(height, width), (height, width)), pixels, matches)
        verify(database, pairs, MAX_ERROR_PX, seed)
        best = None
        for refine_focal in (True, False):  # with little parallax the focal length diverges; then the initial one is better
            options = _mapping_options(seed, refine_focal=refine_focal)
            for model in module.incremental_mapping(database, folder, folder, options).values():
                if best is None or model.num_reg_images() > best.num_reg_images():
                    best = model
            if best is not None and best.num_reg_images() > 0.9 * len(visible):
                break
        return None if best is None else _read(best, track_of, pixels_px.shape[1], height, width)


def _moves(pixels_px: np.ndarray, visible: np.ndarray, pair: tuple[int, int]) -> bool:
    """Whether half of the common tracks of two frames move in the image."""
    one, other = pair
    common = visible[one] & visible[other]
    return bool(np.median(length(pixels_px[other, common] - pixels_px[one, common])) > STILL_PX)


def _mapping_options(seed: int, *, refine_focal: bool) -> Any:
    options = pycolmap().IncrementalPipelineOptions()
    options.random_seed, options.extract_colors, options.multiple_models = seed, False, False
    options.num_threads = options.mapper.num_threads = 1  # several threads sum in varying order
    options.ba_refine_focal_length = options.mapper.abs_pose_refine_focal_length = refine_focal
    for part in (options, options.mapper, options.triangulation):
        part.min_focal_length_ratio, part.max_focal_length_ratio = FOCAL_RANGE
    options.mapper.abs_pose_max_error = 2 * MAX_ERROR_PX
    options.mapper.filter_max_reproj_error = MAX_ERROR_PX
    options.mapper.init_min_tri_angle = 4.0  # a video has less rotation than a photo collection
    # neighbouring frames differ little: fewer and shorter adjustments give the same cameras three times faster
    options.ba_global_frames_ratio = options.ba_global_points_ratio = 1.4
    options.ba_local_max_refinements, options.ba_global_max_refinements = 1, 2
    return options


def _common(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """[common, 2] positions at which two lists of track indices hold the same track."""
    _, in_one, in_other = np.intersect1d(one, other, return_indices=True)
    return np.stack([in_one, in_other], axis=1)


def _pairs(visible: np.ndarray) -> list[tuple[int, int]]:
    """Pairs of frames with enough common tracks."""
    frames = len(visible)
    pairs = [(t, t + offset) for offset in PAIR_OFFSETS for t in range(frames - offset)]
    return [(a, b) for a, b in pairs if (visible[a] & visible[b]).sum() >= MIN_COMMON_TRACKS]


def _read(model: Any, track_of: list[np.ndarray], points: int, height: int, width: int) -> SparseScene:
    mapping = read_model(model, len(track_of))
    points_world = np.full((points, 3), np.nan)
    for frame, feature, point in zip(mapping.image, mapping.feature, mapping.point, strict=True):
        points_world[track_of[frame][feature]] = mapping.points_world[point]
    anchor_from_world = mapping.camera_from_world[np.flatnonzero(mapping.registered)[0]]
    world_from_camera = anchor_from_world @ invert_rigid(mapping.camera_from_world)
    points_world = points_world @ anchor_from_world[:3, :3].T + anchor_from_world[:3, 3]
    return SparseScene(world_from_camera, intrinsics_from_focal(mapping.focal_px, height, width), points_world)


@dataclass
class StaticPoints:
    """Triangulated tracks, under the assumption that they are static.

    Attributes:
        points_world: [points, 3]; NaN for tracks visible in fewer than three frames.
        residual_px: [points] median reprojection error over the frames where the track is visible; infinite behind a camera.
        parallax_rad: [points] largest angle between the ray of the first visible frame and another.
    """

    points_world: np.ndarray
    residual_px: np.ndarray
    parallax_rad: np.ndarray


def triangulate(
    pixels_px: np.ndarray, visible: np.ndarray, world_from_camera: np.ndarray, intrinsics: np.ndarray
) -> StaticPoints:
    """Points closest to the rays of all frames: least squares, re-weighted by robust reprojection errors.

    Args:
        pixels_px: [time, points, 2].
        visible: [time, points] bool.
        world_from_camera: [time, 4, 4].
        intrinsics: [3, 3] of all frames.
    """
    rays = np.concatenate([(pixels_px - intrinsics[:2, 2]) / intrinsics[(0, 1), (0, 1)], np.ones((*visible.shape, 1))], axis=-1)
    rays = rays @ world_from_camera[:, :3, :3].swapaxes(1, 2)
    rays /= np.linalg.norm(rays, axis=-1, keepdims=True)
    across = np.eye(3) - rays[..., :, None] * rays[..., None, :]  # removes the component along the ray
    centres = world_from_camera[:, :3, 3]
    enough = visible.sum(axis=0) >= MIN_VIEWS
    weight = (visible & enough).astype(np.float64)
    camera_from_world = invert_rigid(world_from_camera)
    points = np.full((visible.shape[1], 3), np.nan)
    error = np.full(visible.shape, np.inf)
    for _ in range(ITERATIONS):
        points = _nearest_to_rays(across, centres, weight)
        error = _reprojection_error(points, pixels_px, camera_from_world, intrinsics)
        distance = length(points - centres[:, None])
        # Cauchy weight in pixels; a distance across the ray is an angle times the distance to the point
        weight = visible * enough / (1 + np.minimum(error, 1e6) ** 2) / np.maximum(distance, 1e-9) ** 2
    seen_error = np.where(visible & enough, error, np.nan)
    residual = np.full(len(points), np.inf)
    residual[enough] = np.nanmedian(seen_error[:, enough], axis=0)
    points[~enough] = np.nan
    return StaticPoints(points, residual, _parallax(points, centres, visible))


def _nearest_to_rays(across: np.ndarray, centres: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """[points, 3] points closest to rays, by least squares; projections [time, points, 3, 3], centres [time, 3]."""
    weight = weight / np.maximum(weight.sum(axis=0), 1e-300)
    matrix = np.einsum("tn,tnij->nij", weight, across)
    vector = np.einsum("tn,tnij,tj->ni", weight, across, centres)
    return np.linalg.solve(matrix + 1e-12 * np.eye(3), vector[..., None])[..., 0]


def _reprojection_error(
    points_world: np.ndarray, pixels_px: np.ndarray, camera_from_world: np.ndarray, intrinsics: np.ndarray
) -> np.ndarray:
    in_camera = transform_points(camera_from_world, np.broadcast_to(points_world, (len(camera_from_world), *points_world.shape)))
    before = in_camera[..., 2] > 0
    with np.errstate(divide="ignore", invalid="ignore"):
        error = length(project(in_camera, intrinsics) - pixels_px)
    return np.where(before, error, np.inf)


def _parallax(points: np.ndarray, centres: np.ndarray, visible: np.ndarray) -> np.ndarray:
    towards = points - centres[:, None]
    towards = towards / np.maximum(np.linalg.norm(towards, axis=-1, keepdims=True), 1e-12)
    first = np.argmax(visible, axis=0)
    cosine = (towards * towards[first, np.arange(len(points))]).sum(axis=-1)
    angle = np.arccos(np.clip(cosine, -1, 1))
    return np.nan_to_num(np.where(visible, angle, 0.0).max(axis=0))
