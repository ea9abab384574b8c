"""2D point tracks from OpenCV's dense optical flow with forward-backward check. No learned weights.

Two methods: `follow` chains flow from frame to frame and starts new tracks where old ones are lost (many short tracks, as
structure from motion needs them); `follow_first` also computes direct flow from the first frame to each other one, initialised
by the chain, which removes the drift of the chain and recovers points after an occlusion.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import cv2
import numpy as np

from st4rtrack.classical.flow import MAX_RETURN_ERROR_PX, RETURN_ERROR_SHARE, FlowChain, dense_flow
from st4rtrack.geometry.sampling import inside_image, sample_map
from st4rtrack.geometry.vectors import length


@dataclass
class FlowTracks:
    """2D tracks of points through a video.

    Attributes:
        pixels_px: [time, points, 2]; the start position before a track starts, the chained position after it is lost.
        visible: [time, points] bool: the track has started and has not been lost.
        start: [points] index of the first frame of each track.
    """

    pixels_px: np.ndarray
    visible: np.ndarray
    start: np.ndarray


def follow(frames: Iterable[np.ndarray], *, reseed_every: int, spacing_px: float) -> FlowTracks:
    """Track a grid of points of the first frame, and new points in empty grid cells of later frames.

    Args:
        frames: RGB images [height, width, 3] uint8, in order; read once.
        reseed_every: number of frames after which empty cells of the grid get a new track.
        spacing_px: side of the grid cells.
    Returns:
        `FlowTracks`. Lost tracks are not recovered.
    """
    greys = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames)
    previous = next(greys)
    height, width = previous.shape
    now, start, seen = np.zeros((0, 2)), np.zeros(0, np.int64), np.zeros(0, bool)
    now, start, seen = _reseeded(now, start, seen, 0, spacing_px, height, width)
    pixels, visible = [now], [seen]
    for t, grey in enumerate(greys, start=1):
        forward, backward = dense_flow(previous, grey), dense_flow(grey, previous)
        now, returns = flow_step(now, forward, backward)
        seen = seen & returns
        if t % reseed_every == 0:
            now, start, seen = _reseeded(now, start, seen, t, spacing_px, height, width)
        pixels.append(now)
        visible.append(seen)
        previous = grey
    return _padded(pixels, visible, start)


def follow_first(frames: Iterable[np.ndarray], query_px: np.ndarray) -> FlowTracks:
    """Track points of the first frame through all others.

    Args:
        frames: RGB images [height, width, 3] uint8, in order; read once.
        query_px: [points, 2] pixels of the first frame.
    Returns:
        `FlowTracks`. A point is visible if the direct flow passes the forward-backward check, or the chain has not lost it since
            it was last visible.
    """
    greys = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames)
    first = previous = next(greys)
    height, width = first.shape
    start_px = np.asarray(query_px, np.float64).reshape(-1, 2)
    pixels, visible = [start_px], [inside_image(start_px, height, width)]
    chained = FlowChain(height, width)
    for grey in greys:
        forward, backward = dense_flow(previous, grey), dense_flow(grey, previous)
        chained.extend(forward, backward)
        direct, direct_back = dense_flow(first, grey, chained.forward), dense_flow(grey, first, chained.backward)
        chained.correct(direct, direct_back)
        stepped, step_returns = flow_step(pixels[-1], forward, backward)
        jumped, jump_returns = flow_step(start_px, direct, direct_back, share=0.0)
        pixels.append(np.where(jump_returns[:, None], jumped, stepped))
        visible.append(jump_returns | (visible[-1] & step_returns))
        previous = grey
    return FlowTracks(np.stack(pixels), np.stack(visible), np.zeros(len(start_px), np.int64))


def flow_step(
    pixels_px: np.ndarray, forward: np.ndarray, backward: np.ndarray, *, share: float = RETURN_ERROR_SHARE
) -> tuple[np.ndarray, np.ndarray]:
    """Advance pixels [..., 2] by a flow; also whether they stay in the image and pass the forward-backward check."""
    step = sample_map(forward, pixels_px)
    then = pixels_px + step
    return_error = length(step + sample_map(backward, then))
    tolerance = MAX_RETURN_ERROR_PX + share * length(step)
    return then, (return_error < tolerance) & inside_image(then, *forward.shape[:2])


def _reseeded(
    now: np.ndarray, start: np.ndarray, seen: np.ndarray, frame: int, spacing_px: float, height: int, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Existing tracks plus new ones at the centres of empty grid cells."""
    rows, columns = int(np.ceil(height / spacing_px)), int(np.ceil(width / spacing_px))
    empty = np.ones((rows, columns), bool)
    held = (now[seen] / spacing_px).astype(np.int64)
    empty[held[:, 1].clip(0, rows - 1), held[:, 0].clip(0, columns - 1)] = False
    new = (np.argwhere(empty)[:, ::-1] + 0.5) * spacing_px
    new = new[inside_image(new, height, width)]
    return (
        np.concatenate([now, new]),
        np.concatenate([start, np.full(len(new), frame)]),
        np.concatenate([seen, np.ones(len(new), bool)]),
    )


def _padded(pixels: list[np.ndarray], visible: list[np.ndarray], start: np.ndarray) -> FlowTracks:
    """Tracks over all frames and points: before its start a track is at its start position, and not visible."""
    first_px = np.concatenate([px[start[: len(px)] == t] for t, px in enumerate(pixels)])
    all_px = np.stack([np.concatenate([px, first_px[len(px) :]]) for px in pixels])
    all_visible = np.stack([np.concatenate([seen, np.zeros(len(start) - len(seen), bool)]) for seen in visible])
    return FlowTracks(all_px, all_visible, start)
