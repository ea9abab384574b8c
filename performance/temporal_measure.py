"""What is measured of a predicted sequence in `temporal.py`: errors in metres, and how much what stands still trembles."""

from dataclasses import dataclass

import numpy as np

from st4rtrack.geometry.align import median_scale
from st4rtrack.metrics.points import end_point_error
from st4rtrack.types import Pointmap, TwoPointmaps


@dataclass
class Sequence:
    """A predicted sequence and its truth; frame 0 is the anchor.

    Attributes:
        tracking, reconstruction: predicted points [time, height, width, 3], one unit for all.
        truth: metres, of the same pixels, with `valid`.
        moving: [time, height, width] bool, of the anchor's pixels: somewhere else than at the anchor's time.
    """

    tracking: np.ndarray
    reconstruction: np.ndarray
    truth: TwoPointmaps
    moving: np.ndarray


def figures_of(sequence: Sequence) -> dict[str, float]:
    """Mean errors over the frames after the anchor, each branch scaled by its median distance, and the jitter of static tracks.

    Returns:
        `tracking_m`, `tracking_moving_m`, `reconstruction_m`; `jitter_mm`: mean length of the second difference over time of the
        tracked points of pixels that never move, whose truth is 0; `smoothed_*`: the same of tracks that were averaged over three frames;
        `constant_m`, `constant_moving_m`: what tracking would be if each point had its mean error vector at all times, that is, if
        all that varies over time were mended.
    """
    found = {f"smoothed_{name}": value for name, value in _tracking(sequence, _smoothed(sequence.tracking)).items()}
    found |= _tracking(sequence, sequence.tracking)
    valid, true = _truth(sequence.truth.reconstruction)
    points = sequence.reconstruction * median_scale(sequence.reconstruction[valid], true[valid])
    found["reconstruction_m"] = float(end_point_error(points[1:], true[1:])[valid[1:]].mean())
    return found


def _tracking(sequence: Sequence, points: np.ndarray) -> dict[str, float]:
    valid, true = _truth(sequence.truth.tracking)
    points = points * median_scale(points[valid], true[valid])
    moving, later = (sequence.moving & valid)[1:], valid[1:]
    difference = points[1:] - true[1:]
    constant = np.broadcast_to(difference.mean(axis=0), difference.shape)
    error, constant_error = np.linalg.norm(difference, axis=-1), np.linalg.norm(constant, axis=-1)
    static = valid.all(0) & ~sequence.moving.any(0)
    second_difference = np.linalg.norm(np.diff(points[:, static], n=2, axis=0), axis=-1)
    return {
        "tracking_m": float(error[later].mean()),
        "tracking_moving_m": float(error[moving].mean()) if moving.any() else float("nan"),
        "constant_m": float(constant_error[later].mean()),
        "constant_moving_m": float(constant_error[moving].mean()) if moving.any() else float("nan"),
        "jitter_mm": 1000 * float(second_difference.mean()),
    }


def _truth(pointmap: Pointmap) -> tuple[np.ndarray, np.ndarray]:
    return np.asarray(pointmap.valid), np.asarray(pointmap.points_world)


def _smoothed(points: np.ndarray) -> np.ndarray:
    """Mean of each frame and its two neighbours; the first and the last stay."""
    inner = (points[:-2] + points[1:-1] + points[2:]) / 3
    return np.concatenate([points[:1], inner, points[-1:]])
