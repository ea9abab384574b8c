"""Classical geometry of a video seen from its anchor, frame after frame, in constant memory.

A survey of the frames next to the anchor gives the focal length and the anchor's static depth (`survey.py`). Then every frame has a
camera by resection against the reference, at first the anchor; where too little of the reference is still seen, the present frame
becomes the reference, surveyed with the frames before it and brought to the same scale. The flow from the anchor is chained along.

    geometry = AnchoredGeometry.of(anchor_rgb, frames_after_it)
    for rgb in frames_after_it: two_view = geometry.next(rgb)

Two chains of flow are kept, since no single one is right for all: what is static is matched with the reference directly, which takes
out the drift; what moves is followed in finer images from frame to frame, since looking for it directly finds what lies behind it.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import cv2
import numpy as np

from st4rtrack.classical.flow import FlowChain, dense_flow, returns, sample_flow
from st4rtrack.classical.given import Given, Units, survey_given
from st4rtrack.classical.side_by_side import side_by_side
from st4rtrack.classical.survey import Matches, Survey, absolute_camera, survey
from st4rtrack.classical.two_view import TwoView, pixel_rays, two_view_from_flow
from st4rtrack.geometry.camera import pixel_grid
from st4rtrack.geometry.transforms import invert_rigid, rigid
from st4rtrack.geometry.vectors import length

SURVEY_FRAMES = 64
SURVEY_MATCHES = 12
"""Frames that a survey looks at, and how many of them, evenly, it matches with the anchor."""
LOOK_BACK = 24
MIN_SEEN_SHARE = 0.3
"""Below this share of its known pixels, a reference is given up for the present frame."""
MIN_STAY = 6
MIN_POSE_INLIERS = 0.3
RE_PROJECTS_PX = 3.0
MOTION_ENLARGE = 2


@dataclass
class _Reference:
    """A frame with known depth, and the way from it to the present one."""

    grey: np.ndarray
    depth: np.ndarray
    anchor_from_reference: np.ndarray
    chain: FlowChain
    age: int = 0


class AnchoredGeometry:
    """Follows a video from its anchor on.

    Attributes:
        surveyed: focal length and depth of the anchor; `None` where the frames show no parallax: then every frame is a pair for itself.
    """

    def __init__(
        self,
        anchor_rgb: np.ndarray,
        surveyed: Survey | None,
        *,
        given: Given | None = None,
        units: Units | None = None,
        anchor_index: int = 0,
    ) -> None:
        self.surveyed, self.units = surveyed, units or Units()
        self._given, self._anchor_index = given or Given(), anchor_index
        self._anchor_rgb = anchor_rgb
        self._grey = cv2.cvtColor(anchor_rgb, cv2.COLOR_RGB2GRAY)
        height, width = self._grey.shape
        self._grid = pixel_grid(height, width)
        self._motion = FlowChain(height, width)
        depth = np.zeros((height, width), np.float32) if surveyed is None else surveyed.depth
        if surveyed is not None and surveyed.still is not None:
            depth = np.where(surveyed.still, depth, np.float32(0))
        self._reference = _Reference(self._grey, depth, np.eye(4), FlowChain(height, width))
        self._anchor_from_last = np.eye(4)
        self._past: deque[tuple[np.ndarray, np.ndarray]] = deque([(self._grey, np.eye(4))], maxlen=LOOK_BACK)

    @classmethod
    def of(
        cls,
        anchor_rgb: np.ndarray,
        after: Iterable[np.ndarray],
        *,
        given: Given | None = None,
        anchor_index: int = 0,
        way: Sequence[int] = (),
    ) -> "AnchoredGeometry":
        """Survey of an anchor [height, width, 3] uint8 with the frames next to it (the first `SURVEY_FRAMES` are read).

        Args:
            given: what is known of the video beforehand; then also the numbers of the anchor and of the frames (`way`) in it.
        """
        grey = cv2.cvtColor(anchor_rgb, cv2.COLOR_RGB2GRAY)
        frames = [cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY) for rgb in islice(after, SURVEY_FRAMES)]
        matches = _dense_matches(grey, frames) if frames else None
        if given is None:
            return cls(anchor_rgb, None if matches is None else survey(matches))
        matched = [way[k] for k in _matched(len(frames))]
        cameras = [given.anchor_from_camera(anchor_index, index) for index in matched]
        inverse = [None if each is None else invert_rigid(each) for each in cameras]
        surveyed, units = survey_given(given, given.depth_of(anchor_index), matches, inverse)
        if surveyed is not None and given.static is not None:
            surveyed = replace(surveyed, still=given.static(anchor_index))
        return cls(anchor_rgb, surveyed, given=given, units=units, anchor_index=anchor_index)

    def along(self) -> "AnchoredGeometry":
        """The same survey at its beginning, to follow the video in one direction."""
        return AnchoredGeometry(
            self._anchor_rgb, self.surveyed, given=self._given, units=self.units, anchor_index=self._anchor_index
        )

    @property
    def anchor_view(self) -> TwoView:
        """The anchor against itself."""
        zero = np.zeros((*self._grey.shape, 2), np.float32)
        alone = two_view_from_flow(zero, zero, self._given.focal_px)
        return alone if self.surveyed is None else self._view(zero, zero, self.surveyed.depth, np.eye(4))

    def next(self, rgb: np.ndarray, index: int | None = None) -> TwoView:
        """What is known of the anchor and the next frame [height, width, 3] uint8, and its number where something of it is given."""
        grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)
        reference, last = self._reference, self._grey
        forward, backward = both_ways(last, grey, enlarge=MOTION_ENLARGE)
        self._motion.extend(forward, backward)
        reference.chain.extend(forward, backward)
        reference.chain.correct(*both_ways(reference.grey, grey, reference.chain.forward, reference.chain.backward))
        reference.age += 1
        self._grey = grey
        if self.surveyed is None:
            seen = two_view_from_flow(reference.chain.forward, reference.chain.backward, self._given.focal_px)
            return replace(seen, forward_flow=self._motion.forward, backward_flow=self._motion.backward)
        frame_depth = self._locate(grey, index)
        return self._view(self._motion.forward, self._motion.backward, frame_depth, self._anchor_from_last)

    def _locate(self, grey: np.ndarray, index: int | None) -> np.ndarray:
        """Finds the present camera, and gives the depth [height, width] of the present frame as far as it is given or carried."""
        assert self.surveyed is not None
        reference, focal_px = self._reference, self.surveyed.focal_px
        known = reference.depth > 0
        seen = known & returns(reference.chain.forward, reference.chain.backward, share=0.02)
        given = self._given_camera(index)
        self._anchor_from_last = self._resected(grey.shape, seen) if given is None else given
        depth = self._carried(reference, invert_rigid(self._anchor_from_last) @ reference.anchor_from_reference, focal_px)
        depth = self._with_given(depth, index)
        self._past.append((grey, self._anchor_from_last))
        if seen.sum() < MIN_SEEN_SHARE * known.sum() and reference.age >= MIN_STAY:
            self._relay(grey, depth)
        return depth

    def _given_camera(self, index: int | None) -> np.ndarray | None:
        """`anchor_from_frame` [4, 4] in units of the survey, where it is given."""
        camera = None if index is None else self._given.anchor_from_camera(self._anchor_index, index)
        if camera is None or self.units.cameras is None:
            return None
        return rigid(camera[:3, :3], camera[:3, 3] / self.units.cameras)

    def _with_given(self, depth: np.ndarray, index: int | None) -> np.ndarray:
        """Depth [height, width] of a frame in units of the survey: what is given, elsewhere what was found."""
        given = None if index is None else self._given.depth_of(index)
        if given is None or self.units.depth is None:
            return depth
        return np.where(given > 0, given / np.float32(self.units.depth), depth).astype(np.float32)

    def _resected(self, size: tuple[int, ...], seen: np.ndarray) -> np.ndarray:
        """`anchor_from_frame` [4, 4] of the present frame, by the pixels [height, width] of the reference that are seen."""
        assert self.surveyed is not None
        reference, focal_px, size = self._reference, self.surveyed.focal_px, (size[0], size[1])
        rays = pixel_rays(self._grid, focal_px, size)
        camera, agreeing = absolute_camera(
            rays[seen], reference.depth[seen], (self._grid + reference.chain.forward)[seen], focal_px, size
        )
        if camera is None or agreeing < MIN_POSE_INLIERS:  # lost for the moment: as if the camera stood still
            camera = invert_rigid(self._anchor_from_last) @ reference.anchor_from_reference
        return reference.anchor_from_reference @ invert_rigid(camera)

    def _carried(self, reference: _Reference, frame_from_reference: np.ndarray, focal_px: float) -> np.ndarray:
        """The reference's depth in the present frame: where the flow leads back to known depth and re-projection agrees."""
        back_px = self._grid + reference.chain.backward
        inverse = np.where(reference.depth > 0, 1 / np.maximum(reference.depth, 1e-6), 0.0).astype(np.float32)
        known = sample_flow((reference.depth > 0).astype(np.float32), back_px) > 0.99
        size = reference.depth.shape
        distance = 1 / np.maximum(sample_flow(inverse, back_px), 1e-6)
        points = pixel_rays(back_px, focal_px, size) * distance[..., None]
        here = points @ frame_from_reference[:3, :3].T + frame_from_reference[:3, 3]
        pixels = here[..., :2] / np.maximum(here[..., 2:], 1e-6) * focal_px + (size[1] / 2, size[0] / 2)
        sound = known & returns(reference.chain.backward, reference.chain.forward, share=0.02) & (here[..., 2] > 0.02)
        sound &= length(pixels - self._grid) < RE_PROJECTS_PX
        return np.where(sound, here[..., 2], 0.0).astype(np.float32)

    def _relay(self, grey: np.ndarray, depth: np.ndarray) -> None:
        """Makes the present frame the reference, surveyed with the frames before it, in the scale of the old one."""
        assert self.surveyed is not None
        before = [past for past, _ in self._past][-2::-1]
        found = survey(_dense_matches(grey, before), self.surveyed.focal_px)
        both = (depth > 0) & (found.depth > 0) if found is not None else np.zeros_like(depth, bool)
        if found is None or both.mean() < 0.02:
            return
        scale = float(np.median(depth[both] / found.depth[both]))
        chain = FlowChain(*grey.shape)
        self._reference = _Reference(grey, found.depth * np.float32(scale), self._anchor_from_last, chain)

    def _view(self, forward: np.ndarray, backward: np.ndarray, frame_depth: np.ndarray, anchor_from_frame: np.ndarray) -> TwoView:
        assert self.surveyed is not None
        return TwoView(forward, backward, self.surveyed.depth, frame_depth, anchor_from_frame, self.surveyed.focal_px)


def _matched(count: int) -> list[int]:
    """Which of so many frames a survey matches with the anchor."""
    return np.unique(np.linspace(0, count - 1, SURVEY_MATCHES).astype(int)).tolist() if count else []


def _dense_matches(grey: np.ndarray, frames: list[np.ndarray]) -> Matches:
    """Matches of every pixel of an image with some of the frames that follow it."""
    height, width = grey.shape
    chosen = set(_matched(len(frames)))
    grid, chain, last = pixel_grid(height, width), FlowChain(height, width), grey
    pixels, valid = [], []
    for k, frame in enumerate(frames):
        chain.extend(*both_ways(last, frame))
        if k in chosen:
            chain.correct(*both_ways(grey, frame, chain.forward, chain.backward))
            pixels.append((grid + chain.forward).reshape(-1, 2))
            valid.append(returns(chain.forward, chain.backward, share=0.02).ravel())
        last = frame
    return Matches(grid.reshape(-1, 2), np.stack(pixels), np.stack(valid), (height, width))


def both_ways(
    a: np.ndarray, b: np.ndarray, forward: np.ndarray | None = None, backward: np.ndarray | None = None, *, enlarge: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Flow from a to b and back, at the same time where OpenCV may use two threads."""
    there, back = side_by_side(lambda call: dense_flow(*call, enlarge=enlarge), ((a, b, forward), (b, a, backward)))
    return there, back


def follow_video(anchor_rgb: np.ndarray, frames: list[np.ndarray]) -> Iterator[TwoView]:
    """`TwoView` of an anchor with itself and then with every frame that follows it."""
    geometry = AnchoredGeometry.of(anchor_rgb, frames)
    yield geometry.anchor_view
    yield from map(geometry.next, frames)
