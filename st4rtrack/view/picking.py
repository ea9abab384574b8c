"""Picking: from a click to a pixel of the anchor, and to the 3D path of its point."""

from dataclasses import dataclass

import numpy as np

from st4rtrack.geometry.sampling import inside_image
from st4rtrack.geometry.vectors import all_finite, length
from st4rtrack.render.sample import read_points
from st4rtrack.scene import Scene

CLICK_ANGLE = 0.012
"""Maximum angle in radians between the ray of a click and a point."""

_SAME_SURFACE = 1.03


@dataclass(frozen=True)
class Ray:
    """`origin` [3] and unit `direction` [3] in the world of a scene."""

    origin: np.ndarray
    direction: np.ndarray


@dataclass(frozen=True)
class PointPath:
    """3D path of one point of the anchor.

    Attributes:
        query_source_px: (u, v) in the source video's anchor frame.
        points: [time, 3] world units, NaN where unknown.
        time_s: [time] seconds.
    """

    query_source_px: tuple[float, float]
    points: np.ndarray
    time_s: np.ndarray

    @property
    def steps(self) -> np.ndarray:
        """Distances [time - 1] from frame to frame, world units; NaN next to unknown points."""
        return length(np.diff(self.points, axis=0))

    @property
    def length(self) -> float:
        """Path length in world units."""
        return float(np.nansum(self.steps))

    @property
    def displacement(self) -> float:
        """Distance from the first to the last known point, in world units."""
        known = self.points[all_finite(self.points)]
        return float(np.linalg.norm(known[-1] - known[0])) if len(known) else float("nan")

    @property
    def speed(self) -> np.ndarray:
        """Speed [time] in world units per second, by central differences; one-sided at the ends; NaN where unknown."""
        if len(self.points) < 2:
            return np.full(len(self.points), np.nan)
        index = np.arange(len(self.points))
        before, after = np.maximum(index - 1, 0), np.minimum(index + 1, len(index) - 1)
        passed_s = np.asarray(self.time_s, np.float64)[after] - np.asarray(self.time_s, np.float64)[before]
        distance = length(self.points[after] - self.points[before])
        return np.divide(distance, passed_s, out=np.full(len(distance), np.nan), where=passed_s > 0)


def pixel_on_points(scene: Scene, frame: int, ray: Ray, *, least_confidence: float = -np.inf) -> tuple[np.ndarray, float] | None:
    """Find the anchor pixel whose point, at the time of a frame, is nearest to a ray.

    Returns:
        Centre (u, v) [2] of a network pixel and its distance along the ray; None if no point is near the ray.
    """
    points = read_points(scene, scene.tracking, frame).astype(np.float64)
    known = all_finite(points)
    if scene.tracking.confidence is not None:
        known &= np.asarray(scene.tracking.confidence[frame], np.float32) >= least_confidence
    row, column = np.nonzero(known)
    offset = points[row, column] - ray.origin
    along = offset @ ray.direction
    beside = length(offset - along[:, None] * ray.direction)
    angle = np.where(along > 0, beside / np.maximum(along, 1e-12), np.inf)
    near = angle < CLICK_ANGLE
    if not near.any():
        return None
    front = near & (along <= _SAME_SURFACE * along[near].min())  # of several surfaces along the ray, the front one
    best = int(np.argmin(np.where(front, angle, np.inf)))
    return np.array([column[best] + 0.5, row[best] + 0.5]), float(along[best])


def pixel_on_picture(
    ray: Ray, world_from_camera: np.ndarray, half_size: tuple[float, float], depth: float, size: tuple[int, int]
) -> tuple[np.ndarray, float] | None:
    """Intersect a ray with a picture in front of a camera.

    Args:
        ray: ray in the world.
        world_from_camera: [4, 4] pose of the camera.
        half_size: (width, height) / 2 of the picture at depth 1.
        depth: depth of the picture in the camera, world units.
        size: (height, width) of the picture in pixels.
    Returns:
        Pixel [2] (u, v) and the distance along the ray; None if the ray misses the picture.
    """
    rotation, centre = world_from_camera[:3, :3], world_from_camera[:3, 3]
    origin, direction = rotation.T @ (ray.origin - centre), rotation.T @ ray.direction
    if abs(direction[2]) < 1e-9:
        return None
    distance = float((depth - origin[2]) / direction[2])
    hit = (origin + distance * direction)[:2] / depth
    pixel_px = (hit / half_size + 1) / 2 * (size[1], size[0])
    return (pixel_px, distance) if distance > 0 and bool(inside_image(pixel_px, *size)) else None


def read_path(scene: Scene, network_px: np.ndarray) -> PointPath:
    """Read the 3D path of the anchor pixel that contains `network_px` [2], one frame at a time."""
    column, row = np.floor(network_px).astype(int)
    points = np.stack([read_points(scene, scene.tracking, t)[row, column] for t in range(len(scene))]).astype(np.float64)
    u, v = scene.pixel_map.source_from_network(np.array([column + 0.5, row + 0.5])).tolist()
    return PointPath((u, v), points, np.asarray(scene.time_s, np.float64))
