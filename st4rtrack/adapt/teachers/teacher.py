"""Interfaces of track and depth teachers, and the check of their input."""

from typing import Protocol

import numpy as np

from st4rtrack.adapt.priors import TeacherDepth, TeacherTracks
from st4rtrack.types import UserError


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
        """Track points through the video.

        Args:
            rgb: [T, H, W, 3] uint8, network size.
            query_px: [N, 2] pixels of the anchor.
            anchor_index: index of the anchor frame.
        Raises:
            UserError: the video has one frame, or the teacher does not support it.
        """
        ...


class DepthTeacher(Protocol):
    """Provides depth of frames.

    Attributes:
        name: teacher and version, part of the cache key.
    """

    @property
    def name(self) -> str: ...

    def depth(self, rgb: np.ndarray, anchor_index: int) -> TeacherDepth:
        """Compute or read the depth of all frames.

        Args:
            rgb: [T, H, W, 3] uint8, network size.
            anchor_index: index of the frame whose camera is the world frame, if the teacher provides cameras.
        Raises:
            UserError: the video has one frame, or the teacher does not support it.
        """
        ...


def require_frames(rgb: np.ndarray) -> None:
    """Check that a video has at least two frames.

    Raises:
        UserError: the video has fewer.
    """
    if len(rgb) < 2:
        raise UserError(f"the video has {len(rgb)} frame; adaptation learns from motion and needs at least two")
