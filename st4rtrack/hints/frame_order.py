"""Frame order: outward from the anchor, so that optical flow can be chained."""

from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np

from st4rtrack.classical.anchor import NEIGHBOUR_FRAMES, Units, neighbour_matches
from st4rtrack.classical.anchored import AnchoredGeometry, SolveCameras, StepFlow
from st4rtrack.classical.camera_motion import CameraMotion, camera_motion
from st4rtrack.classical.frame_checks import FrameChecks
from st4rtrack.classical.two_view import TwoView
from st4rtrack.types import KnownVideo, Video

FRAMES_AT_ONCE = 32
"""Number of frames read forwards at once to be yielded backwards: the memory needed before the anchor."""
MIN_FRAMES_AFTER = 8
"""Number of frames after the anchor below which those before it are used, if they are more, for the geometry of the anchor."""


class OrderedFrames:
    """Frames of a video from the anchor to its end, then from the anchor to its start, with their classical geometry.

    Every frame is checked when it is read: black or featureless frames, and all frames beyond a hard cut, are unsolved.

    Args:
        video: at network size.
        anchor_index: index of the anchor.
        with_geometry: whether to compute classical geometry.
        known: known geometry of the video.
        solve: see `AnchoredGeometry.of`.
        step_flow: see `AnchoredGeometry.along`.

    Attributes:
        video, anchor_index: as passed.
        anchor_rgb: [height, width, 3] uint8.
        geometry: classical geometry relative to the anchor; `None` without geometry.
        checks: states and hard cuts of the frames read so far.
        unsolved: indices of the frames read so far whose pose cannot be estimated, as known when they were read.
    """

    def __init__(
        self,
        video: Video,
        anchor_index: int,
        *,
        with_geometry: bool,
        known: KnownVideo | None = None,
        solve: SolveCameras | None = None,
        step_flow: StepFlow | None = None,
    ) -> None:
        self.video, self.anchor_index, self.anchor_rgb, self._known = video, anchor_index, video.frame(anchor_index), known
        self._step_flow = step_flow
        self._solve = None if solve is None else cache(solve)
        self.checks = FrameChecks()
        self.unsolved: set[int] = set()
        self.geometry = self._geometry_of_anchor() if with_geometry else None
        self._motion = None if with_geometry else self._motion_alone()

    def near_frames(self, count: int) -> list[tuple[int, np.ndarray]]:
        """Index and image of the anchor and of up to `count` frames evenly spaced among the usable ones next to it."""
        after, before = self._near
        frames = self._usable(after if len(after) >= len(before) else before)
        return [(self.anchor_index, self.anchor_rgb), *frames[:: max(1, -(-len(frames) // count))]]

    @property
    def motion(self) -> CameraMotion | None:
        """Camera motion around the anchor; `None` if unknown."""
        return self._motion if self.geometry is None else self.geometry.motion

    @property
    def focals_px(self) -> np.ndarray | None:
        """[T] focal length of each frame in network pixels; `None` if it is constant."""
        return None if self.geometry is None else self.geometry.focals_px

    @property
    def zooms(self) -> bool:
        """Whether the focal length changes and is unknown."""
        return self.focals_px is None and self.motion is not None and self.motion.kind in ("zoom", "dolly_zoom")

    @property
    def units(self) -> Units:
        """Units of the known geometry that the classical geometry contains; `None` for what it does not contain."""
        return Units() if self.geometry is None else self.geometry.units

    def frames(self, done: Sequence[bool] | np.ndarray) -> Iterator[tuple[int, np.ndarray, TwoView | None]]:
        """Index, image and two-view geometry of every frame that is not done.

        Frames that are done are read again where flow and cuts must be tracked through them.
        """
        after = range(self.anchor_index, len(self.video))
        before = range(self.anchor_index - 1, -1, -1)
        yield from self._along(after, done)
        yield from self._along(before, done)
        self.checks.finish()

    @property
    def all_unsolved(self) -> set[int]:
        """`unsolved`, plus frames that were read before their cut was detected; complete once all frames are read."""
        return self.unsolved | {index for index in range(len(self.video)) if self._is_beyond_cut(index)}

    def _along(self, direction: range, done: Sequence[bool] | np.ndarray) -> Iterator[tuple[int, np.ndarray, TwoView | None]]:
        # frames that are done are still checked: a resumed run reports the same cuts and dark frames
        geometry = None if self.geometry is None else self.geometry.along(self._step_flow)
        for index, rgb in zip(direction, self._read(direction), strict=True):
            usable = self.checks.add(index, rgb) == "usable" and not self._is_beyond_cut(index)
            view = None
            if geometry is not None:
                view = self._view(geometry, index, rgb, usable=usable)
                usable = geometry.solved
            if not usable and index != self.anchor_index:
                self.unsolved.add(index)
            if not done[index]:
                yield index, rgb, view

    def _view(self, geometry: AnchoredGeometry, index: int, rgb: np.ndarray, *, usable: bool) -> TwoView:
        if index == self.anchor_index:
            return geometry.anchor_view
        return geometry.next(rgb, index) if usable else geometry.skip()

    def _is_beyond_cut(self, index: int) -> bool:
        """Whether a hard cut lies between the frame and the anchor. A cut is the index of the first frame after it."""
        low, high = sorted((index, self.anchor_index))
        return any(low < cut <= high for cut in self.checks.cuts)

    def _read(self, direction: range) -> Iterator[np.ndarray]:
        if direction.step > 0:
            yield from self.video.frames(direction.start, direction.stop)
            return
        for stop in range(direction.start + 1, 0, -FRAMES_AT_ONCE):
            yield from list(self.video.frames(max(0, stop - FRAMES_AT_ONCE), stop))[::-1]

    def _geometry_of_anchor(self) -> AnchoredGeometry:
        """Geometry from the frames after the anchor, or before it if only those have parallax, are usable or are numerous."""
        after, before = self._near
        found = self._geometry_along(after)
        if found.anchor_depth is not None or not len(before):
            return found
        other = self._geometry_along(before)
        few = other.motion is not None and len(after) < min(MIN_FRAMES_AFTER, len(before))
        return other if other.anchor_depth is not None or found.motion is None or few else found

    def _motion_alone(self) -> CameraMotion | None:
        """Camera motion alone, without geometry."""
        after, before = self._near
        static = None if self._known is None or self._known.static is None else self._known.static(self.anchor_index)
        direction = after if len(after) >= min(MIN_FRAMES_AFTER, len(before)) else before
        matches = neighbour_matches(self.anchor_rgb, [rgb for _, rgb in self._usable(direction)], static)
        return None if matches is None else camera_motion(matches, static=static)

    @property
    def _near(self) -> tuple[range, range]:
        """Frames next to the anchor, after it and before it, outward."""
        after = range(self.anchor_index + 1, min(self.anchor_index + 1 + NEIGHBOUR_FRAMES, len(self.video)))
        return after, range(self.anchor_index - 1, max(self.anchor_index - 1 - NEIGHBOUR_FRAMES, -1), -1)

    def _geometry_along(self, direction: range) -> AnchoredGeometry:
        frames = self._usable(direction)
        return AnchoredGeometry.of(
            self.anchor_rgb,
            [rgb for _, rgb in frames],
            known=self._known,
            anchor_index=self.anchor_index,
            order=[index for index, _ in frames],
            solve=self._solve,
        )

    def _usable(self, direction: range) -> list[tuple[int, np.ndarray]]:
        """Usable frames of a range, up to the first hard cut."""
        checks = FrameChecks()
        checks.add(self.anchor_index, self.anchor_rgb)
        frames = [
            (index, rgb)
            for index, rgb in zip(direction, self._read(direction), strict=True)
            if checks.add(index, rgb) == "usable"
        ]
        beyond = [cut if direction.step > 0 else cut - 1 for cut in checks.finish()]
        near = direction[: min((direction.index(index) for index in beyond if index in direction), default=len(direction))]
        return [(index, rgb) for index, rgb in frames if index in near]
