"""Checks of single and neighbouring frames: too dark, textureless, hard cuts. Streaming, a few milliseconds per frame.

All images are reduced to grey with a long side of `ANALYSIS_SIDE`. A band-pass (difference of Gaussians) removes exposure,
shading and most of the sensor noise; the rest is texture that optical flow can match.
"""

from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

import cv2
import numpy as np

from st4rtrack.classical.flow import dense_flow, returns, sample_flow
from st4rtrack.classical.two_view import ASSUMED_FOCAL, pinhole, sparse_matches
from st4rtrack.geometry.camera import pixel_grid
from st4rtrack.geometry.vectors import length

ANALYSIS_SIDE = 128
"""Long side of the analysed images: flow both ways takes 2 ms, motion of a fifth of the image is still matched."""
SPARSE_SIDE = 256
"""Long side of the images for sparse feature matching where flow fails."""
NEIGHBOURHOOD_PX = 9
MIN_CONTRAST = 2.0
"""Standard deviation (grey levels, band-passed) of a textured neighbourhood: codecs and quantisation cause about 0.5."""
MIN_CONTRAST_OF_LAPLACIAN = 0.15
"""Minimum contrast relative to the standard deviation of the Laplacian: 0.06 for white noise, above 0.4 for photographs."""
MIN_TEXTURED_SHARE = 0.1
"""Minimum share of textured neighbourhoods: at least 0.21 in photographs and real clips, 0.71 in 95 of 100 frames."""
BLACK_LEVEL, DARK_LEVEL = 24, 64
"""The 95th percentile of grey levels below which a frame without texture is black, or dark."""
MAX_LIGHTS, MAX_LIGHT_SHARE = 12, 0.1
"""In a frame with black median, at most so many bright spots, each of at most this share of the image, are lights (lamps,
headlights). They move independently, so that texture must be found outside of them and of their glow."""
GLOW, GLOW_PX = 0.75, 3
"""Reach of the glow around a light: share of its size, and analysis pixels beyond that."""
MIN_CORRELATION = 0.6
MAX_CUT_MATCHED = 0.15
"""Matched share across a cut: 0.12 at most (300 pairs of unrelated clips); of neighbouring frames: 0.14 at least, usually 0.9."""
MIN_SHOT_MATCHED = 0.3
"""Matched share above which two frames show one place."""
MAX_STEADY_CUT_MATCHED = 0.3
"""Maximum matched share at a cut between two steady shots: rooms of similar texture share up to 0.22."""
MIN_STEADY_MATCHED = 0.85
"""Minimum matched share of a steady shot: both steps of a blended frame stay below it, all others must reach it."""
MIN_RETURN_MATCHED = 0.6
"""Matched share above which a steady shot continues: rooms of similar texture share up to 0.32."""
RETURN_FRAMES = 3
"""Frames after a suspected cut in which the old shot may return: a flash or a person passing the lens is not a cut."""

DISSOLVE_FRAMES, DISSOLVE_EVERY = 12, 4
"""Frames over which a cross-fade or a wipe is looked for, and every how many frames that is done."""
MAX_DISSOLVE_PATH = 0.12
"""Maximum motion over these frames in long sides of the image (0.07 in cross-fades, 0.2 where a camera leaves all content behind)."""

FrameState = Literal["usable", "black", "dark", "low_texture"]


@dataclass(frozen=True)
class _Frame:
    index: int
    grey: np.ndarray
    band: np.ndarray
    textured: np.ndarray
    glow: np.ndarray
    sparse_grey: np.ndarray


@dataclass
class _Suspect:
    """A suspected cut: two frames without matches, to be confirmed by the following frames.

    Attributes:
        needed: minimum matched share of the following steps.
        steps: matched shares of these steps.
    """

    before: _Frame
    after: _Frame
    needed: float
    steps: list[float] = field(default_factory=list)


@dataclass
class _Direction:
    """Usable frames in one direction: the last two, and the matched shares of the last two steps.

    Attributes:
        past: the last frames, each with the length of the image motion up to it and the matched share of the step after it.
        lost: a frame and a later frame that shows nothing of it, until a third frame confirms it.
    """

    last: _Frame
    previous: _Frame | None = None
    steps: tuple[float, float] = (1.0, 1.0)
    suspect: _Suspect | None = None
    past: deque[tuple[_Frame, float, float]] = field(default_factory=lambda: deque(maxlen=DISSOLVE_FRAMES + 1))
    path_px: float = 0.0
    num_steps: int = 0
    lost: tuple[_Frame, _Frame] | None = None


class FrameChecks:
    """State of every frame and hard cuts of a video; frames arrive outward from an anchor (or in order).

    Attributes:
        states: state of every frame added, by frame index.
        cuts: index of the first frame after each cut, in video order; complete after `finish`.
    """

    def __init__(self) -> None:
        self.states: dict[int, FrameState] = {}
        self._cuts: set[int] = set()
        self._first_index: int | None = None
        self._first_usable: _Frame | None = None
        self._last_index = 0
        self._direction: _Direction | None = None

    @property
    def cuts(self) -> tuple[int, ...]:
        return tuple(sorted(self._cuts))

    def add(self, index: int, rgb: np.ndarray) -> FrameState:
        """Check frame `index`, an image [height, width, 3] uint8, adjacent to the last frame or to the first one added."""
        frame = _reduced(index, rgb)
        self.states[index] = state = _state(frame)
        if self._first_index is None:
            self._first_index = index
        elif abs(index - self._last_index) != 1 and abs(index - self._first_index) == 1:  # the other direction begins
            self.finish()
            self._direction = None if self._first_usable is None else _Direction(self._first_usable)
        self._last_index = index
        if state == "usable":
            self._first_usable = self._first_usable or frame
            self._step(frame)
        return state

    def finish(self) -> tuple[int, ...]:
        """Finish after the last frame; return the cuts."""
        if self._direction is not None and self._direction.suspect is not None:
            self._decide(self._direction.suspect)
            self._direction.suspect = None
        if self._direction is not None and self._direction.lost is not None:
            self._confirm_dissolve(self._direction, *self._direction.lost, self._direction.last)
        return self.cuts

    def frames_in(self, *states: FrameState) -> tuple[int, ...]:
        """Indices of the frames with one of the states."""
        return tuple(sorted(index for index, state in self.states.items() if state in states))

    def _step(self, frame: _Frame) -> None:
        direction = self._direction
        if direction is None:
            self._direction = _Direction(frame)
            return
        matched, motion_px = _match(direction.last, frame)
        self._look_for_dissolve(direction, frame, matched, motion_px)
        if direction.suspect is None:
            direction.suspect = self._suspect(direction, frame, matched)
        else:
            direction.suspect.steps.append(matched)
            if _same_place(direction.suspect.before, frame, min(direction.suspect.needed, MIN_RETURN_MATCHED)):
                direction.suspect = None
            elif len(direction.suspect.steps) >= RETURN_FRAMES:
                self._decide(direction.suspect)
                direction.suspect = None
        direction.previous, direction.last, direction.steps = direction.last, frame, (direction.steps[1], matched)

    def _look_for_dissolve(self, direction: _Direction, frame: _Frame, matched: float, motion_px: float) -> None:
        """Find cross-fades and wipes: a later frame shows nothing of an earlier one although the image hardly moved between them."""
        direction.past.append((direction.last, direction.path_px, matched))
        direction.path_px += motion_px
        direction.num_steps += 1
        if direction.num_steps % DISSOLVE_EVERY:
            return
        if direction.lost is not None:
            self._confirm_dissolve(direction, *direction.lost, frame)
            return
        old, path_px, _ = direction.past[0]
        low, high = sorted((old.index, frame.index))
        if direction.path_px - path_px > MAX_DISSOLVE_PATH * max(frame.grey.shape) or any(
            low < cut <= high for cut in self._cuts
        ):
            return
        steady = np.median([share for _, _, share in direction.past]) > MIN_STEADY_MATCHED
        if steady and direction.suspect is None and not _same_place(old, frame, MAX_CUT_MATCHED):
            direction.lost = old, frame

    def _confirm_dissolve(self, direction: _Direction, old: _Frame, after: _Frame, frame: _Frame) -> None:
        """Add a dissolve as a cut, at the first frame that shows more of the new shot, if that is steady (water is not)."""
        direction.lost = None
        low, high = sorted((old.index, frame.index))
        if any(low < cut <= high for cut in self._cuts) or _same_place(old, frame, MIN_SHOT_MATCHED):
            return
        if after is not frame and matched_share(after, frame) < MIN_STEADY_MATCHED:
            return
        between = [each for each, _, _ in direction.past if each.index != old.index] + [frame]
        first = next(each for each in between if each is frame or matched_share(each, frame) > matched_share(old, each))
        self._cuts.add(max(first.index, first.index + (frame.index < old.index)))

    @staticmethod
    def _suspect(direction: _Direction, frame: _Frame, matched: float) -> _Suspect | None:
        """Suspected cut between the last frame and this one, or around the last one, if it blends two shots."""
        before_that, before = direction.steps
        if matched < MAX_CUT_MATCHED:
            suspicious = before >= MIN_SHOT_MATCHED and not _sparse_match(direction.last, frame)
            return _Suspect(direction.last, frame, MIN_SHOT_MATCHED) if suspicious else None
        if matched < MAX_STEADY_CUT_MATCHED and min(before, before_that) > MIN_STEADY_MATCHED:
            return None if _sparse_match(direction.last, frame) else _Suspect(direction.last, frame, MIN_STEADY_MATCHED)
        if max(matched, before) > MIN_STEADY_MATCHED or before_that < MIN_STEADY_MATCHED or direction.previous is None:
            return None
        suspicious = matched_share(direction.previous, frame) < MAX_CUT_MATCHED and not _sparse_match(direction.previous, frame)
        return _Suspect(direction.previous, frame, MIN_STEADY_MATCHED) if suspicious else None

    def _decide(self, suspect: _Suspect) -> None:
        """Confirm a cut if the following frames match each other: fast motion has several unmatched steps in a row."""
        lost = sum(matched < suspect.needed for matched in suspect.steps)
        if lost <= len(suspect.steps) // 2:
            self._cuts.add(max(suspect.before.index, suspect.after.index))


def frame_state(rgb: np.ndarray) -> FrameState:
    """State of a single frame [height, width, 3] uint8."""
    return _state(_reduced(0, rgb))


def unusable_warning_code(states: Iterable[FrameState]) -> FrameState | None:
    """State of most of the unusable frames, `None` if at least half of all frames are usable."""
    counts = Counter(states)
    total, usable = counts.total(), counts.pop("usable", 0)
    return counts.most_common(1)[0][0] if 2 * usable < total else None


def matched_share(first: _Frame, second: _Frame) -> float:
    """Share of the textured neighbourhoods of a frame that `_match` finds in another."""
    return _match(first, second)[0]


def _match(first: _Frame, second: _Frame) -> tuple[float, float]:
    """Share of the textured neighbourhoods of a frame matched in another, and their median motion (infinite if none)."""
    forward, backward = dense_flow(first.grey, second.grey), dense_flow(second.grey, first.grey)
    then = pixel_grid(*first.grey.shape) + forward
    there = sample_flow(second.band[..., None], then).reshape(first.band.shape)
    variances = _local_mean(first.band**2) * _local_mean(there**2)
    correlation = _local_mean(first.band * there) / np.sqrt(np.maximum(variances, 1e-6))
    matched = returns(forward, backward) & (correlation > MIN_CORRELATION) & first.textured
    motion_px = float(np.median(length(forward)[matched])) if matched.any() else np.inf
    return float(matched.sum() / max(first.textured.sum(), 1)), motion_px


def _same_place(first: _Frame, second: _Frame, needed: float) -> bool:
    return matched_share(first, second) > needed or _sparse_match(first, second)


def _sparse_match(first: _Frame, second: _Frame) -> bool:
    size = first.sparse_grey.shape
    camera = pinhole(ASSUMED_FOCAL * max(size), (size[0], size[1]))
    return sparse_matches(first.sparse_grey, second.sparse_grey, camera) is not None


def _state(frame: _Frame) -> FrameState:
    if frame.textured.mean() >= MIN_TEXTURED_SHARE:
        return "usable"
    bright = np.percentile(np.where(frame.glow, 0, frame.grey), 95)
    return "black" if bright < BLACK_LEVEL and frame.band.std() < 0.5 else "dark" if bright < DARK_LEVEL else "low_texture"


def _reduced(index: int, rgb: np.ndarray) -> _Frame:
    sparse_grey = _resized(cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY), SPARSE_SIDE)
    grey = _resized(sparse_grey, ANALYSIS_SIDE)
    levels = grey.astype(np.float32)
    band = cv2.GaussianBlur(levels, (0, 0), 1.0) - cv2.GaussianBlur(levels, (0, 0), 5.0)
    contrast, fine = _local_mean(band**2), _local_mean(cv2.Laplacian(levels, cv2.CV_32F) ** 2)
    textured = (contrast > MIN_CONTRAST**2) & (contrast > MIN_CONTRAST_OF_LAPLACIAN**2 * fine)
    glow = _glow(grey)
    return _Frame(index, grey, band, textured & ~glow, glow, sparse_grey)


def _glow(grey: np.ndarray) -> np.ndarray:
    """[height, width] bool: a few lights in a dark image with their glow; empty for other images."""
    glow = np.zeros(grey.shape, bool)
    if np.median(grey) >= BLACK_LEVEL:
        return glow
    num, _, spots, _ = cv2.connectedComponentsWithStats((grey > DARK_LEVEL).astype(np.uint8))
    if num - 1 > MAX_LIGHTS or spots[1:, cv2.CC_STAT_AREA].max(initial=0) > MAX_LIGHT_SHARE * grey.size:
        return glow
    for left, top, width, height, _ in spots[1:].tolist():
        reach = round(GLOW * max(width, height)) + GLOW_PX
        glow[max(top - reach, 0) : top + height + reach, max(left - reach, 0) : left + width + reach] = True
    return glow


def _resized(grey: np.ndarray, side: int) -> np.ndarray:
    """Grey image resized to a long side of at most `side` and a short side of at least 16 pixels (for the flow pyramid)."""
    scale = min(side / max(grey.shape), 1.0)
    size = (max(round(grey.shape[1] * scale), 16), max(round(grey.shape[0] * scale), 16))
    return cv2.resize(grey, size, interpolation=cv2.INTER_AREA)


def _local_mean(values: np.ndarray) -> np.ndarray:
    return np.maximum(cv2.boxFilter(values, -1, (NEIGHBOURHOOD_PX, NEIGHBOURHOOD_PX)), 0)
