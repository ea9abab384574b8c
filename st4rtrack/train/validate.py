"""Validation scores of a network on held-out clips or pairs, and of baselines without a network."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from st4rtrack.geometry.align import median_scale
from st4rtrack.metrics.points import average_points_within_distance, end_point_error
from st4rtrack.train.examples import Examples, to_device
from st4rtrack.train.forward import finite_points, predict


@dataclass(frozen=True)
class Score:
    """EPE (metres) and APD (percent) of tracking, its dynamic pixels and reconstruction, averaged over clips.

    Each clip (or independent pair) is scaled by its median distance. `motion_cosine` is between predicted and true displacement
    of dynamic pixels; the predicted one is from the anchor's tracking for (anchor, anchor) to that for (anchor, frame).
    """

    tracking_epe: float
    tracking_apd: float
    dynamic_epe: float
    dynamic_apd: float
    reconstruction_epe: float
    reconstruction_apd: float
    motion_cosine: float = float("nan")

    def __str__(self) -> str:
        return (
            f"tracking {self.tracking_epe:.3f} m / {self.tracking_apd:.1f} %, moving {self.dynamic_epe:.3f} m / {self.dynamic_apd:.1f} %, "
            f"reconstruction {self.reconstruction_epe:.3f} m / {self.reconstruction_apd:.1f} %, motion cosine {self.motion_cosine:.2f}"
        )

    @property
    def overall(self) -> float:
        """Model selection score: mean of the finite values of the three APD."""
        known = [x for x in (self.tracking_apd, self.dynamic_apd, self.reconstruction_apd) if np.isfinite(x)]
        return float(np.mean(known)) if known else float("-inf")


@dataclass(frozen=True)
class HeldOut:
    """Validation data on the CPU: pairs with ground truth, and every clip's pair (anchor, anchor) to measure motion."""

    examples: Examples
    still: Examples


@torch.no_grad()
def validate(network: nn.Module, held_out: Iterable[HeldOut], device: torch.device, *, precision: str = "float32") -> Score:
    """Score a `PairNetwork`, distributed or not, on validation data; every process must call it."""
    network.eval()
    rows, cosines = [], []
    for each in held_out:
        out, still = (predict(network, to_device(examples, device), precision) for examples in (each.examples, each.still))
        tracking, reconstruction, still_points = (finite_points(m) for m in (out.tracking, out.reconstruction, still.tracking))
        rows += _rows(each.examples, tracking, reconstruction)
        frames = each.examples.supervision.frames_per_clip
        cosines += _motion_cosines(each.examples, tracking - still_points.repeat(frames, axis=0))
    return _score(rows, cosines)


def _rows(examples: Examples, tracking: np.ndarray, reconstruction: np.ndarray) -> list[list[float]]:
    """Six metrics per clip (see `Score`); points [pairs, height, width, 3]."""
    truth, moving = examples.supervision.truth, examples.supervision.moving
    assert truth.tracking.valid is not None
    frames = examples.supervision.frames_per_clip
    rows = []
    for start in range(0, len(examples), frames):
        clip = slice(start, start + frames)
        errors = []
        for points, true in ((tracking, truth.tracking), (reconstruction, truth.reconstruction)):
            assert true.valid is not None
            valid = true.valid[clip].numpy()
            predicted, target = points[clip][valid], true.points_world[clip].numpy()[valid]
            errors.append(end_point_error(predicted * median_scale(predicted, target), target) if len(target) else np.zeros(0))
        in_motion = None if moving is None else moving[clip][truth.tracking.valid[clip]].numpy()
        dynamic = np.zeros(0) if in_motion is None else errors[0][in_motion]
        rows.append([figure for error in (errors[0], dynamic, errors[1]) for figure in _figures(error)])
    return rows


def _figures(error_m: np.ndarray) -> tuple[float, float]:
    return (float(error_m.mean()) if error_m.size else np.nan), average_points_within_distance(error_m)


def _motion_cosines(examples: Examples, predicted: np.ndarray) -> list[float]:
    """Mean motion cosine of every pair with dynamic pixels; `predicted` displacement [pairs, height, width, 3]."""
    truth, moving = examples.supervision.truth.tracking, examples.supervision.moving
    if moving is None or truth.valid is None:
        return []
    true = (truth.points_world - examples.supervision.anchor_points).numpy()
    cosines = []
    for k, chosen in enumerate((moving & truth.valid).numpy()):
        a, b = predicted[k][chosen], true[k][chosen]
        norms = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
        if (norms > 0).any():
            cosines.append(float(((a * b).sum(-1) / np.maximum(norms, 1e-9)).mean()))
    return cosines


def _score(rows: list[list[float]], cosines: list[float]) -> Score:
    table = np.array(rows, np.float64).reshape(-1, 6)
    known = np.isfinite(table)
    means = np.where(known.any(0), np.where(known, table, 0).sum(0) / np.maximum(known.sum(0), 1), np.nan)
    return Score(*means.tolist(), motion_cosine=float(np.mean(cosines)) if cosines else float("nan"))
