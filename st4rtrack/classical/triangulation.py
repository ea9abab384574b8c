"""Static triangulation of 2D tracks from known cameras; dynamic points leave large residuals."""

from dataclasses import dataclass

import numpy as np

from st4rtrack.geometry.camera import project
from st4rtrack.geometry.transforms import invert_rigid, transform_points
from st4rtrack.geometry.vectors import length

ITERATIONS = 8
MIN_VIEWS = 3


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
