"""Placement of scenes in the window, viewpoints for them, and picking of their points."""

from dataclasses import dataclass

import numpy as np

from st4rtrack.geometry.sampling import inside_image
from st4rtrack.geometry.vectors import all_finite, length
from st4rtrack.render.sample import read_points
from st4rtrack.scene import Scene
from st4rtrack.view.layers import SceneLayers
from st4rtrack.view.sampling import StartView, camera_outlines, view_of

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
    """3D path of one point of the anchor."""

    query_source_px: tuple[float, float]  # (u, v) in the source video's anchor frame
    points: np.ndarray  # [time, 3] world units, NaN where unknown
    time_s: np.ndarray  # [time] seconds

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


WINDOW_ASPECT = 1.25
"""Width / height of the area that a typical browser window leaves beside the panel."""

_GAP_SHARE = 0.12
_NOTICEABLE = 0.02


@dataclass(frozen=True)
class Placement:
    """Placement `x_shown = scale * x_scene + offset`: shows scenes of different units side by side at one size."""

    scale: float = 1.0
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)

    def ray(self, origin: np.ndarray, direction: np.ndarray) -> Ray:
        """Transform a ray of the window into the scene's world."""
        direction = np.asarray(direction, np.float64)
        return Ray((np.asarray(origin, np.float64) - self.offset) / self.scale, direction / np.linalg.norm(direction))

    def points(self, points: np.ndarray) -> np.ndarray:
        """Transform points [..., 3] of the scene to window coordinates."""
        points = np.asarray(points)
        return (self.scale * points + np.asarray(self.offset)).astype(points.dtype)

    @property
    def rescaled(self) -> bool:
        """Whether the scale differs enough from 1 to mention it."""
        return abs(self.scale - 1) > _NOTICEABLE


def place(layers: list[SceneLayers], shown: list[int]) -> tuple[dict[int, Placement], StartView]:
    """Place the shown scenes side by side along x, joined scenes in one world, and compute a view that contains all of them.

    Args:
        layers: all scenes.
        shown: indices of the shown scenes, from left to right; not empty.
    Returns:
        Placements of the shown scenes, and the view. All have the apparent size of the first of all scenes.
    """
    placements: dict[int, Placement] = {}
    right = None
    for which in shown:
        world = layers[which].scene.info.get("joined")
        same = [other for other in placements if world is not None and layers[other].scene.info.get("joined") == world]
        if same:
            placements[which] = placements[same[0]]
            continue
        seen = np.concatenate([layers[which].sure_points, _cameras(layers[which])])
        scale = _distance(layers[0]) / _distance(layers[which])
        low, high = scale * seen[:, 0].min(), scale * seen[:, 0].max()
        shift = 0.0 if right is None else right + _GAP_SHARE * (high - low) - low
        placements[which] = Placement(scale, (float(shift), 0.0, 0.0))
        right = high + shift
    points = np.concatenate([placements[which].points(layers[which].sure_points) for which in shown])
    cameras = np.concatenate([placements[which].points(_cameras(layers[which])) for which in shown])
    return placements, view_of(np.concatenate([points, cameras]), layers[shown[0]].scene, WINDOW_ASPECT)


def _cameras(layers: SceneLayers) -> np.ndarray:
    return camera_outlines(layers.scene, layers.low, layers.high)


def camera_view(scene: Scene, frame: int, placement: Placement, aspect: float) -> StartView:
    """View through a scene's camera: its whole picture fits into a window of aspect ratio width / height."""
    world_from_camera = np.asarray(scene.cameras.world_from_camera[frame], np.float64)
    rotation, centre = world_from_camera[:3, :3], world_from_camera[:3, 3]
    half_width, half_height = picture_half_size(scene, frame)
    eye = placement.points(centre)
    fov_deg = np.rad2deg(2 * np.arctan(max(half_height, half_width / max(aspect, 1e-6))))
    return StartView(eye, eye + placement.scale * rotation[:, 2], -rotation[:, 1], float(fov_deg))


def picture_half_size(scene: Scene, frame: int) -> tuple[float, float]:
    """Half size (width, height) / 2 of a frame's picture at depth 1 in its camera."""
    height, width = scene.rgb.shape[1:3]
    intrinsics = np.asarray(scene.cameras.intrinsics[frame], np.float64)
    return float(width / 2 / intrinsics[0, 0]), float(height / 2 / intrinsics[1, 1])


def _distance(layers: SceneLayers) -> float:
    """Distance from the anchor's camera, the world origin, to the middle of the scene."""
    return max(float(np.linalg.norm((layers.low + layers.high) / 2)), 1e-9)
