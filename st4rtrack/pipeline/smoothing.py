"""Zero-lag temporal smoothing of the predicted tracks."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from st4rtrack.pipeline.device_maps import box_mean, median_of_few, vector_maps, vectors_of
from st4rtrack.timing import timed
from st4rtrack.types import Pointmap, TwoPointmaps

Predicted = tuple[int, np.ndarray, TwoPointmaps]
"""Index and image [height, width, 3] of a frame, and its pointmaps."""

REACH = 4
"""Half width of the smoothing window in frames: the delay of the stream."""

SQUARE_PX = 7
"""Side of the square over which statistics of tracks are averaged, to separate motion from noise."""


def frames_needed(done: np.ndarray, anchor_index: int, smooth: bool, *, sequential: bool = False) -> np.ndarray:
    """Frames [time] bool that need no prediction when those of `done` are on disk: all except the dependencies of missing ones.

    Such dependencies are predicted again but not written, so that a resumed run equals an uninterrupted one.

    Args:
        sequential: a frame depends on all frames on its side of the anchor; otherwise on those of its smoothing window.
    """
    settled = done.copy()
    reach = REACH if smooth else 0
    for direction in directions(anchor_index, len(done)):
        for place in [place for place, index in enumerate(direction) if not done[index]]:
            settled[list(direction if sequential else direction[max(0, place - reach) : place + reach + 1])] = False
    return settled


def directions(anchor_index: int, num_frames: int) -> tuple[range, range]:
    """Frames after the anchor in processing order, and those before it."""
    return range(anchor_index + 1, num_frames), range(anchor_index - 1, -1, -1)


def smoothed_frames(
    frames: Iterable[Predicted], anchor: Pointmap, anchor_index: int, device: torch.device | str = "cpu"
) -> Iterator[Predicted]:
    """Smooth the tracks of a stream of frames, outward from the anchor; the order is preserved.

    The two directions are smoothed separately; after a gap, as in a resumed run, smoothing starts again.

    Args:
        frames: first those after the anchor (or the anchor), then those before it.
        anchor: anchor points at the anchor time, [height, width, 3]; the anchor frame is passed through.
        anchor_index: index of the anchor.
        device: where the tracks are smoothed.
    Returns:
        An iterator with a delay of `REACH` frames, which holds twice as many.
    """
    window, last = TrackWindow(np.asarray(anchor.points_world), device), anchor_index
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

    def __init__(self, anchor_points: np.ndarray, device: torch.device | str = "cpu") -> None:
        self._device, self._anchor_points = device, vector_maps(anchor_points, device)
        self._moves: deque[Tensor] = deque(maxlen=2 * REACH + 1)
        self._thirds: deque[Tensor] = deque(maxlen=2 * REACH - 2)  # one for each four moves in a row
        self._waiting: deque[Predicted] = deque()

    def begin(self, *, at_anchor: bool) -> None:
        """Start a new direction, or continue after a gap; next to the anchor, its zero displacement is the first sample."""
        self._moves.clear()
        self._thirds.clear()
        if at_anchor:
            self._moves.append(torch.zeros_like(self._anchor_points))

    def add(self, frame: Predicted) -> Iterator[Predicted]:
        """Add the next frame; yield the one that now has `REACH` frames after it, if any."""
        self._waiting.append(frame)
        self._append(frame)
        if len(self._waiting) > REACH:
            yield self._next()

    @timed("refinement", settles=True)
    def _append(self, frame: Predicted) -> None:
        self._moves.append(vector_maps(np.asarray(frame[2].tracking.points_world), self._device) - self._anchor_points)
        if len(self._moves) > 3:
            self._thirds.append(squared_third_difference(list(self._moves)[-4:]))

    def flush(self) -> Iterator[Predicted]:
        """Yield the last frames, which have fewer frames after them."""
        while self._waiting:
            if len(self._moves) > REACH + len(self._waiting):
                self._moves.popleft()
                self._thirds.popleft()
            yield self._next()

    @timed("refinement", settles=True)
    def _next(self) -> Predicted:
        place = len(self._moves) - len(self._waiting)
        index, rgb, maps = self._waiting.popleft()
        if len(self._moves) < FEWEST:
            return index, rgb, maps
        variance = box_mean(torch.nan_to_num(noise_variance(list(self._thirds)), posinf=0.0)[None], SQUARE_PX)[0]
        moved = smoothed(list(self._moves), place, variance, pooled=lambda squares: box_mean(squares, SQUARE_PX))
        return index, rgb, replace(maps, tracking=replace(maps.tracking, points_world=vectors_of(self._anchor_points + moved)))


DEGREE = 3
"""Maximum degree of the polynomials in time that describe a window."""

FEWEST = DEGREE + 3
"""Minimum number of samples of a window to estimate its noise."""

CLEAR = 1.5
"""Terms whose square exceeds that expected from noise by this factor are kept unchanged, so that true motion is not shortened."""

CACHED_PIXELS = 1 << 14

NORMAL_MEDIAN = 2.366
"""Median of the squared length of a 3D vector with standard normal components."""

THIRD_DIFFERENCE = 20.0
"""Variance of the third difference (1, -3, 3, -1) of samples with variance 1."""


def squared_third_difference(positions: Sequence[Tensor]) -> Tensor:
    """Squared length [...] of the third difference of tracks at four equidistant times, [3, ...] each."""
    first, second, third, fourth = positions
    return (fourth - 3 * (third - second) - first).square().sum(dim=0)


def noise_variance(thirds: Sequence[Tensor]) -> Tensor:
    """Noise variance [...] per axis of tracks: median over time of squared third differences, 0 under constant acceleration."""
    return median_of_few(thirds) / (NORMAL_MEDIAN * THIRD_DIFFERENCE)


def smoothed(
    window: Sequence[Tensor], index: int, variance: Tensor, *, pooled: Callable[[Tensor], Tensor] = lambda squares: squares
) -> Tensor:
    """Smoothed position of each track at one time of a window, without lag.

    The window is expanded in polynomials that are orthonormal over its times. The coefficients of degree one and above, and the
    residual, are kept as far as their squares exceed those expected from noise: a static track becomes its mean, an accelerated
    one a parabola, and a collision is unchanged.

    Args:
        window: [3, ...] positions at each of some equidistant times, at least `FEWEST`.
        index: index of the time in the window.
        variance: [...] noise variance per axis.
        pooled: averages squares [terms, ...] over tracks with similar motion, since one track alone has little information.
    Returns:
        [3, ...]; unchanged where the window is not finite.
    """
    basis, here = _polynomials(len(window)), window[index]
    coefficients, whole = _coefficients(window, here, torch.from_numpy(basis).to(here))
    squares = coefficients.square().sum(dim=1)
    finite = whole.isfinite() & squares.isfinite().all(dim=0)
    terms = torch.cat([(whole - squares.sum(dim=0)).clamp(min=0)[None], squares[1:]])  # the residual first
    terms, noise = pooled(torch.where(finite, terms, 0)), torch.where(finite, variance, 0)
    left = _kept(terms[0], 3 * (len(window) - len(basis)) * noise)
    result = here + float(basis[0, index]) * (1 - left) * coefficients[0]
    for k in range(1, len(basis)):
        result += float(basis[k, index]) * (_kept(terms[k], 3 * noise) - left) * coefficients[k]
    return torch.where(finite, result, here)


def _coefficients(window: Sequence[Tensor], here: Tensor, basis: Tensor) -> tuple[Tensor, Tensor]:
    """Coefficients [terms, 3, ...] of tracks relative to `here` [3, ...], and squared norms [...] over the window."""
    coefficients, whole = here.new_empty((len(basis), *here.shape)), torch.empty_like(here[0])
    for start in range(0, whole.numel(), CACHED_PIXELS):
        part = slice(start, start + CACHED_PIXELS)
        origin = here.flatten(1)[:, part]
        offsets = torch.stack([positions.flatten(1)[:, part] for positions in window]).sub_(origin)
        coefficients.flatten(2)[:, :, part] = (basis @ offsets.flatten(1)).unflatten(1, origin.shape)
        whole.view(-1)[part] = offsets.square_().sum(dim=(0, 1))
    return coefficients, whole


def _polynomials(count: int) -> np.ndarray:
    """[degree + 1, count] float32 polynomials of increasing degree, orthonormal over `count` equidistant times; even or odd."""
    times = np.linspace(-1, 1, count)
    return np.ascontiguousarray(np.linalg.qr(np.vander(times, DEGREE + 1, increasing=True))[0].T.astype(np.float32))


def _kept(square: Tensor, expected: Tensor) -> Tensor:
    """Shrinkage factor of a term from its square and the square expected from noise."""
    return ((square / expected.clamp(min=1e-30) - 1) / (CLEAR - 1)).clamp(0, 1)
