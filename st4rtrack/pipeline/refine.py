"""Zero-lag temporal smoothing of the predicted tracks."""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace

import cv2
import numpy as np

from st4rtrack.geometry.vectors import dot
from st4rtrack.timing import timed
from st4rtrack.types import Pointmap, TwoPointmaps, UserError

Predicted = tuple[int, np.ndarray, TwoPointmaps]
"""Index and image [height, width, 3] of a frame, and its pointmaps."""

REACH = 4
"""Half width of the smoothing window in frames: the delay of the stream."""

SQUARE_PX = 7
"""Side of the square over which statistics of tracks are averaged, to separate motion from noise."""

REMOVED = ("agreement", "surface")
"""Former smoothing steps of `refine`."""


def smoothing_chosen(choice: bool | Collection[str]) -> bool:
    """Whether tracks are smoothed, from the user's choice: True, False, or step names, of which "smoothness" is the only one.

    Raises:
        UserError: another name.
    """
    if isinstance(choice, bool):
        return choice
    names = [choice] if isinstance(choice, str) else list(choice)
    for name in names:
        if name != "smoothness":
            reason = "was removed" if name in REMOVED else "is unknown"
            raise UserError(f"refine step {name!r} {reason}; the remaining step is 'smoothness', which refine=True selects")
    return bool(names)


def frames_needed(done: np.ndarray, anchor_index: int, smooth: bool, *, sequential: bool = False) -> np.ndarray:
    """Frames [time] bool that need no prediction when those of `done` are on disk: all except the dependencies of missing ones.

    Such dependencies are predicted again but not written, so that a resumed run equals an uninterrupted one.

    Args:
        sequential: a frame depends on all frames between the anchor and it; otherwise on those of its smoothing window.
    """
    settled = done.copy()
    reach = REACH if smooth else 0
    for direction in directions(anchor_index, len(done)):
        for place in [place for place, index in enumerate(direction) if not done[index]]:
            settled[list(direction[0 if sequential else max(0, place - reach) : place + reach + 1])] = False
    return settled


def directions(anchor_index: int, num_frames: int) -> tuple[range, range]:
    """Frames after the anchor in processing order, and those before it."""
    return range(anchor_index + 1, num_frames), range(anchor_index - 1, -1, -1)


def smoothed_frames(frames: Iterable[Predicted], anchor: Pointmap, anchor_index: int) -> Iterator[Predicted]:
    """Smooth the tracks of a stream of frames, outward from the anchor; the order is preserved.

    The two directions are smoothed separately; after a gap, as in a resumed run, smoothing starts again.

    Args:
        frames: first those after the anchor (or the anchor), then those before it.
        anchor: anchor points at the anchor time, [height, width, 3]; the anchor frame is passed through.
        anchor_index: index of the anchor.
    Returns:
        An iterator with a delay of `REACH` frames, which holds twice as many.
    """
    window, last = TrackWindow(np.asarray(anchor.points_world)), anchor_index
    for frame in frames:
        index = frame[0]
        if index == anchor_index:
            yield frame
            continue
        step = int(np.sign(index - anchor_index))
        if index - step != last or last == anchor_index:
            yield from window.flush()
            window.begin(at_anchor=index - step == anchor_index)
        last = index
        yield from window.add(frame)
    yield from window.flush()


class TrackWindow:
    """Sliding window of track displacements; a frame is smoothed as soon as enough frames after it are available."""

    def __init__(self, anchor_points: np.ndarray) -> None:
        self._anchor_points = anchor_points
        self._moves: deque[np.ndarray] = deque(maxlen=2 * REACH + 1)
        self._waiting: deque[Predicted] = deque()

    def begin(self, *, at_anchor: bool) -> None:
        """Start a new direction, or continue after a gap; next to the anchor, its zero displacement is the first sample."""
        self._moves.clear()
        if at_anchor:
            self._moves.append(np.zeros_like(self._anchor_points))

    def add(self, frame: Predicted) -> Iterator[Predicted]:
        """Add the next frame; yield the one that now has `REACH` frames after it, if any."""
        self._waiting.append(frame)
        self._moves.append(np.asarray(frame[2].tracking.points_world) - self._anchor_points)
        if len(self._waiting) > REACH:
            yield self._next()

    def flush(self) -> Iterator[Predicted]:
        """Yield the last frames, which have fewer frames after them."""
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
"""Maximum degree of the polynomials in time that describe a window."""

FEWEST = DEGREE + 3
"""Minimum number of samples of a window to estimate its noise."""

CLEAR = 1.5
"""Terms whose square exceeds that expected from noise by this factor are kept unchanged, so that true motion is not shortened."""

NORMAL_MEDIAN = 2.366
"""Median of the squared length of a 3D vector with standard normal components."""

THIRD_DIFFERENCE = 20.0
"""Variance of the third difference (1, -3, 3, -1) of samples with variance 1."""


def noise_variance(window: np.ndarray) -> np.ndarray:
    """Noise variance per axis of tracks, from their third differences.

    Motion with constant acceleration has zero third differences; the median over time ignores the few outliers of a collision.

    Args:
        window: [time, ..., 3] positions at equidistant times, at least four.
    Returns:
        [...] float32.
    """
    thirds = window[3:] - 3 * (window[2:-1] - window[1:-2]) - window[:-3]
    return _median_of_few(dot(thirds, thirds)).astype(np.float32) / np.float32(NORMAL_MEDIAN * THIRD_DIFFERENCE)


@np.errstate(invalid="ignore", over="ignore")  # non-finite tracks are returned unchanged
def smoothed(
    window: np.ndarray, index: int, variance: np.ndarray, *, pooled: Callable[[np.ndarray], np.ndarray] = np.asarray
) -> np.ndarray:
    """Smoothed position of each track at one time of a window, without lag.

    The window is expanded in polynomials that are orthonormal over its times. The coefficients of degree one and above, and the
    residual, are kept as far as their squares exceed those expected from noise: a static track becomes its mean, an accelerated
    one a parabola, and a collision is unchanged.

    Args:
        window: [time, ..., 3] positions at equidistant times, at least `FEWEST`.
        index: index of the time in the window.
        variance: [...] noise variance per axis.
        pooled: averages squares [...] over tracks with similar motion, since one track alone has little information.
    Returns:
        [..., 3], in the dtype of the window; unchanged where the window is not finite.
    """
    basis, here = _polynomials(len(window)).astype(window.dtype), window[index]
    offsets = window - here  # small numbers, for precise squares
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
    """[degree + 1, count] polynomials of increasing degree, orthonormal over `count` equidistant times; even or odd."""
    times = np.linspace(-1, 1, count)
    return np.linalg.qr(np.vander(times, DEGREE + 1, increasing=True))[0].T


def _median_of_few(samples: np.ndarray) -> np.ndarray:
    """`np.median` over the first axis, by a sorting network: ten times as fast for few samples [samples, ...]."""
    ordered = list(samples)
    count = len(ordered)
    for start in range(count):
        for k in range(start % 2, count - 1, 2):
            ordered[k], ordered[k + 1] = np.minimum(ordered[k], ordered[k + 1]), np.maximum(ordered[k], ordered[k + 1])
    return (ordered[(count - 1) // 2] + ordered[count // 2]) / 2


def _kept(square: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Shrinkage factor of a term from its square and the square expected from noise."""
    return np.clip((square / np.maximum(expected, 1e-30) - 1) / (CLEAR - 1), 0, 1)
