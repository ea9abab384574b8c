"""Relative depth after one median scale per sequence: AbsRel (lower is better) and the share within a factor 1.25 (higher)."""

from dataclasses import dataclass

import numpy as np

FACTOR = 1.25


@dataclass(frozen=True)
class DepthScores:
    """Of a whole sequence; NaN where nothing was counted.

    Attributes:
        abs_rel: mean |depth - truth| / truth, over pixels with a usable prediction.
        delta_1_25: percent of all counted pixels within a factor 1.25.
        points: pixels with truth.
        non_finite: of them, those whose prediction is not finite and positive: misses in the second figure, not in the first.
        scale: that was applied to the prediction.
    """

    abs_rel: float
    delta_1_25: float
    points: int
    non_finite: int
    scale: float


class RelativeDepth:
    """Collects a sequence frame by frame. Counted depths are held as float32, because the median needs them all: 8 bytes a pixel."""

    def __init__(self) -> None:
        self._predicted: list[np.ndarray] = []
        self._true: list[np.ndarray] = []
        self._points = 0

    def add(self, predicted: np.ndarray, true: np.ndarray) -> None:
        """Adds a frame: depths [height, width] in the predicted unit and in metres; truth counts where it is finite and positive."""
        counted = np.isfinite(true) & (true > 0)
        predicted, true = predicted[counted].astype(np.float32), true[counted].astype(np.float32)
        usable = np.isfinite(predicted) & (predicted > 0)
        self._points += len(true)
        self._predicted.append(predicted[usable])
        self._true.append(true[usable])

    def result(self) -> DepthScores:
        """Scores of what was added, scaled by the ratio of the medians."""
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
