"""How good the network is on held-out procedural pairs, beside what needs no network."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from st4rtrack.geometry.align import median_scale
from st4rtrack.metrics.points import average_points_within_distance, end_point_error
from st4rtrack.model.network import St4RTrack
from st4rtrack.train.batch import Batch


@dataclass(frozen=True)
class Score:
    """Means over pairs, each scaled by its median distance: EPE in metres, APD in percent, of all, of moving pixels, of reconstruction.

    `motion_cosine`: between predicted and true displacement of the moving pixels, the predicted one from the anchor's map
    under the pair (anchor, anchor) to that under (anchor, frame).
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


@torch.inference_mode()
def validate(model: St4RTrack, batches: Iterable[Batch]) -> Score:
    """Score of a network on batches of pairs."""
    model.eval()
    rows, cosines = [], []
    for batch in batches:
        anchor, frame = model.encode(batch.anchor_images), model.encode(batch.frame_images)
        out = model.decode(anchor, frame, batch.hints if model.config.hints else None)
        tracking, reconstruction = (m.points_world[:, ::2, ::2].float().numpy() for m in (out.tracking, out.reconstruction))
        still = model.decode(anchor, anchor, model.hints(batch.anchor_images, batch.anchor_images)).tracking.points_world[
            :, ::2, ::2
        ]
        rows += _rows(batch, tracking, reconstruction)
        cosines += _motion_cosines(batch, tracking - still.float().numpy())
    return Score(*np.nanmean(np.array(rows), axis=0), motion_cosine=float(np.mean(cosines)) if cosines else float("nan"))


def validate_constant(mean_maps: dict[tuple[int, int], tuple[Tensor, Tensor]], batches: Iterable[Batch]) -> Score:
    """Score of the mean pointmap of the training data for each size (height, width): what a network must beat."""
    rows = []
    for batch in batches:
        tracking, reconstruction = mean_maps[(batch.anchor_images.shape[2], batch.anchor_images.shape[3])]
        count = len(batch.unit)
        rows += _rows(batch, *(m.expand(count, -1, -1, -1).numpy() for m in (tracking, reconstruction)))
    return Score(*np.nanmean(np.array(rows), axis=0))


def validate_still(batches: Iterable[Batch]) -> Score:
    """Score of the anchor's true points without any motion."""
    rows = []
    for batch in batches:
        rows += _rows(batch, batch.own_points.numpy(), batch.own_points.numpy())
    return Score(*np.nanmean(np.array(rows), axis=0))


def mean_pointmaps(shards: Iterable[np.ndarray]) -> dict[tuple[int, int], tuple[Tensor, Tensor]]:
    """Mean of the true pointmaps of records (`pool.record_type`), for each image size (height, width).

    In units of the anchor's mean distance, as the network predicts.
    """
    sums: dict[tuple[int, int], list] = {}
    for records in shards:
        entry = sums.setdefault(records["rgb"].shape[2:4], [0.0, 0.0, 0])
        unit = np.linalg.norm(records["own_points"].astype(np.float32), axis=-1).mean((2, 3))[..., None, None, None]
        entry[0] = entry[0] + (records["tracking"] / unit).sum((0, 1))
        entry[1] = entry[1] + (records["reconstruction"] / unit).sum((0, 1))
        entry[2] += 2 * len(records)
    return {
        size: (torch.from_numpy(a / count).float(), torch.from_numpy(b / count).float()) for size, (a, b, count) in sums.items()
    }


def _rows(batch: Batch, tracking: np.ndarray, reconstruction: np.ndarray) -> list[list[float]]:
    rows = []
    true_tracking, true_reconstruction = (m.points_world.numpy() for m in (batch.truth.tracking, batch.truth.reconstruction))
    for k, moving in enumerate(batch.moving.numpy()):
        error = end_point_error(tracking[k] * median_scale(tracking[k], true_tracking[k]), true_tracking[k])
        other = end_point_error(
            reconstruction[k] * median_scale(reconstruction[k], true_reconstruction[k]), true_reconstruction[k]
        )
        dynamic = error[moving]
        rows.append(
            [
                error.mean(),
                average_points_within_distance(error),
                dynamic.mean() if dynamic.size else np.nan,
                average_points_within_distance(dynamic),
                other.mean(),
                average_points_within_distance(other),
            ]
        )
    return rows


def _motion_cosines(batch: Batch, predicted: np.ndarray) -> list[float]:
    true = (batch.truth.tracking.points_world - batch.own_points).numpy()
    cosines = []
    for k, moving in enumerate(batch.moving.numpy()):
        if moving.any():
            a, b = predicted[k][moving], true[k][moving]
            cosines.append(
                float(((a * b).sum(-1) / np.maximum(np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1), 1e-9)).mean())
            )
    return cosines
