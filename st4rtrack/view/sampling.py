"""Sampling of a scene for the browser: some frames, an even pixel grid, some tracks; reads one frame at a time."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from st4rtrack.geometry.vectors import all_components, all_finite, length
from st4rtrack.render.points import look_at
from st4rtrack.render.sample import choose_frames, moving_pixels, read_points
from st4rtrack.scene import Scene
from st4rtrack.types import Pointmap

Branch = Literal["tracking", "reconstruction"]

START_FOV_DEG = 45.0
"""Vertical field of view of the start view, in degrees."""

FRUSTUM_SHARE = 0.045
"""Length of a drawn camera relative to the scene's extent."""

_LOOKED_AT = 8
"""Number of frames sampled to estimate dynamic pixels, extent and confidence range."""
_LEAST_SURE_SHARE = 0.1
_AZIMUTH_DEG, _ELEVATION_DEG = 14.0, 11.0
"""Start view relative to the anchor's camera: enough for parallax, and still similar to the picture."""


@dataclass(frozen=True)
class Budget:
    """Limits of the shown data. With the defaults, a page of 64 frames at 512x288 stays below 25 MB."""

    frames: int = 64  # maximum number of frames
    points_per_frame: int = 32_000  # maximum number of points per frame and branch
    tracks: int = 300  # maximum number of tracks with a tail


@dataclass(frozen=True)
class StartView:
    """Initial viewpoint: `eye`, `target` and `up` are [3] in the world, `fov_deg` is the vertical field of view."""

    eye: np.ndarray
    target: np.ndarray
    up: np.ndarray
    fov_deg: float = START_FOV_DEG


def chosen_frames(scene: Scene, budget: Budget) -> np.ndarray:
    """Choose frame indices [frames], increasing and evenly spread, including the anchor."""
    return choose_frames(len(scene), budget.frames, scene.anchor_index)


def chosen_pixels(scene: Scene, count: int) -> np.ndarray:
    """Choose an even grid of at most `count` network pixels.

    Args:
        scene: the scene.
        count: at least 1; a scene with fewer pixels returns all.
    Returns:
        [points, 2] int (row, column), row after row.
    """
    height, width = scene.rgb.shape[1:3]
    rows = min(height, max(1, int(np.sqrt(count * height / width))))
    columns = min(width, max(1, count // rows))
    row, column = ((np.floor((np.arange(n) + 0.5) * size / n)).astype(int) for n, size in ((rows, height), (columns, width)))
    return np.stack(np.meshgrid(row, column, indexing="ij"), axis=-1).reshape(-1, 2)


def chosen_tracks(moving: np.ndarray, pixels: np.ndarray, count: int) -> np.ndarray:
    """Choose the pixels whose tracks have a tail: up to three quarters of them dynamic, all evenly spread.

    Args:
        moving: [height, width] bool, dynamic pixels of the anchor.
        pixels: [points, 2] (row, column).
        count: maximum number of tracks.
    Returns:
        [tracks] indices into `pixels`, increasing.
    """
    moves = moving[pixels[:, 0], pixels[:, 1]]
    many = min(int(moves.sum()), max(count - min(int((~moves).sum()), count // 4), 0))
    parts = ((np.flatnonzero(moves), many), (np.flatnonzero(~moves), count - many))
    return np.sort(np.concatenate([_spread(index, pixels, number) for index, number in parts]))


def _spread(index: np.ndarray, pixels: np.ndarray, count: int) -> np.ndarray:
    """About `count` of the pixels `index`, one per cell of a grid, so that they do not align in rows."""
    if not len(index) or count < 1:
        return index[:0]
    if len(index) <= count:
        return index
    cell = np.sqrt(len(np.unique(pixels[:, 0])) * len(np.unique(pixels[:, 1])) * (len(index) / len(pixels)) / count)
    pitch = cell * (np.ptp(pixels, axis=0) + 1) / [len(np.unique(pixels[:, axis])) for axis in (0, 1)]
    _, first = np.unique(np.floor(pixels[index] / pitch), axis=0, return_index=True)
    return index[np.sort(first)[np.linspace(0, len(first) - 1, min(count, len(first))).round().astype(int)]]


def frame_cloud(scene: Scene, frame: int, branch: Branch, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points of some pixels at the time of one frame.

    Args:
        scene: in memory or on disk; reads one frame.
        frame: frame index.
        branch: "tracking": pixels of the anchor at the time of this frame; "reconstruction": pixels of this frame.
        pixels: [n, 2] (row, column) at network size.
    Returns:
        points [n, 3] float32 in the world, NaN where unknown; colours [n, 3] uint8; confidence [n] float32, 1 without confidence.
    """
    row, column = pixels[:, 0], pixels[:, 1]
    maps: Pointmap = getattr(scene, branch)
    points = read_points(scene, maps, frame)[row, column]
    colours = np.asarray(scene.rgb[scene.anchor_index if branch == "tracking" else frame], np.uint8)[row, column]
    confidence = scene.display_confidence(maps, frame)
    return points, colours, np.ones(len(points), np.float32) if confidence is None else confidence[row, column]


def moving_mask(scene: Scene) -> np.ndarray:
    """Dynamic pixels [height, width] bool of the anchor, from the scene or, if absent, from track displacement."""
    return moving_pixels(scene, choose_frames(len(scene), _LOOKED_AT, scene.anchor_index))


def scene_sample(scene: Scene, branch: Branch, count: int = 4000) -> tuple[np.ndarray, np.ndarray]:
    """Sample points [points, 3] and confidence [points] of a few frames, without unknown points, to estimate ranges."""
    pixels = chosen_pixels(scene, count)
    clouds = [frame_cloud(scene, t, branch, pixels) for t in choose_frames(len(scene), _LOOKED_AT, scene.anchor_index).tolist()]
    points, confidence = (np.concatenate([cloud[k] for cloud in clouds]) for k in (0, 2))
    known = all_finite(points) & np.isfinite(confidence)
    return points[known].astype(np.float64), confidence[known]


def robust_box(points: np.ndarray, *, slack: float = 0.5) -> tuple[np.ndarray, np.ndarray]:
    """Low and high corner [3] of the box that contains nearly all points [points, 3], enlarged by `slack` of its size."""
    if not len(points):
        return -np.ones(3), np.ones(3)
    low, high = np.percentile(points, [1, 99], axis=0)
    margin = slack * max(float((high - low).max()), 1e-6)
    return low - margin, high + margin


def sure_points(samples: Iterable[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Points [n, 3] of samples (see `scene_sample`) without outliers and the least confident; one point if none remain."""
    parts = [points[confidence >= np.quantile(confidence, _LEAST_SURE_SHARE)] for points, confidence in samples if len(points)]
    points = np.concatenate([np.zeros((0, 3)), *parts])
    low, high = robust_box(points, slack=0.0)
    points = points[all_components((points >= low) & (points <= high))]
    return points if len(points) else np.array([[0.0, 0.0, 1.0]])


def camera_outlines(scene: Scene, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Centres and picture corners [n, 3] of the drawn cameras, without cameras far outside the scene.

    Args:
        scene: the scene.
        low, high: [3] corners of the box that contains nearly all points.
    """
    extent = float(np.linalg.norm(high - low))
    centres = np.asarray(scene.cameras.world_from_camera, np.float64)[:, :3, 3]
    near = centres[length(centres - (low + high) / 2) < 2 * extent]
    corners = FRUSTUM_SHARE * extent * np.array([[x, y, 1.0] for x in (-0.5, 0.5) for y in (-0.5, 0.5)])
    return np.concatenate([near, *(near + corner for corner in corners)])


def start_view(scene: Scene, *, aspect: float = 16 / 9) -> StartView:
    """View of the whole scene and its cameras from near the anchor's, slightly raised and turned towards the camera path.

    Args:
        scene: the scene.
        aspect: width / height of the window.
    """
    points = sure_points([scene_sample(scene, branch) for branch in ("tracking", "reconstruction")])
    points = np.concatenate([points, camera_outlines(scene, *robust_box(points, slack=0.0))])
    return view_of(points, scene, aspect)


def view_of(points: np.ndarray, scene: Scene, aspect: float) -> StartView:
    """View of points [points, 3] from near the anchor's camera of a scene, see `start_view`."""
    sideways = np.nansum(np.asarray(scene.cameras.world_from_camera, np.float64)[:, 0, 3])
    azimuth, elevation = np.deg2rad([-_AZIMUTH_DEG if sideways < 0 else _AZIMUTH_DEG, _ELEVATION_DEG])
    # The world frame is the anchor's camera frame: x right, y down, z forward.
    direction = np.array([np.sin(azimuth) * np.cos(elevation), -np.sin(elevation), -np.cos(azimuth) * np.cos(elevation)])
    up = np.array([0.0, -1.0, 0.0])
    eye, target = _fitted(points, direction, up, aspect)
    return StartView(eye, target, up)


def _fitted(points: np.ndarray, direction: np.ndarray, up: np.ndarray, aspect: float) -> tuple[np.ndarray, np.ndarray]:
    """Eye and target [3] along `direction` so that the points [points, 3] fill the picture, centred."""
    target = np.median(points, axis=0)
    camera_from_world = look_at(target + direction, target, up)
    rotation = camera_from_world[:3, :3]
    turned = (points - target) @ rotation.T
    half = 0.9 * np.tan(np.deg2rad(START_FOV_DEG) / 2) * np.array([aspect, 1.0])
    # From (x0, y0, -d), |x - x0| <= half * (z + d) for all points: each side of the picture gives one bound, and x0 halves it.
    upper = (turned[:, :2] - half * turned[:, 2:]).max(axis=0)
    lower = (turned[:, :2] + half * turned[:, 2:]).min(axis=0)
    distance = max(float(((upper - lower) / (2 * half)).max()), 1e-3 - float(turned[:, 2].min()))
    middle = (upper + lower) / 2
    target = target + rotation.T @ np.array([*middle, 0.0])
    return target + distance * direction, target


def decimation(scene: Scene, budget: Budget) -> str:
    """Describe in one sentence the shown frames and points out of all."""
    frames, pixels = len(chosen_frames(scene, budget)), len(chosen_pixels(scene, budget.points_per_frame))
    total = int(np.prod(scene.rgb.shape[1:3]))
    shown = f"all {len(scene)} frames" if frames == len(scene) else f"{frames} of {len(scene)} frames"
    points = f"all {total} points" if pixels == total else f"{pixels} of {total} points"
    return f"Shows {shown}, with {points} of each frame."
