"""Frames of a scene as few bytes, for a page: positions on a 14-bit grid, pictures as JPEG, all of it deflated."""

import dataclasses
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from st4rtrack.geometry.vectors import all_components, all_finite
from st4rtrack.types import Scene
from st4rtrack.view.sampling import (
    Branch,
    Budget,
    chosen_frames,
    chosen_pixels,
    chosen_tracks,
    frame_cloud,
    moving_mask,
    robust_box,
    scene_sample,
)

_BRANCHES: tuple[Branch, Branch] = ("reconstruction", "tracking")
_PICTURE_BYTES = 40_000
_SURE_LEVELS = 255
BITS = 14
"""Per axis: a step is some ten thousandth of the scene, far less than what a network knows."""
_MEASURED_FRAMES = 3


@dataclass(frozen=True)
class Content:
    """What of a scene is on the page.

    Attributes:
        budget: what it was chosen by.
        frames: [frames] numbers.
        pixels: [points, 2] (row, column).
        moving: [points] bool, which of the anchor's points move.
        tracks: [tracks] indices into `pixels`.
        low, high: [3] corners of the box that positions are counted in.
        levels: per branch, confidences that divide it into equal shares; `None` where it has none.
    """

    budget: Budget
    frames: np.ndarray
    pixels: np.ndarray
    moving: np.ndarray
    tracks: np.ndarray
    low: np.ndarray
    high: np.ndarray
    levels: dict[Branch, np.ndarray | None]

    @classmethod
    def of(cls, scene: Scene, budget: Budget) -> "Content":
        moving, pixels = moving_mask(scene), chosen_pixels(scene, budget.points_per_frame)
        samples: dict[Branch, tuple[np.ndarray, np.ndarray]] = {branch: scene_sample(scene, branch) for branch in _BRANCHES}
        low, high = robust_box(np.concatenate([points for points, _ in samples.values()]))
        return cls(
            budget=budget,
            frames=chosen_frames(scene, budget),
            pixels=pixels,
            moving=moving[pixels[:, 0], pixels[:, 1]],
            tracks=chosen_tracks(moving, pixels, budget.tracks),
            low=low,
            high=high,
            levels={branch: _levels(confidence) for branch, (_, confidence) in samples.items()},
        )


def fitted_content(scene: Scene, budget: Budget, most_bytes: float) -> Content:
    """With fewer points where the page would be too large, judged by a few of its frames."""
    content = Content.of(scene, budget)
    measured = content.frames[np.linspace(0, len(content.frames) - 1, _MEASURED_FRAMES).astype(int)]
    packed = float(np.mean([len(frame) for frame in packed_frames(scene, content, measured)]))
    pictures = float(np.mean([len(_picture(np.asarray(scene.rgb[t], np.uint8))) for t in measured.tolist()]))
    room = 0.95 * most_bytes * 3 / 4 / len(content.frames) - pictures  # base64 writes four letters for three bytes
    share = room / max(packed - pictures, 1.0)
    if share >= 1:
        return content
    fewer = max(int(share * len(content.pixels)), 1)
    return Content.of(scene, dataclasses.replace(budget, points_per_frame=fewer))


def _levels(confidence: np.ndarray) -> np.ndarray | None:
    """Confidence has no unit that one could choose a threshold in, so the page counts in shares of the points."""
    if not len(confidence) or np.ptp(confidence) == 0:
        return None
    return np.quantile(confidence, np.arange(1, _SURE_LEVELS) / _SURE_LEVELS)


def packed_frames(scene: Scene, content: Content, frames: np.ndarray) -> Iterator[bytes]:
    """The bytes of each frame as `readFrame` in data.js reads them."""
    track_pixels = content.pixels[content.tracks]
    for t in frames.tolist():
        parts = []
        for branch in _BRANCHES:
            points, _, confidence = frame_cloud(scene, t, branch, content.pixels)
            parts.append(_packed_points(points, confidence, content, branch))
        seen = np.ones(len(track_pixels), np.uint8)
        if scene.tracking.visible is not None:
            seen = np.asarray(scene.tracking.visible[t], np.uint8)[track_pixels[:, 0], track_pixels[:, 1]]
        seen = seen * np.uint8(scene.solved_frames[t])
        yield zlib.compress(b"".join([*parts, seen.tobytes(), _picture(np.asarray(scene.rgb[t], np.uint8))]), 6)


def _packed_points(points: np.ndarray, confidence: np.ndarray, content: Content, branch: Branch) -> bytes:
    """Planes of bytes: high and low bytes of positions, each against its neighbours left and above, and how sure they are."""
    with np.errstate(invalid="ignore"):
        known = all_finite(points) & all_components((points >= content.low) & (points <= content.high))
    share = np.where(known[:, None], (points - content.low) / (content.high - content.low), 0)
    grid = np.rint(share.T * (2**BITS - 1)).astype(np.int32).reshape(3, len(np.unique(content.pixels[:, 0])), -1)
    steps = np.diff(np.diff(grid, axis=2, prepend=0), axis=1, prepend=0)
    folded = np.where(steps < 0, -2 * steps - 1, 2 * steps)  # small numbers of either sign have a high byte of 0
    levels = content.levels[branch]
    sure = np.full(len(points), _SURE_LEVELS) if levels is None else 1 + np.searchsorted(levels, np.nan_to_num(confidence))
    high, low = (folded >> 8).astype(np.uint8), (folded & 255).astype(np.uint8)
    return high.tobytes() + low.tobytes() + np.where(known, sure, 0).astype(np.uint8).tobytes()


def _picture(rgb: np.ndarray) -> bytes:
    """A JPEG of at most some 40 kB; points take their colours from it."""
    encoded = b""
    for quality in (88, 75, 60, 40, 20):
        encoded = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
        if len(encoded) <= _PICTURE_BYTES:
            return encoded
    return encoded if min(rgb.shape[:2]) < 16 else _picture(cv2.resize(rgb, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
