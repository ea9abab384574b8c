"""3D point metrics: EPE (lower is better) and APD (higher is better), paper section 4.2."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import numpy as np

from st4rtrack.geometry.align import Moments, Sim3, floored_norm
from st4rtrack.geometry.vectors import all_finite, length

APD_THRESHOLDS_M = (0.1, 0.3, 0.5, 1.0)

Pieces = Callable[[], Iterable[tuple[np.ndarray, np.ndarray]]]
"""Yields chunks of corresponding (predicted, true) points [n, 3]; called once per pass, so that they need not fit in memory."""


def end_point_error(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    """End-point error [...]: distance between corresponding points [..., 3], in their unit."""
    return length(np.asarray(predicted, np.float64) - true)


def average_points_within_distance(error_m: np.ndarray) -> float:
    """APD in percent: share of errors [...] (metres) within a threshold, averaged over 0.1, 0.3, 0.5 and 1 m; NaN without any."""
    totals = ErrorTotals()
    totals.add(np.asarray(error_m))
    return totals.apd


def finite_or_nan(points: np.ndarray) -> np.ndarray:
    """Replace infinity by NaN, which passes through a rotation without a warning."""
    return np.where(np.isfinite(points), points, np.nan)


@dataclass
class ErrorTotals:
    """Accumulated point errors in metres. A non-finite error is a miss in APD and excluded from EPE."""

    points: int = 0  # number of errors added
    non_finite: int = 0  # number of non-finite errors among them
    _within: np.ndarray = field(default_factory=lambda: np.zeros(len(APD_THRESHOLDS_M)))
    _sum_m: float = 0.0

    def add(self, error_m: np.ndarray) -> None:
        """Add errors [...] in metres."""
        finite = np.isfinite(error_m)
        self.points += error_m.size
        self.non_finite += int(error_m.size - finite.sum())
        self._within += [np.count_nonzero(error_m <= threshold) for threshold in APD_THRESHOLDS_M]
        self._sum_m += float(error_m[finite].sum(dtype=np.float64))

    @property
    def apd(self) -> float:
        """APD in percent; NaN without points."""
        return float(100 * self._within.mean() / self.points) if self.points else float("nan")

    @property
    def epe(self) -> float:
        """EPE in metres; NaN without finite errors."""
        finite = self.points - self.non_finite
        return self._sum_m / finite if finite else float("nan")


def global_alignments(pieces: Pieces, *, reflection_scale: bool = False) -> dict[str, Sim3]:
    """Global alignments of predicted to true points, by median scale and by Sim(3), over points finite in both.

    Args:
        pieces: corresponding points.
        reflection_scale: see `umeyama`.
    Returns:
        "median" (a scale about the origin) and "sim3" (the least-squares similarity). If no similarity exists (fewer than three
        points, or coincident predicted points), "sim3" maps all points to the mean of the true ones; without points, both are the
        identity.
    """
    moments, norms = Moments(), ([], [])
    for predicted, true in pieces():
        finite = all_finite(predicted) & all_finite(true)
        moments.add(predicted[finite], true[finite])
        norms[0].append(floored_norm(predicted[finite]).ravel())
        norms[1].append(floored_norm(true[finite]).ravel())
    if moments.count == 0:
        unchanged = Sim3(1.0, np.eye(3), np.zeros(3))
        return {"median": unchanged, "sim3": unchanged}
    predicted_norm, true_norm = (np.median(np.concatenate(part)) for part in norms)
    median = Sim3(float(true_norm / predicted_norm), np.eye(3), np.zeros(3))
    try:
        sim3 = moments.similarity(allow_reflection_scale=reflection_scale)
    except ValueError:
        sim3 = Sim3(0.0, np.eye(3), moments.target_mean)
    return {"median": median, "sim3": sim3}


def aligned_errors(pieces: Pieces, alignments: dict[str, Sim3]) -> dict[str, ErrorTotals]:
    """Accumulate the errors under each alignment, in one pass over the points."""
    totals = {name: ErrorTotals() for name in alignments}
    for predicted, true in pieces():
        predicted = finite_or_nan(predicted)
        for name, alignment in alignments.items():
            totals[name].add(end_point_error(alignment(predicted), true))
    return totals
