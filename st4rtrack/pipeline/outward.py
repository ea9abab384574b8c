"""The order in which a video is read: outward from the anchor, so that what moves can be followed from frame to frame."""

from collections.abc import Iterator, Sequence

import numpy as np

from st4rtrack.classical.anchored import SURVEY_FRAMES, AnchoredGeometry
from st4rtrack.classical.given import Given, Units
from st4rtrack.classical.survey import Survey
from st4rtrack.classical.two_view import TwoView
from st4rtrack.types import Video

FRAMES_AT_ONCE = 32
"""Frames that are read forwards to be given backwards: what the way back holds in memory."""


class Outward:
    """Frames of a video from the anchor to its end, then from the anchor to its start, with what classical geometry knows of them.

    Args:
        video: at network size.
        anchor_index, anchor_rgb: the anchor, [height, width, 3] uint8.
        with_geometry: whether the network wants to know it; without, nothing is computed.
        given: what the user knows of the video.

    Attributes:
        anchor_view: the anchor against itself, `None` without geometry.
    """

    def __init__(
        self,
        video: Video,
        anchor_index: int,
        anchor_rgb: np.ndarray,
        *,
        with_geometry: bool,
        given: Given | None = None,
    ) -> None:
        self._video, self._anchor_index, self._anchor_rgb, self._given = video, anchor_index, anchor_rgb, given
        self._survey = self._surveyed() if with_geometry else None
        self.anchor_view: TwoView | None = None if self._survey is None else self._survey.anchor_view

    @property
    def surveyed(self) -> Survey | None:
        """Focal length and static depth of the anchor, where the video determines them."""
        return None if self._survey is None else self._survey.surveyed

    @property
    def units(self) -> Units:
        """Of what was given, in that of the network's hints: `None` where the hints do not hold it."""
        return Units() if self._survey is None or self.surveyed is None else self._survey.units

    def frames(self, done: Sequence[bool] | np.ndarray) -> Iterator[tuple[int, np.ndarray, TwoView | None]]:
        """Number, image and view of every frame that is not done; done ones are only looked at where the way leads through them."""
        after = range(self._anchor_index, len(self._video))
        before = range(self._anchor_index - 1, -1, -1)
        yield from self._along(after, done)
        yield from self._along(before, done)

    def _along(self, way: range, done: Sequence[bool] | np.ndarray) -> Iterator[tuple[int, np.ndarray, TwoView | None]]:
        missing = [index for index in way if not done[index]]
        if not missing:
            return
        if self._survey is None:  # nothing is followed, so the way begins where something is missing
            way = way[way.index(missing[0]) :]
        geometry = None if self._survey is None else self._survey.along()
        for index, rgb in zip(way, self._read(way), strict=True):
            view = None
            if geometry is not None:
                view = geometry.anchor_view if index == self._anchor_index else geometry.next(rgb, index)
            if not done[index]:
                yield index, rgb, view

    def _read(self, way: range) -> Iterator[np.ndarray]:
        if way.step > 0:
            yield from self._video.frames(way.start, way.stop)
            return
        for stop in range(way.start + 1, 0, -FRAMES_AT_ONCE):
            yield from list(self._video.frames(max(0, stop - FRAMES_AT_ONCE), stop))[::-1]

    def _surveyed(self) -> AnchoredGeometry:
        """From the frames after the anchor, or, where they show no parallax, from those before it."""
        after = range(self._anchor_index + 1, min(self._anchor_index + 1 + SURVEY_FRAMES, len(self._video)))
        before = range(self._anchor_index - 1, max(self._anchor_index - 1 - SURVEY_FRAMES, -1), -1)
        found = self._survey_along(after)
        return self._survey_along(before) if found.surveyed is None and len(before) else found

    def _survey_along(self, way: range) -> AnchoredGeometry:
        known, anchor_index = self._given, self._anchor_index
        return AnchoredGeometry.of(self._anchor_rgb, self._read(way), given=known, anchor_index=anchor_index, way=way)
