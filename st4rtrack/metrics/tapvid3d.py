"""TAPVid-3D metrics of tracks with visibility: average Jaccard (AJ), APD and occlusion accuracy (OA); calibration error.

Thresholds are 1, 2, 4, 8 and 16 pixels at the true point's depth, in images whose shorter side is 256 (arXiv 2407.05921).
As in its evaluator every frame is evaluated, including the query frame. Not comparable to published scores in one respect: the
median scale uses norms of world points, not of points in each frame's camera.
"""

from dataclasses import dataclass

import numpy as np

from st4rtrack.geometry.align import floored_norm
from st4rtrack.geometry.vectors import all_finite, length

PIXEL_THRESHOLDS = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class TapVid3DScores:
    """TAPVid-3D scores in percent, higher is better; NaN without evaluated points (all but `oa` if no point is truly visible).

    Attributes:
        aj: average Jaccard: hits among truly visible points and false alarms.
        apd: truly visible points within the threshold, regardless of predicted visibility.
        oa: points whose predicted visibility is correct.
        points: number of evaluated points.
        scale: scale applied to the prediction; NaN if undefined, then no point is within a threshold.
    """

    aj: float
    apd: float
    oa: float
    points: int
    scale: float


def tapvid3d_scores(
    predicted_world: np.ndarray,
    predicted_visible: np.ndarray,
    true_world: np.ndarray,
    true_visible: np.ndarray,
    true_depth_m: np.ndarray,
    focal_px: tuple[float, float],
) -> TapVid3DScores:
    """Compute the scores over all frames of tracks that are visible in their query frame.

    Args:
        predicted_world, true_world: [time, points, 3].
        predicted_visible, true_visible: [time, points] bool.
        true_depth_m: [time, points] z-depth of the true point in the camera of its frame.
        focal_px: (fx, fy) of the image resized to a shorter side of 256.
    Returns:
        `TapVid3DScores`, after one scale: the ratio of the median distances over points visible in ground truth and prediction,
        all frames. A point that is non-finite in prediction or ground truth is within no threshold.
    """
    finite = all_finite(predicted_world) & all_finite(true_world)
    both = true_visible & predicted_visible & finite
    scale = float("nan")
    if both.any():
        scale = float(np.median(floored_norm(true_world[both])) / np.median(floored_norm(predicted_world[both])))
    error = np.full(finite.shape, np.inf)
    error[finite] = length(scale * predicted_world[finite] - true_world[finite])
    per_pixel_m = true_depth_m / np.sqrt(focal_px[0] * focal_px[1])
    seen, predicted = true_visible, predicted_visible
    jaccard, within_share = [], []
    for pixels in PIXEL_THRESHOLDS:
        within = error < pixels * per_pixel_m
        hits = (within & seen & predicted).sum()
        false_alarms = (predicted & ~(seen & within)).sum()
        jaccard.append(_share(hits, seen.sum() + false_alarms) if seen.any() else float("nan"))
        within_share.append(_share((within & seen).sum(), seen.sum()))
    return TapVid3DScores(
        aj=float(np.mean(jaccard)),
        apd=float(np.mean(within_share)),
        oa=_share((seen == predicted).sum(), seen.size),
        points=int(seen.size),
        scale=scale,
    )


def _share(part: int, whole: int) -> float:
    return float(100 * part / whole) if whole else float("nan")


BINS = 10


def expected_calibration_error(probability: np.ndarray, outcome: np.ndarray, *, bins: int = BINS) -> float:
    """Expected calibration error: mean over equal-width bins of |mean probability - observed frequency|.

    Args:
        probability: [...] within 0 and 1.
        outcome: [...] bool.
        bins: number of bins; each is weighted by its number of samples.
    Returns:
        0 to 1, lower is better; NaN without samples.
    Raises:
        ValueError: the shapes differ, or a probability is not within 0 and 1.
    Source:
        Naeini et al. 2015.
    """
    predicted, happened = np.asarray(probability, np.float64).reshape(-1), np.asarray(outcome, bool).reshape(-1)
    if np.shape(probability) != np.shape(outcome) or not ((predicted >= 0) & (predicted <= 1)).all():
        raise ValueError("probability must be within 0 and 1 and have the shape of outcome")
    if predicted.size == 0:
        return float("nan")
    which = np.minimum((predicted * bins).astype(np.int64), bins - 1)
    excess = np.bincount(which, predicted - happened, minlength=bins)
    return float(np.abs(excess).sum() / predicted.size)
