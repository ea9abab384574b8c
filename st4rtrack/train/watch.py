"""Progress of a training run: progress line with remaining time, curves and images for TensorBoard."""

import logging
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import nn

from st4rtrack.geometry.align import median_scale
from st4rtrack.io.files import write_whole
from st4rtrack.io.installation import install_extra
from st4rtrack.render.draw import CONFIDENCE_MAP, DEPTH_MAP, map_colours, robust_range
from st4rtrack.train.config import TrainConfig
from st4rtrack.train.examples import Examples
from st4rtrack.train.forward import finite_points, predict
from st4rtrack.types import Pointmap

logger = logging.getLogger(__name__)

ERROR_LIMIT_M = 1.0
REPORTED = ("tracking_error", "reconstruction_error", "relative", "log_depth", "focal", "visible_points")
"""Loss terms shown in the progress line, if the kind of training has them."""


class Meter:
    """Averages metrics since the last progress line, and throughput since the run started or resumed."""

    def __init__(self, step: int) -> None:
        self.start, self.first_step = time.monotonic(), step
        self.rows: list[dict[str, float]] = []
        self.pairs = 0

    def add(self, figures: dict[str, float], pairs: int) -> None:
        """Add the metrics of a finite step and its number of pairs over all processes."""
        self.rows.append(figures)
        self.pairs += pairs

    def means(self) -> dict[str, float]:
        """Return means since the last call, and "pairs_per_s"."""
        rows, self.rows = self.rows, []
        means = {name: float(np.mean([row[name] for row in rows])) for name in (rows[0] if rows else {})}
        return means | {"pairs_per_s": self.pairs / (time.monotonic() - self.start)}

    def line(self, step: int, means: dict[str, float], config: TrainConfig) -> str:
        """Format the progress line."""
        left = (time.monotonic() - self.start) / max(1, step - self.first_step) * (config.steps - step)
        errors = ", ".join(f"{name.replace('_', ' ')} {means[name]:.4f}" for name in REPORTED if name in means)
        return f"step {step}/{config.steps}, {errors}, {means['pairs_per_s']:.1f} samples/s, {duration(left)} left"


def duration(seconds: float) -> str:
    """Format a duration in minutes, or hours and minutes."""
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


class Curves:
    """Writes curves and images for TensorBoard; if it is not installed, only images, as files.

    Without a folder, as on ranks other than 0, nothing is written.
    """

    def __init__(self, folder: Path | None, step: int) -> None:
        self.folder = folder
        self.writer: Any = None
        if folder is None:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            logger.info("no curves without TensorBoard: %s; metrics are in %s", install_extra("train"), folder / "log.jsonl")
        else:
            self.writer = SummaryWriter(str(folder / "curves"), purge_step=step + 1)

    def figures(self, group: str, figures: dict[str, float], step: int) -> None:
        """Add points to curves; non-finite values are left out."""
        if self.writer is not None:
            for name, value in figures.items():
                if np.isfinite(value):
                    self.writer.add_scalar(f"{group}/{name}", value, step)

    def picture(self, name: str, image: np.ndarray, step: int) -> None:
        """Write an image [height, width, 3] uint8 RGB."""
        if self.folder is None:
            return
        encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])[1]
        write_whole(self.folder / "pictures" / f"{name}_{step:06d}.jpg", encoded.tobytes())
        if self.writer is not None:
            self.writer.add_image(name, image, step, dataformats="HWC")

    def close(self) -> None:
        """Flush and close the TensorBoard writer."""
        if self.writer is not None:
            self.writer.close()


@torch.no_grad()
def sample_picture(network: nn.Module, examples: Examples, precision: str) -> np.ndarray:
    """Render the last pair of a micro-batch as [height, width, 3] uint8 RGB.

    First the images, then a row each for tracking and reconstruction: predicted and true depth in one colour range, error to 1 m.
    """
    network.eval()
    prediction = predict(network, examples, precision)
    truth = examples.supervision.truth
    pair = (examples.images[index[-1]] for index in (examples.anchor_index, examples.frame_index))
    shown = [((i.permute(1, 2, 0).float() + 1) * 127.5).round().clamp(0, 255).byte().cpu().numpy() for i in pair]
    rows = [np.concatenate([*shown, np.full_like(shown[0], 255)], axis=1)]
    for predicted, true in ((prediction.tracking, truth.tracking), (prediction.reconstruction, truth.reconstruction)):
        rows.append(_row(predicted, true))
    return np.concatenate(rows)


def _row(predicted: Pointmap, true: Pointmap) -> np.ndarray:
    """Predicted depth, true depth and error of the last pair, side by side; blank without ground truth."""
    assert true.valid is not None
    points, target = finite_points(predicted)[-1], finite_points(true)[-1]
    known = true.valid[-1].cpu().numpy()
    scale = median_scale(points[known], target[known]) if known.any() else 1.0
    depth = np.where(known, target[..., 2], np.nan)
    limits = robust_range(depth)
    error = np.where(known, np.linalg.norm(points * scale - target, axis=-1), np.nan)
    panels = (
        map_colours(points[..., 2] * scale, limits, DEPTH_MAP, reverse=True),
        map_colours(depth, limits, DEPTH_MAP, reverse=True),
        map_colours(error, (0.0, ERROR_LIMIT_M), CONFIDENCE_MAP),
    )
    return np.concatenate(panels, axis=1)
