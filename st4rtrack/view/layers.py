"""Layers of a scene at one frame as plain arrays: clouds, tails, cameras; independent of how they are drawn."""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from st4rtrack.geometry.vectors import all_finite, length
from st4rtrack.render.rows import identity_colours
from st4rtrack.render.sample import choose_frames
from st4rtrack.scene import Scene
from st4rtrack.view.sampling import (
    Branch,
    Budget,
    chosen_pixels,
    chosen_tracks,
    frame_cloud,
    moving_mask,
    robust_box,
    scene_sample,
    sure_points,
)

OUT_OF_SIGHT = 1e6
"""Coordinate of filtered points: the number of points, and so the buffers of the browser, stay constant from frame to frame."""

_FRAMES_KEPT = 192
_CLOSED_UP = 1.3  # viser draws points at twice their size, so neighbours at twice the usual distance still touch
_ACCUMULATED_FRAMES = 48
_ACCUMULATED_SHARE = 6
_CAMERAS = 12
_FADED = np.array([52.0, 56.0, 64.0])


@dataclass(frozen=True)
class Settings:
    """Settings of layers and points in the panel."""

    tracking: bool = False  # tracking, reconstruction, accumulated, tracks, cameras: whether each layer is shown
    reconstruction: bool = True
    accumulated: bool = False
    tracks: bool = True
    cameras: bool = True
    moving_only: bool = False  # show only dynamic points and tracks
    least_sure: float = 0.1  # share of points to leave out, those with the lowest confidence; 0 to 1
    point_size: float = 1.0  # factor on the automatic size
    points: int = Budget().points_per_frame  # number of points per frame
    tail: int = 12  # tail length in frames
    num_tracks: int = 300  # number of tracks with a tail


@dataclass(frozen=True)
class ColouredPoints:
    """`points` [n, 3] float32 in the scene's world, `OUT_OF_SIGHT` if filtered; `colours` [n, 3] uint8."""

    points: np.ndarray
    colours: np.ndarray


@dataclass(frozen=True)
class Tails:
    """`segments` [s, 2, 3] float32 with `colours` [s, 2, 3] uint8, and the current track points, `heads`."""

    segments: np.ndarray
    colours: np.ndarray
    heads: ColouredPoints


class SceneLayers:
    """Layers of a scene over time. Frames are read on demand, and the most recent ones are cached.

    Args:
        scene: in memory or on disk.
        name: name of the scene in the viewer.
    """

    def __init__(self, scene: Scene, name: str) -> None:
        self.scene, self.name = scene, name
        self.moving = moving_mask(scene)
        self._sample: dict[Branch, tuple[np.ndarray, np.ndarray]] = {
            "tracking": scene_sample(scene, "tracking"),
            "reconstruction": scene_sample(scene, "reconstruction"),
        }
        self.low, self.high = robust_box(np.concatenate([points for points, _ in self._sample.values()]), slack=0.0)
        self._cloud = lru_cache(_FRAMES_KEPT)(lambda t, branch, count: frame_cloud(scene, t, branch, self.pixels(count)))
        self.pixels = lru_cache(8)(lambda count: chosen_pixels(scene, count))
        self._tracks = lru_cache(8)(lambda points, count: chosen_tracks(self.moving, self.pixels(points), count))

    @property
    def extent(self) -> float:
        """Diagonal of the box that contains nearly all points, in world units."""
        return float(np.linalg.norm(self.high - self.low))

    @property
    def sure_points(self) -> np.ndarray:
        """Points [n, 3] of both branches at several times, without outliers and the least confident."""
        return sure_points(self._sample.values())

    def least_confidence(self, branch: Branch, least_sure: float) -> float:
        """Confidence threshold that leaves out a share `least_sure` of the points."""
        confidence = self._sample[branch][1]
        return float(np.quantile(confidence, least_sure)) if len(confidence) and least_sure > 0 else -np.inf

    def point_size(self, settings: Settings) -> float:
        """Diameter in world units at which neighbouring points just touch."""
        height, width = self.scene.rgb.shape[1:3]
        pitch_px = np.sqrt(height * width / max(len(self.pixels(settings.points)), 1))
        depth = np.median(length(self._sample["tracking"][0])) if len(self._sample["tracking"][0]) else 1.0
        focal_px = float(np.asarray(self.scene.cameras.intrinsics[self.scene.anchor_index])[0, 0])
        return settings.point_size * _CLOSED_UP * pitch_px * float(depth) / max(focal_px, 1e-6)

    def cloud(self, frame: int, branch: Branch, settings: Settings) -> ColouredPoints:
        """Points of one frame; a constant number, so that only positions are sent."""
        points, colours, confidence = self._cloud(frame, branch, settings.points)
        keep = self._sure(points, confidence, branch, settings)
        if branch == "tracking" and settings.moving_only:
            row, column = self.pixels(settings.points).T
            keep &= self.moving[row, column]
        return ColouredPoints(np.where(keep[:, None], points, np.float32(OUT_OF_SIGHT)), colours)

    def accumulated_frames(self) -> np.ndarray:
        """Indices [frames] of the frames in the accumulated reconstruction."""
        return choose_frames(len(self.scene), _ACCUMULATED_FRAMES, self.scene.anchor_index)

    def accumulated(self, frame: int, settings: Settings) -> ColouredPoints:
        """Part of the accumulated reconstruction from one frame."""
        count = max(_ACCUMULATED_SHARE * settings.points // len(self.accumulated_frames()), 50)
        points, colours, confidence = self._cloud(frame, "reconstruction", min(count, settings.points))
        keep = self._sure(points, confidence, "reconstruction", settings)
        return ColouredPoints(points[keep], colours[keep])

    def tails(self, frame: int, settings: Settings) -> Tails:
        """Paths of the tracks over the last frames, paler in the past, coloured by their position in the anchor."""
        frames = range(max(frame - settings.tail, 0), frame + 1)
        chosen = self._tracks(settings.points, settings.num_tracks)
        row, column = self.pixels(settings.points)[chosen].T
        colours = identity_colours(np.stack([column, row], axis=1)).astype(np.float64)
        if settings.moving_only:
            chosen, colours = chosen[self.moving[row, column]], colours[self.moving[row, column]]
        trajectories = np.stack([self._cloud(t, "tracking", settings.points)[0][chosen] for t in frames])
        sure = self._cloud(frame, "tracking", settings.points)[2][chosen] >= self.least_confidence(
            "tracking", settings.least_sure
        )
        segments = np.stack([trajectories[:-1], trajectories[1:]], axis=2)
        shown = all_finite(segments).all(axis=-1) & sure
        age = np.linspace(0, 1, len(frames))[:, None, None]
        faded = (_FADED + age * (colours - _FADED)).astype(np.uint8)
        heads = np.where((sure & all_finite(trajectories[-1]))[:, None], trajectories[-1], np.float32(OUT_OF_SIGHT))
        return Tails(
            segments[shown], np.stack([faded[:-1], faded[1:]], axis=2)[shown], ColouredPoints(heads, colours.astype(np.uint8))
        )

    def shown_cameras(self) -> np.ndarray:
        """Indices [cameras] of the frames whose cameras are always drawn."""
        return choose_frames(len(self.scene), _CAMERAS, self.scene.anchor_index)

    def picture(self, frame: int, long_side: int = 320) -> np.ndarray:
        """Frame [height, width, 3] uint8, downscaled for sending."""
        rgb = np.asarray(self.scene.rgb[frame], np.uint8)
        factor = min(long_side / max(rgb.shape[:2]), 1.0)
        return cv2.resize(rgb, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA) if factor < 1 else rgb

    def _sure(self, points: np.ndarray, confidence: np.ndarray, branch: Branch, settings: Settings) -> np.ndarray:
        return all_finite(points) & (confidence >= self.least_confidence(branch, settings.least_sure))
