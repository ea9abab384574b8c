"""Key frames of a video with SIFT features, tracked into the frames between them. Streaming, in constant memory."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import cv2
import numpy as np

from st4rtrack.classical.two_view import root_sift
from st4rtrack.geometry.sampling import inside_image
from st4rtrack.geometry.vectors import length

MAX_FEATURES = 800
CONTRAST_THRESHOLD = 0.01
"""Half of OpenCV's default: rooms with plain walls otherwise have few features. The strongest features are used."""
MIN_SIDE, MAX_SIDE = 512, 720
"""Range of the long side of the analysed images. Small images are enlarged: otherwise they give a quarter of the features."""
MAX_DISPLACEMENT = 0.03
"""Median feature motion, in long sides of the image, above which a frame becomes a key frame."""
MIN_TRACKED_SHARE = 0.6
"""Share of features still tracked, below which a frame becomes a key frame."""
MIN_CLIP_KEY_FRAMES = 24
"""Minimum number of key frames of a clip: short or slow clips get closer ones."""
MAX_GAP = 12
"""Maximum number of frames from one key frame to the next."""
LK_WINDOW, LK_LEVELS = (15, 15), 4
RETURN_ERROR_PX = 1.0

MAX_RATIO, MAX_ANGLE = 0.8, 0.7
"""Maximum ratio of the descriptor angles (radians) of the best and the second-best match, and maximum angle."""

StaticMask = Callable[[int], np.ndarray]
"""Function from a frame index to its static pixels [height, width] bool, at any size."""


@dataclass
class Observations:
    """Features of a key frame tracked into a nearby frame: `feature` [n] feature indices, `px` [n, 2] pixels."""

    feature: np.ndarray
    px: np.ndarray


@dataclass
class Between:
    """A frame between two key frames, with the features of both tracked into it (`None` after the last key frame)."""

    index: int
    previous: Observations
    following: Observations | None = None


@dataclass
class KeyFrame:
    """A key frame with its features, and the frames since the previous key frame.

    Attributes:
        index: frame index.
        px: [features, 2] working pixels.
        descriptors: [features, 128] float32 of unit length (RootSIFT).
        between: frames since the previous key frame.
    """

    index: int
    px: np.ndarray
    descriptors: np.ndarray
    between: list[Between] = field(default_factory=list)


def working_scale(height: int, width: int) -> float:
    """Scale from source to working pixels."""
    long_side = max(height, width)
    return float(np.clip(long_side, MIN_SIDE, MAX_SIDE) / long_side)


def key_frames(
    frames: Iterable[tuple[int, np.ndarray]], *, num_frames: int | None = None, static: StaticMask | None = None
) -> Iterator[KeyFrame]:
    """Key frames of a stream of indexed RGB or grey frames [height, width(, 3)] uint8. The last frame always is one.

    Args:
        frames: of one size, in order, read once; unusable frames may be missing.
        num_frames: length of the video; short ones get close key frames.
        static: only features on these pixels are used.
    """
    max_gap = MAX_GAP if num_frames is None else int(np.clip(num_frames // MIN_CLIP_KEY_FRAMES, 1, MAX_GAP))
    key: KeyFrame | None = None
    key_grey = last_grey = np.zeros((0, 0), np.uint8)
    between: list[tuple[Between, np.ndarray]] = []
    for index, rgb in frames:
        grey = last_grey = _working_grey(rgb)
        if key is None:
            key, key_grey = _key_frame(index, grey, static), grey
            yield key
            continue
        seen = None if index - key.index >= max_gap else _tracked(key_grey, grey, key.px)
        if seen is None or _moved_on(key.px, seen, grey.shape):
            key, key_grey = _close(index, grey, between, static), grey
            between = []
            yield key
        else:
            between.append((Between(index, seen), grey))
    if key is not None and between:
        last = between.pop()[0]
        yield _close(last.index, last_grey, between, static)


def matches_of(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """[matches, 2] mutual nearest neighbours that pass the ratio test."""
    if min(len(one), len(other)) < 2:
        return np.zeros((0, 2), np.int64)
    similarity = one @ other.T
    best = similarity.argmax(axis=1)
    mutual = np.flatnonzero(similarity.argmax(axis=0)[best] == np.arange(len(one)))
    second, first = np.arccos(np.clip(np.partition(similarity[mutual], -2, axis=1)[:, -2:], -1, 1)).T
    clear = mutual[(first < MAX_ANGLE) & (first < MAX_RATIO * second)]
    return np.stack([clear, best[clear]], axis=1)


def _close(index: int, grey: np.ndarray, between: list[tuple[Between, np.ndarray]], static: StaticMask | None) -> KeyFrame:
    """Key frame after some frames, with its features tracked back into them."""
    key = _key_frame(index, grey, static)
    for frame, frame_grey in between:
        frame.following = _tracked(grey, frame_grey, key.px)
        key.between.append(frame)
    return key


def _moved_on(px: np.ndarray, seen: Observations, size: tuple[int, ...]) -> bool:
    if len(seen.feature) < MIN_TRACKED_SHARE * len(px):
        return True
    return bool(np.median(length(seen.px - px[seen.feature])) > MAX_DISPLACEMENT * max(size)) if len(px) else False


def _working_grey(rgb: np.ndarray) -> np.ndarray:
    grey = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY) if rgb.ndim == 3 else rgb
    scale = working_scale(*grey.shape)
    if scale == 1:
        return grey
    size = (round(grey.shape[1] * scale), round(grey.shape[0] * scale))
    return cv2.resize(grey, size, interpolation=cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA)


def _key_frame(index: int, grey: np.ndarray, static: StaticMask | None) -> KeyFrame:
    mask = None
    if static is not None:
        mask = cv2.resize(static(index).astype(np.uint8), (grey.shape[1], grey.shape[0]), interpolation=cv2.INTER_NEAREST)
    px, descriptors = root_sift(grey, MAX_FEATURES, CONTRAST_THRESHOLD, mask)
    px, first = np.unique(px, axis=0, return_index=True)  # one feature per position: its strongest orientation
    return KeyFrame(index, px, descriptors[first])


def _tracked(source: np.ndarray, target: np.ndarray, px: np.ndarray) -> Observations:
    """Track pixels [points, 2] from one grey image to another: pyramidal Lucas-Kanade with a forward-backward check."""
    if not len(px):
        return Observations(np.zeros(0, np.int64), np.zeros((0, 2)))
    start = (px - 0.5).astype(np.float32)[:, None]
    there, found, _ = cv2.calcOpticalFlowPyrLK(source, target, start, None, winSize=LK_WINDOW, maxLevel=LK_LEVELS)  # pyright: ignore[reportCallIssue, reportArgumentType] (the stubs need a start)
    back, returned, _ = cv2.calcOpticalFlowPyrLK(target, source, there, None, winSize=LK_WINDOW, maxLevel=LK_LEVELS)  # pyright: ignore[reportCallIssue, reportArgumentType]
    then = there[:, 0].astype(np.float64) + 0.5
    good = (found[:, 0] > 0) & (returned[:, 0] > 0) & (length(back[:, 0] - start[:, 0]) < RETURN_ERROR_PX)
    good &= inside_image(then, *target.shape[:2])
    return Observations(np.flatnonzero(good), then[good])
