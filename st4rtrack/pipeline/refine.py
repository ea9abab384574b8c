"""Temporal smoothing of the tracks that the network predicted, without a lag."""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace

import cv2
import numpy as np

from st4rtrack.geometry.vectors import dot
from st4rtrack.timing import timed
from st4rtrack.types import Pointmap, TwoPointmaps, UserError

Predicted = tuple[int, np.ndarray, TwoPointmaps]
"""Number and image [height, width, 3] of a frame, and its pointmaps."""

REACH = 4
"""Frames on either side that a track is smoothed with: what the stream holds back."""

SQUARE_PX = 7
"""Side of the square over which what tracks do is averaged, to tell motion from noise."""

REMOVED = ("agreement", "surface")
"""Names of smoothing steps that `refine` had."""


def smoothing_chosen(choice: bool | Collection[str]) -> bool:
    """Whether tracks are smoothed, as a user asked for it: True, False, or names of steps, of which "smoothness" is the only one.

    Raises:
        UserError: another name.
    """
    if isinstance(choice, bool):
        return choice
    names = [choice] if isinstance(choice, str) else list(choice)
    for name in names:
        if name != "smoothness":
            reason = "was removed" if name in REMOVED else "is unknown"
            raise UserError(f"refine step {name!r} {reason}; the remaining step is 'smoothness', which refine=True takes")
    return bool(names)


def frames_needed(done: np.ndarray, anchor_index: int, smooth: bool, *, sequential: bool = False) -> np.ndarray:
    """Which frames [time] bool need not be predicted when those of `done` are on disk: all but what missing ones depend on.

    They are predicted again and not written again, so that a resumed run gives what an uninterrupted one gives.

    Args:
        sequential: a frame depends on all frames between the anchor and it; else on those that it is smoothed with.
    """
    settled = done.copy()
    reach = REACH if smooth else 0
    for way in ways(anchor_index, len(done)):
        for place in [place for place, index in enumerate(way) if not done[index]]:
            settled[list(way[0 if sequential else max(0, place - reach) : place + reach + 1])] = False
    return settled


def ways(anchor_index: int, num_frames: int) -> tuple[range, range]:
    """Frames after the anchor in the order in which they are read, and those before it."""
    return range(anchor_index + 1, num_frames), range(anchor_index - 1, -1, -1)


def smoothed_frames(frames: Iterable[Predicted], anchor: Pointmap, anchor_index: int) -> Iterator[Predicted]:
    """Frames as they come, outward from the anchor, with tracks smoothed; in the same order.

    Each direction is smoothed for itself; after a gap, which a resumed run may have, smoothing starts anew.

    Args:
        frames: first those after the anchor (or the anchor), then those before it.
        anchor: the anchor's content at its own time, [height, width, 3]; its frame is given on as it is.
        anchor_index: its number.
    Returns:
        An iterator that is `REACH` frames behind and holds twice as many.
    """
    window, last = TrackWindow(np.asarray(anchor.points_world)), anchor_index
    for frame in frames:
        index = frame[0]
        if index == anchor_index:
            yield frame
            continue
        step = int(np.sign(index - anchor_index))
        if index - step != last or last == anchor_index:
            yield from window.rest_of_way()
            window.begin(at_anchor=index - step == anchor_index)
        last = index
        yield from window.add(frame)
    yield from window.rest_of_way()


class TrackWindow:
    """Where tracks have moved to in the last frames of a way; a frame is smoothed as soon as those after it are there."""

    def __init__(self, anchor_points: np.ndarray) -> None:
        self._anchor_points = anchor_points
        self._moves: deque[np.ndarray] = deque(maxlen=2 * REACH + 1)
        self._waiting: deque[Predicted] = deque()

    def begin(self, *, at_anchor: bool) -> None:
        """Another way, or another part of one; next to the anchor its content is the first sample, which has not moved."""
        self._moves.clear()
        if at_anchor:
            self._moves.append(np.zeros_like(self._anchor_points))

    def add(self, frame: Predicted) -> Iterator[Predicted]:
        """Takes the next frame of the way; gives the one that now has `REACH` frames after it, if there is one."""
        self._waiting.append(frame)
        self._moves.append(np.asarray(frame[2].tracking.points_world) - self._anchor_points)
        if len(self._waiting) > REACH:
            yield self._next()

    def rest_of_way(self) -> Iterator[Predicted]:
        """The frames that have fewer after them."""
        while self._waiting:
            if len(self._moves) > REACH + len(self._waiting):
                self._moves.popleft()
            yield self._next()

    @timed("refinement")
    def _next(self) -> Predicted:
        place = len(self._moves) - len(self._waiting)
        index, rgb, maps = self._waiting.popleft()
        if len(self._moves) < FEWEST:
            return index, rgb, maps
        window = np.stack(self._moves)
        variance = _around(np.nan_to_num(noise_variance(window), posinf=0.0))
        points = self._anchor_points + smoothed(window, place, variance, pooled=_around)
        return index, rgb, replace(maps, tracking=replace(maps.tracking, points_world=points))


def _around(values: np.ndarray) -> np.ndarray:
    """Means [height, width] over the square around each pixel."""
    return cv2.blur(values, (SQUARE_PX, SQUARE_PX))


DEGREE = 3
"""Highest power of time that a window is described by."""

FEWEST = DEGREE + 3
"""Samples below which a window says nothing about noise."""

CLEAR = 1.5
"""A term whose square is so many times what noise makes of it is kept whole: a motion that is there must not be shortened."""

NORMAL_MEDIAN = 2.366
"""Median of the squared length of a vector whose three components are normal with deviation 1."""

THIRD_DIFFERENCE = 20.0
"""Variance of the third difference (1, -3, 3, -1) of samples with variance 1."""


def noise_variance(window: np.ndarray) -> np.ndarray:
    """Variance per axis of the noise of tracks, from their third differences.

    A motion whose acceleration is constant has none; the median over time leaves out the few that a collision makes.

    Args:
        window: [time, ..., 3] positions at even times, at least four.
    Returns:
        [...] float32.
    """
    thirds = window[3:] - 3 * (window[2:-1] - window[1:-2]) - window[:-3]
    return _median_of_few(dot(thirds, thirds)).astype(np.float32) / np.float32(NORMAL_MEDIAN * THIRD_DIFFERENCE)


@np.errstate(invalid="ignore", over="ignore")  # of what is not finite, and given back as it was
def smoothed(
    window: np.ndarray, index: int, variance: np.ndarray, *, pooled: Callable[[np.ndarray], np.ndarray] = np.asarray
) -> np.ndarray:
    """Position of each track at one time of a window, freed of noise without a lag.

    The window is written in polynomials that are orthonormal over its times. The coefficients of degree one and more, and all that no
    polynomial describes, are kept as far as their squares exceed what noise alone would make of them: a track at rest becomes its mean,
    an accelerated one a parabola, a collision stays as it was.

    Args:
        window: [time, ..., 3] positions at even times, at least `FEWEST`.
        index: which time is wanted.
        variance: [...] of the noise per axis.
        pooled: mean of squares [...] over tracks that move alike, where one alone says little.
    Returns:
        [..., 3], of the type of the window; as it was where something in the window is not finite.
    """
    basis, here = _polynomials(len(window)).astype(window.dtype), window[index]
    offsets = window - here  # small numbers, whose squares keep their digits
    coefficients = np.tensordot(basis, offsets, axes=1)
    whole, squares = dot(offsets, offsets).sum(axis=0), dot(coefficients, coefficients)
    finite = np.isfinite(whole) & np.isfinite(squares).all(axis=0)
    whole, squares, noise = (np.where(finite, values, 0) for values in (whole, squares, variance))
    left = np.maximum(whole - squares.sum(axis=0), 0)
    result = here + basis[0, index] * coefficients[0]
    described = np.tensordot(basis[:, index], coefficients, axes=1)
    result -= _kept(pooled(left), 3 * (len(window) - len(basis)) * noise)[..., None] * described
    for k in range(1, len(basis)):
        result += (basis[k, index] * _kept(pooled(squares[k]), 3 * noise))[..., None] * coefficients[k]
    return np.where(finite[..., None], result, here)


def _polynomials(count: int) -> np.ndarray:
    """[degree + 1, count] polynomials of growing degree, orthonormal over `count` even times; symmetric or antisymmetric."""
    times = np.linspace(-1, 1, count)
    return np.linalg.qr(np.vander(times, DEGREE + 1, increasing=True))[0].T


def _median_of_few(samples: np.ndarray) -> np.ndarray:
    """`np.median` over the first axis, by exchanging neighbours: a tenth of its time for a handful of samples [samples, ...]."""
    ordered = list(samples)
    count = len(ordered)
    for start in range(count):
        for k in range(start % 2, count - 1, 2):
            ordered[k], ordered[k + 1] = np.minimum(ordered[k], ordered[k + 1]), np.maximum(ordered[k], ordered[k + 1])
    return (ordered[(count - 1) // 2] + ordered[count // 2]) / 2


def _kept(square: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Share to keep of something with a squared length, of which noise is expected to make so much."""
    return np.clip((square / np.maximum(expected, 1e-30) - 1) / (CLEAR - 1), 0, 1)
