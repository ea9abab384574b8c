"""Depth metrics after one median scale per sequence, over all pixels and groups of pixels, and the drift of the scale."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

FACTOR = 1.25
NEAR_FACTOR = 1.03


@dataclass(frozen=True)
class DepthScores:
    """Depth scores of a whole sequence; NaN without evaluated pixels."""

    abs_rel: float  # mean |depth - truth| / truth, over pixels with a finite positive prediction. Lower is better.
    delta_1_25: float  # percent of all evaluated pixels within a factor of 1.25. Higher is better.
    # the same for 1.03, after the median ratio of these pixels: the precision of one reconstruction, whose other pixels do not
    # count. Higher is better.
    delta_1_03: float
    points: int  # number of pixels with ground truth
    non_finite: int  # number of these without a finite positive prediction: misses in the shares, excluded from abs_rel
    scale: float  # scale applied to the prediction


@dataclass
class _Frame:
    """Usable pixels of one frame [pixels], and by group: number of evaluated pixels, and which usable pixels belong to it."""

    predicted: np.ndarray
    true: np.ndarray
    groups: dict[str, tuple[int, np.ndarray]] = field(default_factory=dict)


class RelativeDepth:
    """Accumulates a sequence frame by frame. Stores all depths as float32, 8 bytes per pixel, because the median needs them."""

    def __init__(self) -> None:
        self._frames: list[_Frame] = []

    def add(self, predicted: np.ndarray, true: np.ndarray, groups: Mapping[str, np.ndarray] | None = None) -> None:
        """Add a frame.

        Args:
            predicted, true: [height, width] depth, the latter in metres; evaluated where true depth is finite and positive.
            groups: by name, [height, width] bool.
        """
        counted = np.isfinite(true) & (true > 0)
        predicted, true = predicted[counted].astype(np.float32), true[counted].astype(np.float32)
        usable = np.isfinite(predicted) & (predicted > 0)
        chosen = {"": np.ones(len(true), bool)} | {name: mask[counted] for name, mask in (groups or {}).items()}
        members = {name: (int(mask.sum()), mask[usable]) for name, mask in chosen.items()}
        self._frames.append(_Frame(predicted[usable], true[usable], members))

    def result(self, group: str = "") -> DepthScores:
        """Scores of all added frames, or of a group of their pixels, scaled by the ratio of the medians of all pixels."""
        scale, relative, within, used, points, all_logs = self._scale(), 0.0, 0, 0, 0, list[np.ndarray]()
        for frame in self._frames:
            count, mask = frame.groups.get(group, (0, np.zeros(len(frame.true), bool)))
            ratio = scale * frame.predicted[mask].astype(np.float64) / frame.true[mask]
            apart = np.maximum(ratio, 1 / ratio)
            relative += float(np.abs(ratio - 1).sum())
            within += int(np.count_nonzero(apart < FACTOR))
            all_logs.append(np.log(ratio).astype(np.float32))
            used, points = used + len(ratio), points + count
        logs = np.concatenate(all_logs) if used else np.empty(0, np.float32)
        near = int(np.count_nonzero(np.abs(logs - np.median(logs)) < np.log(NEAR_FACTOR))) if used else 0
        within_percent, near_percent = (100 * hits / points if points else float("nan") for hits in (within, near))
        abs_rel = relative / used if used else float("nan")
        return DepthScores(abs_rel, within_percent, near_percent, points, points - used, scale)

    def scale_drift(self) -> float:
        """Standard deviation over the frames of the logarithm of each frame's own median scale; NaN without frames."""
        logs = [np.median(np.log(frame.true / frame.predicted)) for frame in self._frames if len(frame.true)]
        return float(np.std(logs)) if logs else float("nan")

    def _scale(self) -> float:
        if not any(len(frame.true) for frame in self._frames):
            return 1.0
        true, predicted = (np.concatenate([getattr(frame, name) for frame in self._frames]) for name in ("true", "predicted"))
        return float(np.median(true) / np.median(predicted))
