"""Content of a scene for exports, read frame by frame: coloured point clouds and tracks of anchor pixels."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from st4rtrack.geometry.camera import project_world
from st4rtrack.geometry.sampling import covered_pixels
from st4rtrack.geometry.track_assignment import depth_in_camera
from st4rtrack.geometry.vectors import all_finite
from st4rtrack.scene import Scene
from st4rtrack.types import Pointmap, UserError

Branch = Literal["reconstruction", "tracking"]

DROP_LEAST_SURE = 0.2
"""Default share of the pixels of a frame, those with the lowest confidence, that is left out."""
_HOLE_PX = 5
"""Mask holes up to nearly this size, in network pixels, are filled: point spacing grows as objects approach."""


@dataclass(frozen=True)
class PointCloud:
    """Coloured point cloud of one frame."""

    points_world: np.ndarray  # [points, 3] float32, all finite
    colours: np.ndarray  # [points, 3] uint8
    confidence: np.ndarray | None  # [points] float32, or None if the scene has none

    def __len__(self) -> int:
        return len(self.points_world)

    def select(self, chosen: np.ndarray) -> "PointCloud":
        """The cloud of the points `chosen` (mask or indices)."""
        confidence = None if self.confidence is None else self.confidence[chosen]
        return PointCloud(self.points_world[chosen], self.colours[chosen], confidence)

    def evenly(self, most: int) -> "PointCloud":
        """At most `most` points, evenly spaced in their order."""
        return self.select(np.linspace(0, len(self) - 1, most).round().astype(int)) if len(self) > most else self

    def thinned(self, most: int, random: np.random.Generator) -> "PointCloud":
        """At most `most` points, drawn at random, in their order."""
        return self.select(np.sort(random.choice(len(self), most, replace=False))) if len(self) > most else self


def read_cloud(scene: Scene, frame: int, drop_least_sure: float, *, dynamic: bool | None = None) -> PointCloud:
    """Read the point cloud of a frame of the reconstruction, without invalid and low-confidence points.

    `dynamic` selects the dynamic or the static pixels of a scene with motion masks.
    """
    maps = scene.reconstruction
    chosen = _sure(scene, maps, frame, drop_least_sure)
    if dynamic is not None and maps.moving is not None:
        chosen &= np.asarray(maps.moving[frame], bool) == dynamic
    points = np.asarray(maps.points_world[frame], np.float32).reshape(-1, 3)
    colours = np.asarray(scene.rgb[frame], np.uint8).reshape(-1, 3)
    confidence = None if maps.confidence is None else np.asarray(maps.confidence[frame], np.float32).reshape(-1)
    return PointCloud(points, colours, confidence).select(chosen.reshape(-1))


def accumulated_clouds(
    scene: Scene,
    *,
    max_points: int,
    max_frames: int = 100,
    drop_least_sure: float = DROP_LEAST_SURE,
    frame: int | None = None,
    dynamic: bool | None = None,
) -> Iterator[PointCloud]:
    """Point clouds of the reconstruction per frame, for an accumulated cloud in the world frame.

    Every frame contributes at most the same number of points, drawn at random with a fixed seed.

    Args:
        scene: in memory or on disk.
        max_points: maximum total number of points.
        max_frames: maximum number of frames, evenly spaced over the video.
        drop_least_sure: share of each frame with the lowest confidence that is left out, 0 to below 1.
        frame: use only this frame.
        dynamic: as in `read_cloud`.
    Raises:
        UserError: the frame does not exist or is unsolved, or a number is out of range.
    """
    if frame is not None and not 0 <= frame < len(scene):
        raise UserError(f"frame must be in 0..{len(scene) - 1}, got {frame}")
    if max_points < 1 or max_frames < 1 or not 0 <= drop_least_sure < 1:
        raise UserError("max_points and max_frames must be at least 1, drop_least_sure from 0 to below 1")
    solved = solved_numbers(scene)
    if frame is not None and frame not in solved:
        raise UserError(f"frame {frame} is unsolved: its points have no position in the world frame; choose another frame")
    if frame is None:
        count = min(len(solved), max_frames, max_points)
        frames = solved[np.linspace(0, len(solved) - 1, count).round().astype(int)].tolist()
    else:
        frames = [frame]
    random, most = np.random.default_rng(0), max_points // len(frames)
    return (read_cloud(scene, index, drop_least_sure, dynamic=dynamic).thinned(most, random) for index in frames)


def solved_numbers(scene: Scene) -> np.ndarray:
    """Indices [frames] of the solved frames.

    Raises:
        UserError: all frames are unsolved.
    """
    solved = np.flatnonzero(scene.solved_frames)
    if not len(solved):
        raise UserError("all frames of this scene are unsolved, so no point has a position in the world; run st4rtrack again")
    return solved


def accumulated(scene: Scene, max_points: int, *, dynamic: bool | None = None) -> PointCloud:
    """The concatenated `accumulated_clouds` without confidence; may be empty."""
    clouds = list(accumulated_clouds(scene, max_points=max_points, dynamic=dynamic))
    return PointCloud(np.concatenate([c.points_world for c in clouds]), np.concatenate([c.colours for c in clouds]), None)


@dataclass(frozen=True)
class AnchorPixels:
    """Pixels of the anchor frame whose tracks are exported."""

    row: np.ndarray  # row, column: [points]
    column: np.ndarray
    colours: np.ndarray  # [points, 3] uint8, from the anchor frame
    spacing_px: float  # distance between neighbours in network pixels

    def __len__(self) -> int:
        return len(self.row)

    @property
    def centre_px(self) -> np.ndarray:
        """Pixel centres [points, 2] in network pixels."""
        return np.stack([self.column, self.row], axis=1) + 0.5

    def select(self, chosen: np.ndarray) -> "AnchorPixels":
        """The subset `chosen` (mask or indices) of the pixels."""
        return AnchorPixels(self.row[chosen], self.column[chosen], self.colours[chosen], self.spacing_px)


def choose_pixels(scene: Scene, max_tracks: int, *, drop_least_sure: float = DROP_LEAST_SURE) -> AnchorPixels:
    """Choose a regular grid of at most `max_tracks` anchor pixels, without invalid and low-confidence tracks.

    Raises:
        UserError: `max_tracks` is below 1, or no pixel is left.
    """
    if max_tracks < 1:
        raise UserError(f"the number of tracks must be at least 1, not {max_tracks}")
    sure = _sure(scene, scene.tracking, scene.anchor_index, drop_least_sure)
    if not sure.any():
        raise UserError("there is nothing to track: the anchor frame of this scene has no finite points")
    # Ground truth may be sparse: the grid spacing follows from the number of usable pixels, not from the image size.
    spacing_px = max(1.0, float(np.sqrt(sure.sum() / max_tracks)))
    while True:
        row, column = _grid(sure.shape[0], sure.shape[1], spacing_px)
        keep = sure[row, column]
        if keep.sum() <= max_tracks:
            break
        spacing_px *= 1.02
    if not keep.any():
        row, column = (axis[:max_tracks] for axis in np.nonzero(sure))
    else:
        row, column = row[keep], column[keep]
    return AnchorPixels(row, column, np.asarray(scene.rgb[scene.anchor_index], np.uint8)[row, column], spacing_px)


def follow(scene: Scene, pixels: AnchorPixels) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Tracks of anchor pixels, frame by frame.

    Yields:
        Points [points, 3] float32, where unknown (as in unsolved frames) the last known position, initially that in the anchor;
        and visible [points] bool; if the scene has no visibility, True where the position is known.
    """
    maps, pick = scene.tracking, (pixels.row, pixels.column)
    last = np.asarray(maps.points_world[scene.anchor_index], np.float32)[pick]
    solved = scene.solved_frames
    for frame in range(len(scene)):
        points = np.asarray(maps.points_world[frame], np.float32)[pick]
        known = all_finite(points) & solved[frame]
        if maps.valid is not None:
            known &= np.asarray(maps.valid[frame], bool)[pick]
        last = np.where(known.reshape(-1, 1), points, last)
        if maps.visible is not None:
            known &= np.asarray(maps.visible[frame], bool)[pick]
        yield last, known


def track_curves(scene: Scene, pixels: AnchorPixels, max_vertices: int) -> np.ndarray:
    """Tracks as curves [points, vertices, 3] over the solved frames, 2 to `max_vertices` vertices each."""
    solved = solved_numbers(scene)
    chosen = set(solved[np.linspace(0, len(solved) - 1, min(len(solved), max_vertices)).round().astype(int)].tolist())
    curves = np.stack([points for frame, (points, _) in enumerate(follow(scene, pixels)) if frame in chosen], axis=1)
    return curves if curves.shape[1] > 1 else curves.repeat(2, axis=1)


def track_colours(pixels: AnchorPixels, width: int) -> np.ndarray:
    """Track colours [points, 3] uint8: the hue encodes the column in the anchor, so that tracks can be distinguished."""
    hue = np.rint(pixels.column / max(width, 1) * 150).astype(np.uint8)
    hsv = np.stack([hue, np.full_like(hue, 200), np.full_like(hue, 255)], axis=1)
    return cv2.cvtColor(hsv[None], cv2.COLOR_HSV2RGB)[0]


def has_dynamic_masks(scene: Scene) -> bool:
    """Whether the scene tells dynamic from static pixels."""
    return scene.tracking.moving is not None or scene.reconstruction.moving is not None


def dynamic_masks(scene: Scene, frames: np.ndarray) -> Iterator[np.ndarray]:
    """Masks [height, width] bool of the dynamic pixels of the frames, at network size.

    From the per-frame masks of the scene or, without these, from the projected dynamic points of the anchor.
    """
    if scene.reconstruction.moving is not None:
        yield from (np.asarray(scene.reconstruction.moving[frame], bool) for frame in frames.tolist())
        return
    moving = np.asarray(scene.tracking.moving, bool)
    row, column = np.nonzero(moving)
    pixels = AnchorPixels(row, column, np.zeros((len(row), 3), np.uint8), 1.0)
    selected = set(frames.tolist())
    for frame, (points, visible) in enumerate(follow(scene, pixels)):
        if frame in selected:
            yield moving if frame == scene.anchor_index else _covered(scene, frame, points[visible])


def _covered(scene: Scene, frame: int, points_world: np.ndarray) -> np.ndarray:
    """Mask [height, width] of the network pixels that points [points, 3] project to, with small holes filled."""
    height, width = scene.rgb.shape[1:3]
    pixels_px, _ = project_world(points_world, scene.cameras.world_from_camera[frame], scene.cameras.intrinsics[frame])
    return covered_pixels(pixels_px, height, width, hole_px=_HOLE_PX)


def depth_map(scene: Scene, frame: int) -> np.ndarray:
    """z-depth [height, width] float32 of a frame of the reconstruction, at network size; 0 where unknown."""
    depth = depth_in_camera(
        np.asarray(scene.reconstruction.points_world[frame], np.float64), scene.cameras.world_from_camera[frame]
    )
    known = np.isfinite(depth) & (depth > 0)
    if scene.reconstruction.valid is not None:
        known &= np.asarray(scene.reconstruction.valid[frame], bool)
    return np.where(known, depth, 0).astype(np.float32)


def point_width(scene: Scene, spacing_px: float) -> float:
    """Diameter of points, in world units, so that points `spacing_px` network pixels apart just touch in the anchor."""
    points = np.asarray(scene.tracking.points_world[scene.anchor_index], np.float32)
    depth = depth_in_camera(points, scene.cameras.world_from_camera[scene.anchor_index])
    focal = float(np.asarray(scene.cameras.intrinsics[scene.anchor_index])[0, 0])
    return spacing_px * float(np.median(depth[np.isfinite(depth)])) / focal


def _sure(scene: Scene, maps: Pointmap, frame: int, drop_least_sure: float) -> np.ndarray:
    """Mask [height, width] of finite, valid points without the share with the lowest confidence."""
    keep = all_finite(np.asarray(maps.points_world[frame], np.float32))
    if maps.valid is not None:
        keep &= np.asarray(maps.valid[frame], bool)
    confidence = scene.display_confidence(maps, frame)
    if confidence is not None:
        keep &= np.isfinite(confidence)
        if keep.any():
            keep &= confidence >= np.quantile(confidence[keep], drop_least_sure)
    return np.asarray(keep)


def _grid(height: int, width: int, spacing_px: float) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns [points] of a centred grid with a spacing of about `spacing_px`."""
    sides = []
    for length in (height, width):
        count = min(max(int(np.ceil(length / spacing_px - 1e-9)), 1), length)
        sides.append(np.floor((np.arange(count) + 0.5) * length / count).astype(int))
    row, column = np.meshgrid(*sides, indexing="ij")
    return row.ravel(), column.ravel()
