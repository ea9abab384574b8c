"""The two interfaces, and what all teachers need of a video."""

from typing import Protocol

import numpy as np

from st4rtrack.adapt.priors import TeacherDepth, TeacherTracks
from st4rtrack.types import UserError


class TrackTeacher(Protocol):
    """Follows points of the anchor in 2D.

    Attributes:
        name: teacher and version; what it says is kept under this name.
        follows_any: whether it follows the points that it is asked for; otherwise it has tracks of its own, which it always gives.
    """

    @property
    def name(self) -> str: ...

    @property
    def follows_any(self) -> bool: ...

    def tracks(self, rgb: np.ndarray, query_px: np.ndarray, anchor_index: int) -> TeacherTracks:
        """Tracks of points.

        Args:
            rgb: [T, H, W, 3] uint8, network size.
            query_px: [N, 2] pixels of the anchor.
            anchor_index: which of the frames is the anchor.
        Raises:
            UserError: the video has one frame, or the teacher has nothing for it.
        """
        ...


class DepthTeacher(Protocol):
    """Knows depth of frames.

    Attributes:
        name: teacher and version; what it says is kept under this name.
    """

    @property
    def name(self) -> str: ...

    def depth(self, rgb: np.ndarray, anchor_index: int) -> TeacherDepth:
        """Depth of all frames.

        Args:
            rgb: [T, H, W, 3] uint8, network size.
            anchor_index: the frame whose camera is the world, where the teacher gives cameras.
        Raises:
            UserError: the video has one frame, or the teacher has nothing for it.
        """
        ...


def require_frames(rgb: np.ndarray) -> None:
    """A video of at least two frames.

    Raises:
        UserError: it has fewer.
    """
    if len(rgb) < 2:
        raise UserError(f"the video has {len(rgb)} frame; adaptation learns from motion and needs at least two")
