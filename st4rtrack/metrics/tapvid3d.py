"""TAPVid-3D metrics of tracks with visibility: average Jaccard (AJ), APD and occlusion accuracy (OA); calibration error.

Thresholds are 1, 2, 4, 8 and 16 pixels at the true point's depth, in images whose shorter side is 256 (arXiv 2407.05921). Every
frame is evaluated, including the query frame. Comparable to published scores for points in the camera of each frame; the same
metrics of world points (one median scale of their distances from the first camera) are this package's own.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from st4rtrack.geometry.align import floored_norm
from st4rtrack.geometry.vectors import all_finite, length

PIXEL_THRESHOLDS = (1, 2, 4, 8, 16)
Scaling = Literal["median", "per_trajectory", "local_neighborhood"]
SCALINGS: tuple[Scaling, ...] = ("median", "per_trajectory", "local_neighborhood")
"""Scalings of a prediction: one for all points; one for each track, from its depth in the query frame; the latter, applied to all
points within `NEIGHBOURHOOD_M` of the track. Named as by the released evaluator."""
NEIGHBOURHOOD_M = 0.05
LEAST_DEPTH_M = 1e-12
PAIRS_AT_ONCE = 1_000_000
"""Limits the memory of the search for neighbours."""


@dataclass(frozen=True)
class TapVid3DScores:
    """TAPVid-3D scores in percent, higher is better; NaN without evaluated points (all but `oa` if no point is truly visible)."""

    aj: float  # average Jaccard: hits among truly visible points and false alarms
    apd: float  # truly visible points within the threshold, regardless of predicted visibility
    oa: float  # points whose predicted visibility is correct
    points: int  # number of evaluated points
    scale: float  # scale applied to the prediction; NaN if undefined (then no point is within a threshold), or one per track


def tapvid3d_scores(
    predicted: np.ndarray,
    predicted_visible: np.ndarray,
    true: np.ndarray,
    true_visible: np.ndarray,
    true_depth_m: np.ndarray,
    focal_px: tuple[float, float],
    *,
    scaling: Scaling = "median",
    query_frame: np.ndarray | None = None,
) -> TapVid3DScores:
    """Compute the scores over all frames of all given tracks.

    Args:
        predicted, true: [time, points, 3], both in the camera of each frame, or (median scale only) in the world.
        predicted_visible, true_visible: [time, points] bool.
        true_depth_m: [time, points] z-depth of the true point in the camera of its frame.
        focal_px: (fx, fy) of the image resized to a shorter side of 256.
        scaling: one of `SCALINGS`. "median": the ratio of the median distances over points visible in ground truth and prediction.
        query_frame: [points] frame of each query; required by the scalings per track.
    Returns:
        `TapVid3DScores`. A point that is non-finite in prediction or ground truth is within no threshold.
    """
    limit_m = np.abs(true_depth_m) / np.sqrt(focal_px[0] * focal_px[1])
    entries = (predicted, true, limit_m, true_visible, predicted_visible)
    if scaling == "median":
        scale = _median_scale(predicted, predicted_visible, true, true_visible)
        counts = _counts(scale, *entries).reshape(_COLUMNS, -1).sum(axis=1)
    else:
        assert query_frame is not None, "scalings per track need the query frames"
        scale, every = float("nan"), np.arange(true.shape[1])
        depths = (np.maximum(points[query_frame, every, 2], LEAST_DEPTH_M) for points in (true, predicted))
        with np.errstate(invalid="ignore"):
            scales = np.divide(*depths)
        if scaling == "per_trajectory":
            counts = _counts(scales, *entries).reshape(_COLUMNS, -1).sum(axis=1)
        else:
            counts = _neighbourhood_counts(scales, entries)
    return _scores(counts, int(true_visible.size), scale)


def _median_scale(predicted: np.ndarray, predicted_visible: np.ndarray, true: np.ndarray, true_visible: np.ndarray) -> float:
    both = true_visible & predicted_visible & all_finite(predicted) & all_finite(true)
    if not both.any():
        return float("nan")
    return float(np.median(floored_norm(true[both])) / np.median(floored_norm(predicted[both])))


_COLUMNS = 3 + 3 * len(PIXEL_THRESHOLDS)


def _counts(
    scale: np.ndarray | float,
    predicted: np.ndarray,
    true: np.ndarray,
    limit_m: np.ndarray,
    seen: np.ndarray,
    predicted_seen: np.ndarray,
) -> np.ndarray:
    """Counts [columns, ...] per entry: 1, visible, visibility correct; then per threshold hits, points within, false alarms."""
    with np.errstate(invalid="ignore", over="ignore"):
        error = length(np.asarray(scale)[..., None] * predicted - true)
        within = error < np.multiply.outer(PIXEL_THRESHOLDS, limit_m)
    right = within & seen
    return np.concatenate(
        [np.stack([np.ones_like(seen), seen, seen == predicted_seen]), right & predicted_seen, right, predicted_seen & ~right]
    )


def _neighbourhood_counts(scales: np.ndarray, entries: tuple[np.ndarray, ...]) -> np.ndarray:
    """Counts over the neighbourhoods of all tracks, each scaled as its track and weighted by its number of visible points."""
    true, seen = entries[1], entries[3]
    total = np.zeros((_COLUMNS, len(scales)))
    for t in range(len(true)):
        for track, other in _neighbours(true[t]):
            counts = _counts(scales[track], *(values[t, other] for values in entries))
            total += [np.bincount(track, column, minlength=len(scales)) for column in counts]
    return total @ (seen.sum(axis=0) / np.maximum(total[1], 1))


def _neighbours(points: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs (track, other) of points [points, 3] less than `NEIGHBOURHOOD_M` apart, including (k, k), in chunks."""
    rows = max(1, PAIRS_AT_ONCE // max(len(points), 1))
    for start in range(0, len(points), rows):
        squared = ((points[start : start + rows, None] - points) ** 2).sum(axis=-1)
        track, other = np.nonzero(squared < NEIGHBOURHOOD_M**2)
        yield track + start, other


def _scores(counts: np.ndarray, points: int, scale: float) -> TapVid3DScores:
    entries, seen, right = (float(count) for count in counts[:3])
    hits, within, false_alarms = counts[3:].reshape(3, -1)
    return TapVid3DScores(
        aj=float(100 * np.mean(hits / (seen + false_alarms))) if seen else float("nan"),
        apd=float(100 * np.mean(within / seen)) if seen else float("nan"),
        oa=100 * right / entries if entries else float("nan"),
        points=points,
        scale=scale,
    )


BINS = 10


def expected_calibration_error(probability: np.ndarray, outcome: np.ndarray, *, bins: int = BINS) -> float:
    """Expected calibration error (Naeini et al. 2015): mean over equal-width bins of |mean probability - observed frequency|.

    Args:
        probability: [...] within 0 and 1.
        outcome: [...] bool.
        bins: number of bins; each is weighted by its number of samples.
    Returns:
        0 to 1, lower is better; NaN without samples.
    Raises:
        ValueError: the shapes differ, or a probability is not within 0 and 1.
    """
    predicted, happened = np.asarray(probability, np.float64).reshape(-1), np.asarray(outcome, bool).reshape(-1)
    if np.shape(probability) != np.shape(outcome) or not ((predicted >= 0) & (predicted <= 1)).all():
        raise ValueError("probability must be within 0 and 1 and have the shape of outcome")
    if predicted.size == 0:
        return float("nan")
    which = np.minimum((predicted * bins).astype(np.int64), bins - 1)
    excess = np.bincount(which, predicted - happened, minlength=bins)
    return float(np.abs(excess).sum() / predicted.size)
