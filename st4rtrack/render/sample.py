"""Sampled data of a scene for its pictures, read one frame at a time: the scene may be long and on disk."""

from dataclasses import dataclass

import numpy as np

from st4rtrack.geometry.camera import project_world
from st4rtrack.geometry.transforms import invert_rigid, transform_maps
from st4rtrack.geometry.vectors import all_finite, length
from st4rtrack.render.draw import model_name
from st4rtrack.scene import Scene
from st4rtrack.types import Pointmap

MOVING_TAIL, STATIC_TAIL = 12, 4
_LONG_TRACK_FRAMES = 40
_LEAST_SURE_SHARE = 0.2
_FAR = 6.0
"""Multiple of a frame's median depth beyond which points are left out: a sky would shrink the scene to a few pixels."""


@dataclass(frozen=True)
class ShownFrames:
    """Full data of a few frames of a scene."""

    index: np.ndarray  # [shown] frame indices, increasing, including the anchor
    rgb: np.ndarray  # [shown, height, width, 3] uint8
    points_world: np.ndarray  # [shown, height, width, 3] float32 of the reconstruction, NaN where invalid
    depth: np.ndarray  # [shown, height, width] z-depth in each frame's own camera, NaN where invalid
    confidence: np.ndarray | None  # [shown, height, width] or None
    display_confidence: np.ndarray | None  # [shown, height, width] of `Scene.display_confidence`, or None
    visible_share: np.ndarray | None  # [shown] share of the anchor's points that is visible in each frame; None if unknown

    def __len__(self) -> int:
        return len(self.index)

    @property
    def sure(self) -> np.ndarray:
        """Mask [shown, height, width] bool: finite, not very far, and not among the least confident."""
        sure = np.stack([not_far(depth) for depth in self.depth])
        if self.display_confidence is not None:
            known = self.display_confidence[sure & np.isfinite(self.display_confidence)]
            if len(known):
                sure &= self.display_confidence >= np.quantile(known, _LEAST_SURE_SHARE)
        return sure


@dataclass(frozen=True)
class AnchorTracks:
    """Sampled tracks of the anchor's points over some frames."""

    frame: np.ndarray  # [frames] frame indices, increasing
    query_px: np.ndarray  # [points, 2] pixel centres in the anchor
    moving: np.ndarray  # [points] bool, dynamic
    points_world: np.ndarray  # [frames, points, 3], NaN where unknown
    visible: np.ndarray  # [frames, points] bool
    pixels_px: np.ndarray  # [frames, points, 2] in each frame's own camera; NaN behind the camera


def not_far(depth: np.ndarray) -> np.ndarray:
    """Mask of the finite depths [...] that are not much larger than their median."""
    known = np.isfinite(depth)
    return known & (depth <= _FAR * np.median(depth[known])) if known.any() else known


def scene_facts(scene: Scene) -> list[str]:
    """Model, length, size and anchor of a scene, for captions."""
    (height, width), name = scene.rgb.shape[1:3], model_name(scene.info)
    span = float(scene.time_s[-1]) - float(scene.time_s[0])
    frames = "1 frame" if len(scene) == 1 else f"{len(scene)} frames, {span:.2f} s"
    return [f"model {name}"] * bool(name) + [frames, f"{width} x {height} pixels", f"anchor: frame {scene.anchor_index}"]


def choose_frames(num_frames: int, count: int, anchor_index: int) -> np.ndarray:
    """Choose about `count` frame indices spread over the video, increasing, including the anchor."""
    index = np.unique(np.rint(np.linspace(0, num_frames - 1, min(count, num_frames))).astype(int))
    index[np.argmin(np.abs(index - anchor_index))] = anchor_index
    return np.unique(index)


def read_points(scene: Scene, maps: Pointmap, frame: int) -> np.ndarray:
    """Read points [height, width, 3] float32 of one frame of a scene's maps; NaN where invalid or not finite.

    All are NaN in an unsolved frame, whose points have no world coordinates.
    """
    points = np.array(maps.points_world[frame], np.float32)
    known = all_finite(points)
    if maps.valid is not None:
        known &= np.asarray(maps.valid[frame], bool)
    points[~known | ~scene.solved_frames[frame]] = np.nan
    return points


def read_frames(scene: Scene, index: np.ndarray) -> ShownFrames:
    """Read frames `index` [shown] of a scene."""
    points, depth, confidence, display, visible = [], [], [], [], []
    surface = scene.reconstruction
    for t in index.tolist():
        here = read_points(scene, surface, t)
        camera_from_world = invert_rigid(np.asarray(scene.cameras.world_from_camera[t], np.float64))
        z = transform_maps(camera_from_world, here)[..., 2].astype(np.float32)
        points.append(here)
        depth.append(np.where(z > 0, z, np.nan))
        if surface.confidence is not None:
            confidence.append(np.asarray(surface.confidence[t], np.float32))
            display.append(scene.display_confidence(surface, t))
        if scene.tracking.visible is not None:
            visible.append(float(np.mean(np.asarray(scene.tracking.visible[t]))))
    return ShownFrames(
        index=index,
        rgb=np.stack([np.asarray(scene.rgb[t], np.uint8) for t in index.tolist()]),
        points_world=np.stack(points),
        depth=np.stack(depth),
        confidence=np.stack(confidence) if confidence else None,
        display_confidence=np.stack(display) if display else None,
        visible_share=np.array(visible) if visible else None,
    )


def read_tracks(scene: Scene, shown: np.ndarray, moving: np.ndarray, *, spacing_px: float) -> AnchorTracks:
    """Read tracks of a grid of the anchor's points: in the frames before each shown one, and sparsely over the whole video.

    Args:
        shown: [shown] frame indices.
        moving: [height, width] bool, dynamic pixels of the anchor.
        spacing_px: spacing of static queries, in pixels of the frames; dynamic ones are denser.
    """
    frames = {min(max(t - back, 0), len(scene) - 1) for t in shown.tolist() for back in range(MOVING_TAIL + 1)}
    frames |= {scene.anchor_index, *choose_frames(len(scene), _LONG_TRACK_FRAMES, scene.anchor_index).tolist()}
    return PastTracks(scene, moving, spacing_px=spacing_px).at(sorted(frames))


class PastTracks:
    """Tracks of a grid of the anchor's points up to an advancing frame; memory does not grow with the video.

    The recent past is stored at every frame, earlier times at some frames.
    """

    def __init__(self, scene: Scene, moving: np.ndarray, *, spacing_px: float) -> None:
        """Args: see `read_tracks`."""
        self._scene = scene
        self.query_px, self.moving = _queries(moving, spacing_px)
        self._long = choose_frames(len(scene), _LONG_TRACK_FRAMES, scene.anchor_index)
        self._rows: dict[int, tuple[np.ndarray, np.ndarray, np.ndarray]] = {}

    def until(self, frame: int) -> AnchorTracks:
        """Tracks up to and including a frame."""
        return self.at(sorted({*range(max(frame - MOVING_TAIL, 0), frame + 1), *self._long[self._long <= frame].tolist()}))

    def at(self, frames: list[int]) -> AnchorTracks:
        """Tracks in increasing frames; those of the last call are not read again."""
        self._rows = {t: self._rows.get(t) or self._row(t) for t in frames}
        points, visible, pixels = (np.stack(column) for column in zip(*self._rows.values(), strict=True))
        return AnchorTracks(np.array(frames), self.query_px, self.moving, points, visible, pixels)

    def _row(self, frame: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """World points [points, 3], visibility [points], and pixels [points, 2] of the queries in one frame."""
        scene, (column, row) = self._scene, self.query_px.T.astype(int)
        points = read_points(scene, scene.tracking, frame)[row, column].astype(np.float64)
        projected, _ = project_world(points, scene.cameras.world_from_camera[frame], scene.cameras.intrinsics[frame])
        visible = np.full(len(points), scene.solved_frames[frame])
        if scene.tracking.visible is not None:
            visible &= np.asarray(scene.tracking.visible[frame], bool)[row, column]
        return points, visible, np.where(np.isfinite(projected), projected, np.nan)


def moving_pixels(scene: Scene, shown: np.ndarray) -> np.ndarray:
    """Dynamic pixels [height, width] bool of the anchor: from the scene or, if absent, from displacement in the shown frames.

    Thresholds are multiples of the median, which is mostly error; separate for direction and distance (where most errors are).
    """
    if scene.tracking.moving is not None:
        return np.asarray(scene.tracking.moving, bool)
    start = read_points(scene, scene.tracking, scene.anchor_index)
    start_distance = np.maximum(length(start), 1e-6)
    turn, stretch = np.zeros(start.shape[:2], np.float32), np.zeros(start.shape[:2], np.float32)
    for t in shown.tolist():
        points = read_points(scene, scene.tracking, t)
        distance = np.maximum(length(points), 1e-6)
        angle = length(points / distance[..., None] - start / start_distance[..., None])
        turn = np.fmax(turn, angle)
        stretch = np.fmax(stretch, np.abs(distance / start_distance - 1))
    return (turn > max(0.015, 4 * float(np.median(turn)))) | (stretch > max(0.05, 5 * float(np.median(stretch))))


def _queries(moving: np.ndarray, spacing_px: float) -> tuple[np.ndarray, np.ndarray]:
    """Pixel centres [points, 2] and dynamic flags [points] of a grid that is denser on dynamic pixels, for small objects."""
    height, width = moving.shape
    spacing_px = max(spacing_px, 1.0)
    static_px = _grid(height, width, spacing_px)
    static_px = static_px[~moving[static_px[:, 1].astype(int), static_px[:, 0].astype(int)]]
    close_px = np.clip(np.sqrt(moving.sum() / 80), 0.45 * spacing_px, 0.75 * spacing_px)
    moving_px = _grid(height, width, max(float(close_px), 1.0))
    moving_px = moving_px[moving[moving_px[:, 1].astype(int), moving_px[:, 0].astype(int)]]
    both = np.concatenate([static_px, moving_px])
    return both, np.arange(len(both)) >= len(static_px)


def _grid(height: int, width: int, spacing_px: float) -> np.ndarray:
    """Pixel centres [points, 2] about `spacing_px` apart, centred in the image."""

    def along(length: int) -> np.ndarray:
        count = max(round(length / spacing_px), 1)
        return np.floor((np.arange(count) + 0.5) * length / count) + 0.5

    u, v = np.meshgrid(along(width), along(height))
    return np.stack([u.ravel(), v.ravel()], axis=1)
