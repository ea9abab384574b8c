"""Consistency over time, on what the network gave: pairs agree with the anchor, tracks do not tremble, what is seen lies on the surface.

Each pair is predicted for itself, so its scale and camera differ a little from its neighbour's. The anchor's own points, at its own
time, are what all pairs have in common.
"""

from collections import deque
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, fields, replace

import cv2
import numpy as np

from st4rtrack.geometry.agreement import drift
from st4rtrack.geometry.align import Sim3
from st4rtrack.geometry.camera import project
from st4rtrack.geometry.sampling import inside_image, sample_map
from st4rtrack.geometry.smoothing import FEWEST, noise_variance, smoothed
from st4rtrack.geometry.transforms import invert_rigid, transform_points
from st4rtrack.geometry.vectors import all_finite
from st4rtrack.types import Pointmap, TwoPointmaps, UserError

Predicted = tuple[int, np.ndarray, TwoPointmaps]
"""Number and image [height, width, 3] of a frame, and its pointmaps."""

REACH = 4
"""Frames on either side that a track is smoothed with: what the stream holds back."""

STRIDE = 4
"""Every so many pixels a point is asked whether its pair has drifted."""

NEIGHBOURS_PER_SAMPLE = 16
"""Of those points, how many share their error: errors are those of patches of 16 pixels."""

SQUARE_PX = 7
"""Side of the square over which what tracks do is averaged, to tell motion from noise."""

MIN_TOLERANCE = 0.001
MAX_TOLERANCE = 0.05
"""Between what relative differences of depth a track counts as lying on the surface; three deviations of the noise between these."""


@dataclass(frozen=True)
class Refinement:
    """Which steps are taken; their names are the fields.

    Attributes:
        agreement: one similarity per frame brings both pointmaps of a pair into agreement with the anchor on what is static.
        smoothness: tracks are freed of the noise that their own trembling shows, with what comes before and after.
        surface: visible tracking points are drawn to the reconstruction of the same frame, by both confidences.
    """

    agreement: bool = False
    smoothness: bool = False
    surface: bool = False

    @property
    def names(self) -> list[str]:
        """Of the steps that are taken, in order."""
        return [step.name for step in fields(self) if getattr(self, step.name)]


ALL = Refinement(agreement=True, smoothness=True, surface=True)
DEFAULT = Refinement(smoothness=True)
"""The step that needs no assumption about the world. The other two are asked for by name: agreement takes for static what most of the view
does, and the surface is only as good as the reconstruction."""


def chosen_refinement(choice: bool | Collection[str]) -> Refinement:
    """The steps that a user asked for: True is `DEFAULT`, False none, or names of steps.

    Raises:
        UserError: a name that is none.
    """
    if isinstance(choice, bool):
        return DEFAULT if choice else Refinement()
    known = [step.name for step in fields(Refinement)]
    names = [choice] if isinstance(choice, str) else list(choice)
    for name in names:
        if name not in known:
            raise UserError(f"refine knows the steps {', '.join(known)}, not {name!r}; True takes those that are safe")
    return Refinement(**dict.fromkeys(names, True))


def frames_needed(done: np.ndarray, anchor_index: int, steps: Refinement, *, sequential: bool = False) -> np.ndarray:
    """Which frames [time] bool need not be predicted when those of `done` are on disk: all but what missing ones depend on.

    They are predicted again and not written again, so that a resumed run gives what an uninterrupted one gives.

    Args:
        sequential: a frame depends on all frames between the anchor and it; else on those that it is smoothed with.
    """
    settled = done.copy()
    reach = REACH if steps.smoothness else 0
    for way in ways(anchor_index, len(done)):
        for place in [place for place, index in enumerate(way) if not done[index]]:
            settled[list(way[0 if sequential else max(0, place - reach) : place + reach + 1])] = False
    return settled


def ways(anchor_index: int, num_frames: int) -> tuple[range, range]:
    """Frames after the anchor in the order in which they are read, and those before it."""
    return range(anchor_index + 1, num_frames), range(anchor_index - 1, -1, -1)


def refined(frames: Iterable[Predicted], anchor: Pointmap, anchor_index: int, steps: Refinement) -> Iterator[Predicted]:
    """Frames as they come, outward from the anchor, with pairs in agreement and tracks smoothed; in the same order.

    Args:
        frames: first those after the anchor (or the anchor), then those before it, each way without a gap.
        anchor: the anchor's content at its own time, [height, width, 3]; its frame is given on as it is.
        anchor_index: its number.
        steps: which are taken.
    Returns:
        An iterator that is `REACH` frames behind where tracks are smoothed, and holds twice as many.
    """
    agreeing = (_in_agreement(frame, anchor, anchor_index) if steps.agreement else frame for frame in frames)
    return _smooth(agreeing, anchor, anchor_index) if steps.smoothness else agreeing


def pair_drift(tracking: Pointmap, anchor: Pointmap) -> Sim3:
    """The similarity that brings a pair [height, width, 3] into agreement with the anchor, `anchor_from_pair`.

    From the tracking branch, which has the same pixels: what did not move should be where it is in the anchor. Points weigh by the product
    of their confidences, relative to the median and at most four times that.
    """
    points, rest = (np.asarray(maps.points_world)[::STRIDE, ::STRIDE].reshape(-1, 3) for maps in (tracking, anchor))
    weights = np.ones(len(points))
    for maps in (tracking, anchor):
        if maps.confidence is not None:
            confidence = np.asarray(maps.confidence, np.float64)[::STRIDE, ::STRIDE].reshape(-1)
            weights *= np.clip(confidence / np.median(confidence), 0, 2)
    return drift(points, rest, weights=weights, points_per_sample=NEIGHBOURS_PER_SAMPLE)


def drawn_to_surface(maps: TwoPointmaps, world_from_camera: np.ndarray, intrinsics: np.ndarray) -> TwoPointmaps:
    """Tracking points [height, width, 3] that are seen move towards the reconstruction at the pixel they project to.

    Seen: the relative difference of depth is within three times its noise (median absolute deviation over the frame), at most 5 %. A point
    moves by the share of the reconstruction's squared confidence in both, less the more the two differ.
    """
    tracking, reconstruction = maps.tracking, maps.reconstruction
    points, surface = np.asarray(tracking.points_world), np.asarray(reconstruction.points_world)
    height, width = points.shape[:2]
    flat = points.reshape(-1, 3).astype(np.float64)
    in_camera = transform_points(invert_rigid(world_from_camera), flat)
    with np.errstate(divide="ignore", invalid="ignore"):
        pixels = project(in_camera, intrinsics)
        seen = (in_camera[:, 2] > 0) & all_finite(pixels) & inside_image(pixels, height, width)
    seen = np.flatnonzero(seen)
    if len(seen) == 0:
        return maps
    there = sample_map(surface, pixels[seen])
    depth = transform_points(invert_rigid(world_from_camera), there.astype(np.float64))[:, 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        misfit = np.abs(np.log(in_camera[seen, 2] / depth))
    misfit[~np.isfinite(misfit)] = np.inf
    tolerance = float(np.clip(3 * np.median(misfit), MIN_TOLERANCE, MAX_TOLERANCE))
    share = np.maximum(0.0, 1 - (misfit / tolerance) ** 2) * _surface_share(tracking, reconstruction, seen, pixels[seen])
    moves = share > 0
    drawn = points.copy().reshape(-1, 3)
    drawn[seen[moves]] += (share[moves, None] * (there[moves] - flat[seen[moves]])).astype(points.dtype)
    return TwoPointmaps(replace(tracking, points_world=drawn.reshape(points.shape)), reconstruction)


def _surface_share(tracking: Pointmap, reconstruction: Pointmap, seen: np.ndarray, pixels_px: np.ndarray) -> np.ndarray:
    """[seen] in 0..1: what the reconstruction weighs. A confidence is an inverse error, its square an inverse variance."""
    if tracking.confidence is None or reconstruction.confidence is None:
        return np.full(len(seen), 0.5)
    own = np.asarray(tracking.confidence, np.float64).reshape(-1)[seen] ** 2
    other = sample_map(np.asarray(reconstruction.confidence, np.float64), pixels_px) ** 2
    return other / (own + other)


def _in_agreement(frame: Predicted, anchor: Pointmap, anchor_index: int) -> Predicted:
    index, rgb, maps = frame
    if index == anchor_index:
        return frame
    motion = pair_drift(maps.tracking, anchor)
    if motion.scale == 1.0 and not motion.translation.any() and (motion.rotation == np.eye(3)).all():
        return frame
    moved = [replace(one, points_world=_moved(one.points_world, motion)) for one in (maps.tracking, maps.reconstruction)]
    return index, rgb, TwoPointmaps(*moved)


def _moved(points: np.ndarray, motion: Sim3) -> np.ndarray:
    """Points of the same type; what the motion changes is small, so float32 is enough."""
    matrix = (motion.scale * motion.rotation.T).astype(points.dtype)
    return points @ matrix + motion.translation.astype(points.dtype)


def _smooth(frames: Iterable[Predicted], anchor: Pointmap, anchor_index: int) -> Iterator[Predicted]:
    """Each way for itself; a gap, which a continued run may have, begins anew."""
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
