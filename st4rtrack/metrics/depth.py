"""Depth metrics after one median scale per sequence: AbsRel (lower is better) and delta < 1.25 (higher is better)."""

from dataclasses import dataclass

import numpy as np

FACTOR = 1.25


@dataclass(frozen=True)
class DepthScores:
    """Depth scores of a whole sequence; NaN without evaluated pixels.

    Attributes:
        abs_rel: mean |depth - truth| / truth, over pixels with a finite positive prediction.
        delta_1_25: percent of all evaluated pixels within a factor 1.25.
        points: number of pixels with ground truth.
        non_finite: number of these without a finite positive prediction: misses in delta_1_25, excluded from abs_rel.
        scale: scale applied to the prediction.
    """

    abs_rel: float
    delta_1_25: float
    points: int
    non_finite: int
    scale: float


class RelativeDepth:
    """Accumulates a sequence frame by frame. Stores all depths as float32, 8 bytes per pixel, because the median needs them."""

    def __init__(self) -> None:
        self._predicted: list[np.ndarray] = []
        self._true: list[np.ndarray] = []
        self._points = 0

    def add(self, predicted: np.ndarray, true: np.ndarray) -> None:
        """Add a frame: depths [height, width], predicted and true (metres); evaluated where true depth is finite and positive."""
        counted = np.isfinite(true) & (true > 0)
        predicted, true = predicted[counted].astype(np.float32), true[counted].astype(np.float32)
        usable = np.isfinite(predicted) & (predicted > 0)
        self._points += len(true)
        self._predicted.append(predicted[usable])
        self._true.append(true[usable])

    def result(self) -> DepthScores:
        """Scores of all added frames, scaled by the ratio of the medians."""
        usable = sum(len(part) for part in self._true)
        if usable == 0:
            share = 0.0 if self._points else float("nan")
            return DepthScores(float("nan"), share, self._points, self._points, 1.0)
        scale = float(np.median(np.concatenate(self._true)) / np.median(np.concatenate(self._predicted)))
        relative, within = 0.0, 0
        for predicted, true in zip(self._predicted, self._true, strict=True):
            ratio = scale * predicted.astype(np.float64) / true
            relative += float(np.abs(ratio - 1).sum())
            within += int(np.count_nonzero(np.maximum(ratio, 1 / ratio) < FACTOR))
        return DepthScores(relative / usable, 100 * within / self._points, self._points, self._points - usable, scale)
