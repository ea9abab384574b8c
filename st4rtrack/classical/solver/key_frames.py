"""Key frames of a video with SIFT features, and where their features are seen in the frames between them. Streaming, in constant memory."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import cv2
import numpy as np

from st4rtrack.geometry.sampling import inside_image
from st4rtrack.geometry.vectors import length

MAX_FEATURES = 800
CONTRAST_THRESHOLD = 0.01
"""Half of OpenCV's default: rooms with plain walls have few features otherwise. The strongest are kept."""
MIN_SIDE, MAX_SIDE = 512, 720
"""Long side of the images that are analysed. Small images are enlarged: a quarter as many features are found without."""
MAX_DISPLACEMENT = 0.03
"""Median motion of the features, in long sides of the image, from which a frame becomes a key frame."""
MIN_TRACKED_SHARE = 0.6
"""Share of the features that must still be tracked, or a frame becomes a key frame."""
MIN_CLIP_KEY_FRAMES = 24
"""Key frames that a clip should have: a short or slow one has closer ones."""
MAX_GAP = 12
"""Most frames from one key frame to the next."""
LK_WINDOW, LK_LEVELS = (15, 15), 4
RETURN_ERROR_PX = 1.0

StaticMask = Callable[[int], np.ndarray]
"""Static pixels [height, width] bool of a frame by its number, at any size."""


@dataclass
class Observations:
    """Features of a key frame in a frame near it: `feature` [n] numbers of features, `px` [n, 2] pixels."""

    feature: np.ndarray
    px: np.ndarray


@dataclass
class Between:
    """A frame between two key frames, and the features of either that are tracked into it (`None` after the last key frame)."""

    index: int
    previous: Observations
    following: Observations | None = None


@dataclass
class KeyFrame:
    """Features of a key frame, and the frames since the key frame before it.

    Attributes:
        index: number of the frame.
        px: [features, 2] working pixels.
        descriptors: [features, 128] float32 of unit length (RootSIFT).
        between: the frames since the key frame before.
    """

    index: int
    px: np.ndarray
    descriptors: np.ndarray
    between: list[Between] = field(default_factory=list)


def working_scale(height: int, width: int) -> float:
    """Working pixels per source pixel."""
    long_side = max(height, width)
    return float(np.clip(long_side, MIN_SIDE, MAX_SIDE) / long_side)


def key_frames(
    frames: Iterable[tuple[int, np.ndarray]], *, num_frames: int | None = None, static: StaticMask | None = None
) -> Iterator[KeyFrame]:
    """Key frames of numbered RGB or grey frames [height, width(, 3)] uint8 in order. The last frame is always one.

    Args:
        frames: of one size, read once; frames that show nothing may be missing.
        num_frames: of the video; short ones get key frames close together.
        static: features elsewhere are not used.
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


def _close(index: int, grey: np.ndarray, between: list[tuple[Between, np.ndarray]], static: StaticMask | None) -> KeyFrame:
    """The key frame after some frames, its features tracked back into them."""
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
    finder = cv2.SIFT.create(nfeatures=MAX_FEATURES, contrastThreshold=CONTRAST_THRESHOLD)
    points, descriptors = finder.detectAndCompute(grey, mask)  # pyright: ignore[reportCallIssue, reportArgumentType] (the stubs want a mask)
    if descriptors is None:
        return KeyFrame(index, np.zeros((0, 2)), np.zeros((0, 128), np.float32))
    px = np.array([point.pt for point in points]) + 0.5  # OpenCV puts the first centre at zero
    px, first = np.unique(px, axis=0, return_index=True)  # one feature per place: its strongest orientation
    descriptors = descriptors[first]
    return KeyFrame(index, px, np.sqrt(descriptors / np.maximum(descriptors.sum(axis=1, keepdims=True), 1e-9)))


def _tracked(source: np.ndarray, target: np.ndarray, px: np.ndarray) -> Observations:
    """Pixels [points, 2] of one grey image in another, by pyramidal Lucas-Kanade with a forward-backward check."""
    if not len(px):
        return Observations(np.zeros(0, np.int64), np.zeros((0, 2)))
    start = (px - 0.5).astype(np.float32)[:, None]
    there, found, _ = cv2.calcOpticalFlowPyrLK(source, target, start, None, winSize=LK_WINDOW, maxLevel=LK_LEVELS)  # pyright: ignore[reportCallIssue, reportArgumentType] (the stubs want a start)
    back, returned, _ = cv2.calcOpticalFlowPyrLK(target, source, there, None, winSize=LK_WINDOW, maxLevel=LK_LEVELS)  # pyright: ignore[reportCallIssue, reportArgumentType]
    then = there[:, 0].astype(np.float64) + 0.5
    good = (found[:, 0] > 0) & (returned[:, 0] > 0) & (length(back[:, 0] - start[:, 0]) < RETURN_ERROR_PX)
    good &= inside_image(then, *target.shape[:2])
    return Observations(np.flatnonzero(good), then[good])
