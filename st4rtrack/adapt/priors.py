"""What teachers say of a video: 2D tracks of points of the anchor, and depth. Plain data, checked when it is made.

Symbols: T frames, N points, H x W the network's image. All pixels are those of the network's image, continuous, the first centre at
(0.5, 0.5).
"""

from dataclasses import dataclass

import numpy as np

from st4rtrack.types import UserError


@dataclass(frozen=True)
class TeacherTracks:
    """Points of the anchor followed through the video in 2D.

    Attributes:
        query_px: [N, 2] in the anchor's image.
        tracks_px: [T, N, 2] float32; finite, also where the point is hidden.
        visible: [T, N] bool.
        name: the teacher and its version.
    Raises:
        UserError: the shapes disagree, there is one frame or no point, a number is not finite, or no point is visible in two frames.
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
                f"they are {list(tracks)}, {list(visible)} and {list(query)}"
            )
        if self.visible.dtype != np.bool_:
            raise UserError(f"visible of the tracks of {self.name} must be bool, it is {self.visible.dtype}")
        if tracks[0] < 2:
            raise UserError(f"tracks of {self.name} cover {tracks[0]} frame; adaptation needs a video of at least two")
        if not np.isfinite(self.tracks_px).all() or not np.isfinite(self.query_px).all():
            raise UserError(f"tracks of {self.name} hold numbers that are not finite; mark hidden points in visible instead")
        if not (self.visible.sum(axis=0) >= 2).any():
            raise UserError(
                f"tracks of {self.name} are visible in fewer than two frames, all of them; nothing can be learnt from these"
            )


@dataclass(frozen=True)
class TeacherDepth:
    """Depth of the video's frames, each with a scale of its own unless there are cameras.

    Attributes:
        depth: [T, H, W] float32 z-depth, 0 where it is unknown.
        name: the teacher and its version.
        world_from_camera: [T, 4, 4] float64 in the scale of that depth, NaN matrices where unknown; `None` when the teacher says
            nothing of cameras.
    Raises:
        UserError: the shapes disagree, there is one frame, or depth is not finite or negative.
    """

    depth: np.ndarray
    name: str
    world_from_camera: np.ndarray | None = None

    def __post_init__(self) -> None:
        if self.depth.ndim != 3:
            raise UserError(f"depth of {self.name} must be [frames, height, width], it is {list(self.depth.shape)}")
        if len(self.depth) < 2:
            raise UserError(f"depth of {self.name} covers {len(self.depth)} frame; adaptation needs a video of at least two")
        if not np.isfinite(self.depth).all():
            raise UserError(f"depth of {self.name} is not finite everywhere; write 0 where it is unknown")
        if (self.depth < 0).any():
            raise UserError(f"depth of {self.name} is negative somewhere; write 0 where it is unknown")
        if self.world_from_camera is not None and self.world_from_camera.shape != (len(self.depth), 4, 4):
            raise UserError(
                f"cameras of {self.name} must be [{len(self.depth)}, 4, 4], one per frame of its depth; "
                f"they are {list(self.world_from_camera.shape)}"
            )

    @property
    def silent(self) -> bool:
        """Whether it knows no depth at all, as of a video without parallax."""
        return not self.depth.any()


@dataclass(frozen=True)
class Priors:
    """All that a video's adaptation learns from.

    Attributes:
        tracks: of a grid of points of the anchor.
        depth: `None`: no teacher of depth, or one that had nothing to say.
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
