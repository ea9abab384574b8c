"""Placement of several scenes side by side, and viewpoints for them."""

from dataclasses import dataclass

import numpy as np

from st4rtrack.scene import Scene
from st4rtrack.view.layers import SceneLayers
from st4rtrack.view.picking import Ray
from st4rtrack.view.sampling import StartView, camera_outlines, view_of

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
