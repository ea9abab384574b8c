"""Output of the teachers for a video: 2D tracks of anchor points, and depth. Plain data, validated on construction.

Symbols: T frames, N points, H x W network image size. Pixel coordinates are continuous in the network image, with the centre of
the first pixel at (0.5, 0.5).
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from st4rtrack.types import UserError


@dataclass(frozen=True)
class TeacherTracks:
    """2D tracks of anchor points through the video.

    Attributes:
        query_px: [N, 2] in the anchor image.
        tracks_px: [T, N, 2] float32; finite, even where the point is occluded.
        visible: [T, N] bool.
        name: teacher and version.
    Raises:
        UserError: the shapes disagree, there is one frame or no point, a number is not finite, or no point is visible in two
            frames.
    """

    query_px: np.ndarray
    tracks_px: np.ndarray
    visible: np.ndarray
    name: str

    def __post_init__(self) -> None:
        query, tracks, visible = self.query_px.shape, self.tracks_px.shape, self.visible.shape
        if len(tracks) != 3 or tracks[2] != 2 or visible != tracks[:2] or query != tracks[1:]:
            raise UserError(
                f"tracks of {self.name} must be [frames, points, 2] with visible [frames, points] and query_px [points, 2]; "
                f"got {list(tracks)}, {list(visible)} and {list(query)}"
            )
        if self.visible.dtype != np.bool_:
            raise UserError(f"visible of the tracks of {self.name} must be bool, got {self.visible.dtype}")
        if tracks[0] < 2:
            raise UserError(f"tracks of {self.name} cover {tracks[0]} frame; adaptation needs a video of at least two")
        if not np.isfinite(self.tracks_px).all() or not np.isfinite(self.query_px).all():
            raise UserError(f"tracks of {self.name} have non-finite positions; mark occluded points in visible instead")
        if not (self.visible.sum(axis=0) >= 2).any():
            raise UserError(f"every track of {self.name} is visible in fewer than two frames; adaptation needs longer tracks")


@dataclass(frozen=True)
class TeacherDepth:
    """Depth of the video's frames, with one scale per frame, or one for all frames if there are cameras.

    Attributes:
        depth: [T, H, W] float32 z-depth, 0 where unknown.
        name: teacher and version.
        world_from_camera: [T, 4, 4] float64 in the scale of the depth, NaN matrices where unknown; `None` without cameras.
    Raises:
        UserError: the shapes disagree, there is one frame, or depth is non-finite or negative.
    """

    depth: np.ndarray
    name: str
    world_from_camera: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.depth.ndim != 3:
            raise UserError(f"depth of {self.name} must be [frames, height, width], got {list(self.depth.shape)}")
        if len(self.depth) < 2:
            raise UserError(f"depth of {self.name} covers {len(self.depth)} frame; adaptation needs a video of at least two")
        if not np.isfinite(self.depth).all():
            raise UserError(f"depth of {self.name} is not finite everywhere; write 0 where it is unknown")
        if (self.depth < 0).any():
            raise UserError(f"depth of {self.name} is negative somewhere; write 0 where it is unknown")
        if self.world_from_camera is not None and self.world_from_camera.shape != (len(self.depth), 4, 4):
            raise UserError(
                f"cameras of {self.name} must be [{len(self.depth)}, 4, 4], one per frame of its depth; "
                f"got {list(self.world_from_camera.shape)}"
            )


@dataclass(frozen=True)
class Priors:
    """Supervision of an adaptation: teacher tracks and optional teacher depth.

    Attributes:
        tracks: tracks of a grid of anchor points.
        depth: `None` without a depth teacher, or if it provided no depth.
    Raises:
        UserError: tracks and depth differ in their number of frames.
    """

    tracks: TeacherTracks
    depth: TeacherDepth | None

    def __post_init__(self) -> None:
        if self.depth is not None and len(self.depth.depth) != len(self.tracks.tracks_px):
            raise UserError(
                f"tracks of {self.tracks.name} cover {len(self.tracks.tracks_px)} frames and depth of {self.depth.name} "
                f"{len(self.depth.depth)}; both must be of the same video"
            )


class TrackTeacher(Protocol):
    """Provides 2D tracks of anchor points.

    Attributes:
        name: teacher and version, part of the cache key.
        follows_any: whether it tracks the requested queries; otherwise it always returns its fixed tracks.
    """

    @property
    def name(self) -> str: ...

    @property
    def follows_any(self) -> bool: ...

    def tracks(self, rgb: np.ndarray, query_px: np.ndarray, anchor_index: int) -> TeacherTracks:
        """Track points [N, 2] of the anchor through the frames [T, H, W, 3] uint8 at network size."""
        ...


class DepthTeacher(Protocol):
    """Provides depth of frames; `name`: teacher and version, part of the cache key."""

    @property
    def name(self) -> str: ...

    def depth(self, rgb: np.ndarray, anchor_index: int) -> TeacherDepth:
        """Depth of frames [T, H, W, 3] uint8 at network size, in the world of the anchor's camera if there are cameras."""
        ...
