"""Point rendering from any viewpoint without a GPU: a view that fits the points, and splatting with a depth buffer."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from st4rtrack.geometry.camera import project
from st4rtrack.geometry.transforms import rigid, transform_points
from st4rtrack.geometry.vectors import all_components

LARGEST_RADIUS_PX = (8.0, 18.0)
"""Maximum radius of a splat, for many points and for few."""


@dataclass(frozen=True)
class View:
    """Pinhole camera of a rendering."""

    camera_from_world: np.ndarray  # [4, 4] rigid
    intrinsics: np.ndarray  # [3, 3] in pixels
    height: int  # height, width: size of the picture in pixels
    width: int

    def project(self, points_world: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixels [points, 2] and depth [points] of points [points, 3]; NaN pixels behind the camera."""
        points_camera = transform_points(self.camera_from_world, np.asarray(points_world, np.float64))
        depth = points_camera[:, 2]
        with np.errstate(divide="ignore", invalid="ignore"):
            pixels_px = project(points_camera, self.intrinsics)
        return np.where((depth > 0)[:, None], pixels_px, np.nan), depth

    def scaled(self, factor: float) -> "View":
        """Scale the resolution of the view by `factor`."""
        change = np.diag([factor, factor, 1.0])
        return View(self.camera_from_world, change @ self.intrinsics, round(self.height * factor), round(self.width * factor))


def look_at(eye: np.ndarray, target: np.ndarray, up: np.ndarray) -> np.ndarray:
    """camera_from_world [4, 4] of a camera at `eye` that looks at `target`, with `up` upwards in its picture (all [3], world)."""
    forward = _unit(target - eye)
    right = np.cross(forward, up)
    if np.linalg.norm(right) < 1e-6 * max(float(np.linalg.norm(up)), 1e-12):
        right = np.cross(forward, np.eye(3)[np.argmin(np.abs(forward))])
    right = _unit(right)
    rotation = np.stack([right, np.cross(forward, right), forward])
    return rigid(rotation, -rotation @ eye)


@dataclass(frozen=True)
class Orbit:
    """Orbit of views around a scene with fixed distance and zoom, so that the scene turns smoothly."""

    target: np.ndarray  # [3] world, centre of the picture
    axes: np.ndarray  # [3, 3] rows right, up and forward of the mean camera, world
    elevation_deg: float  # elevation above the mean camera
    distance: float  # distance from the target, world units
    intrinsics: np.ndarray  # intrinsics, height, width: common to all views
    height: int
    width: int

    def view(self, azimuth_deg: float) -> View:
        """View from an azimuth to the right of the mean camera, as seen from it."""
        turned = _look_from(self.target, self.axes, azimuth_deg, self.elevation_deg)
        turned[2, 3] += self.distance
        return View(turned, self.intrinsics, self.height, self.width)


def fit_orbit(
    points_world: np.ndarray,
    world_from_camera: np.ndarray,
    size: tuple[int, int],
    *,
    azimuths_deg: Sequence[float],
    elevation_deg: float,
    must_see_world: np.ndarray | None = None,
) -> Orbit:
    """Fit an orbit from beside and above a scene's cameras, such that the scene fits into every view.

    Args:
        points_world: [points, 3] finite; nearly all of them will be inside the picture.
        world_from_camera: [time, 4, 4]; their mean direction is azimuth 0 and elevation 0.
        size: (height, width) of the picture in pixels.
        azimuths_deg: azimuths to the right of the mean camera (as seen from it) at which the scene must fit.
        elevation_deg: elevation above the mean camera.
        must_see_world: [more, 3] points that must all be inside the picture.
    """
    height, width = size
    forward = _unit(world_from_camera[:, :3, 2].mean(axis=0), fallback=(0.0, 0.0, 1.0))
    up = -_unit(world_from_camera[:, :3, 1].mean(axis=0), fallback=(0.0, 1.0, 0.0))
    axes = np.stack([np.cross(forward, up), up, forward])
    target = np.median(points_world, axis=0)
    focal = 1.5 * max(height, width)
    half = 0.5 * np.array([width, height])
    corners, distance = [], 0.0
    for azimuth_deg in azimuths_deg:
        turned = _look_from(target, axes, azimuth_deg, elevation_deg)
        here = _robust_box(transform_points(turned, points_world))
        if must_see_world is not None and len(must_see_world):
            here = np.concatenate([here, transform_points(turned, must_see_world)])
        extent = max(float(np.ptp(here, axis=0).max()), 1e-6)
        fits = float((focal * np.abs(here[:, :2]) / half - here[:, 2:]).max())
        distance = max(distance, fits, float(-here[:, 2].min()) + 0.3 * extent)
        corners.append(here)
    pixels = project(np.concatenate(corners) + np.array([0, 0, distance]), np.diag([focal, focal, 1.0]))
    low, high = pixels.min(axis=0), pixels.max(axis=0)
    zoom = float((np.array([width, height]) * 0.92 / np.maximum(high - low, 1e-6)).min())
    centre = half - zoom * (low + high) / 2
    intrinsics = np.array([[zoom * focal, 0, centre[0]], [0, zoom * focal, centre[1]], [0, 0, 1.0]])
    return Orbit(target, axes, elevation_deg, distance, intrinsics, height, width)


def _look_from(target: np.ndarray, axes: np.ndarray, azimuth_deg: float, elevation_deg: float) -> np.ndarray:
    """camera_from_world [4, 4] with its centre at the target (the distance is not known yet), in the final orientation."""
    right, up, forward = axes
    azimuth, elevation = np.deg2rad([azimuth_deg, elevation_deg])
    direction = np.cos(elevation) * (np.sin(azimuth) * right - np.cos(azimuth) * forward) + np.sin(elevation) * up
    camera_from_world = look_at(target + direction, target, up)
    camera_from_world[:3, 3] = -camera_from_world[:3, :3] @ target
    return camera_from_world


def _robust_box(points_camera: np.ndarray) -> np.ndarray:
    """Points [points, 3] without the outermost thousandth of each axis; at most a few thousand."""
    points_camera = points_camera[:: max(1, len(points_camera) // 20000)]
    low, high = np.percentile(points_camera, [0.1, 99.9], axis=0)
    inside = all_components((points_camera >= low) & (points_camera <= high))
    return points_camera[inside] if inside.any() else points_camera


def splat(
    view: View,
    points_world: np.ndarray,
    colours: np.ndarray,
    size_world: np.ndarray | float,
    *,
    background: tuple[int, int, int],
) -> tuple[np.ndarray, np.ndarray]:
    """Render points as discs with a depth buffer.

    Args:
        view: camera of the picture.
        points_world: [points, 3]; points that are not finite or behind the camera are skipped.
        colours: [points, 3] uint8.
        size_world: [points] or a single value: diameter of a point in world units; discs cover at least a pixel.
        background: colour of empty pixels.
    Returns:
        Picture [height, width, 3] uint8 and depth [height, width] float32, infinite in empty pixels.
    """
    pixels_px, depth = view.project(points_world)
    radius = 0.5 * np.broadcast_to(size_world, depth.shape) * view.intrinsics[0, 0] / np.where(depth > 0, depth, 1)
    # Few points may have large discs; of many points, large discs would be slow and cover their neighbours.
    limit = float(np.clip(2 * np.sqrt(view.height * view.width / max(len(depth), 1)), *LARGEST_RADIUS_PX))
    with np.errstate(invalid="ignore"):
        keep = all_components((pixels_px > -limit) & (pixels_px < (view.width + limit, view.height + limit)))
    chosen = np.flatnonzero(keep)
    chosen = chosen[np.argsort(-depth[chosen], kind="stable")]  # far to near: the last write to a pixel wins
    column, row = np.floor(pixels_px[chosen]).astype(np.int32).T
    radius = np.clip(radius[chosen], 0, limit)
    nearest = np.full(view.height * view.width, -1, np.int32)
    largest = float(radius.max(initial=0))
    span = range(-int(largest), int(largest) + 1)
    for du, dv in ((du, dv) for dv in span for du in span if np.hypot(du, dv) <= largest):
        rank = np.flatnonzero(radius >= np.hypot(du, dv)).astype(np.int32)
        u, v = column[rank] + du, row[rank] + dv
        inside = (u >= 0) & (u < view.width) & (v >= 0) & (v < view.height)
        place, rank = v[inside] * view.width + u[inside], rank[inside]
        nearer = rank > nearest[place]  # the higher rank is the nearer point
        nearest[place[nearer]] = rank[nearer]
    filled = nearest >= 0
    image = np.full((len(nearest), 3), background, np.uint8)
    image[filled] = colours[chosen][nearest[filled]]
    buffer = np.full(len(nearest), np.inf, np.float32)
    buffer[filled] = depth[chosen][nearest[filled]]
    return image.reshape(view.height, view.width, 3), buffer.reshape(view.height, view.width)


def shade_edges(image: np.ndarray, depth: np.ndarray, *, reach_px: int = 2, strength: float = 14.0) -> np.ndarray:
    """Darken pixels behind their neighbours (eye-dome lighting), which shows shape without normals or lights.

    Args:
        image: [height, width, 3] uint8.
        depth: [height, width], infinite in empty pixels.
    """
    finite = np.isfinite(depth)
    if not finite.any():
        return image
    logarithm = np.log(np.where(finite, depth, 2 * depth[finite].max())).astype(np.float32)
    padded = cv2.copyMakeBorder(logarithm, reach_px, reach_px, reach_px, reach_px, cv2.BORDER_REPLICATE)
    height, width = depth.shape
    behind = np.zeros_like(logarithm)
    for du, dv in ((-1, 0), (1, 0), (0, -1), (0, 1)):
        neighbour = padded[reach_px * (1 + dv) :][:height, reach_px * (1 + du) :][:, :width]
        behind += np.clip(logarithm - neighbour, 0, 0.05)
    shade = np.where(finite, np.maximum(np.exp(-strength * behind / 4), 0.45), 1)
    return np.rint(image * shade[..., None]).astype(np.uint8)


def _unit(vector: np.ndarray, *, fallback: tuple[float, float, float] = (0.0, 0.0, 1.0)) -> np.ndarray:
    length = float(np.linalg.norm(vector))
    return np.asarray(fallback, np.float64) if not np.isfinite(length) or length < 1e-9 else vector / length
