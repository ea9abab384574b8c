"""What one sees while a run goes on: the line with the time left, curves and pictures for TensorBoard, all in the run's folder."""

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
from st4rtrack.render.draw import CONFIDENCE_MAP, DEPTH_MAP, map_colours, robust_range
from st4rtrack.train.config import TrainConfig
from st4rtrack.train.examples import Examples
from st4rtrack.train.forward import finite_points, predict
from st4rtrack.types import Pointmap

logger = logging.getLogger(__name__)

ERROR_LIMIT_M = 1.0
REPORTED = ("tracking_error", "reconstruction_error", "relative", "log_depth", "focal")
"""Parts of the loss that the progress line shows, of those that the kind of training has."""


class Meter:
    """Means since the last line, and the rate since the run was started or went on."""

    def __init__(self, step: int) -> None:
        self.start, self.first_step = time.monotonic(), step
        self.rows: list[dict[str, float]] = []
        self.pairs = 0

    def add(self, figures: dict[str, float], pairs: int) -> None:
        """A finite step: its figures, and how many pairs it had on all processes."""
        self.rows.append(figures)
        self.pairs += pairs

    def means(self) -> dict[str, float]:
        """Means since this was last asked, and "pairs_per_s"."""
        rows, self.rows = self.rows, []
        means = {name: float(np.mean([row[name] for row in rows])) for name in (rows[0] if rows else {})}
        return means | {"pairs_per_s": self.pairs / (time.monotonic() - self.start)}

    def line(self, step: int, means: dict[str, float], config: TrainConfig) -> str:
        """For people."""
        left = (time.monotonic() - self.start) / max(1, step - self.first_step) * (config.steps - step)
        errors = ", ".join(f"{name.replace('_', ' ')} {means[name]:.4f}" for name in REPORTED if name in means)
        return f"step {step}/{config.steps}, {errors}, {means['pairs_per_s']:.1f} samples/s, {duration(left)} left"


def duration(seconds: float) -> str:
    """Minutes, or hours and minutes."""
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


class Curves:
    """Curves and pictures in the form that TensorBoard reads; without it installed, pictures are still written as files.

    Without a folder, nothing is written: of several processes only the first one does.
    """

    def __init__(self, folder: Path | None, step: int) -> None:
        self.folder = folder
        self.writer: Any = None
        if folder is None:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            logger.info(
                "no curves: they need the train extra, pip install 'st4rtrack[train]'; figures are in %s", folder / "log.jsonl"
            )
        else:
            self.writer = SummaryWriter(str(folder / "curves"), purge_step=step + 1)

    def figures(self, group: str, figures: dict[str, float], step: int) -> None:
        """Points of curves; what is not a number is left out."""
        if self.writer is not None:
            for name, value in figures.items():
                if np.isfinite(value):
                    self.writer.add_scalar(f"{group}/{name}", value, step)

    def picture(self, name: str, image: np.ndarray, step: int) -> None:
        """A picture [height, width, 3] uint8 RGB."""
        if self.folder is None:
            return
        encoded = cv2.imencode(".jpg", image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])[1]
        write_whole(self.folder / "pictures" / f"{name}_{step:06d}.jpg", encoded.tobytes())
        if self.writer is not None:
            self.writer.add_image(name, image, step, dataformats="HWC")

    def close(self) -> None:
        """Writes what is still held."""
        if self.writer is not None:
            self.writer.close()


@torch.no_grad()
def sample_picture(network: nn.Module, examples: Examples, precision: str) -> np.ndarray:
    """The last pair of a micro-batch: input above, then tracking, then reconstruction, each predicted, true, and the error.

    Depth (z in the anchor's camera) has one range of colours per row; errors are coloured from 0 to a metre after the median scale.

    Returns:
        [height, width, 3] uint8 RGB.
    """
    network.eval()
    prediction = predict(network, examples, precision).maps
    truth = examples.supervision.truth
    pair = (examples.images[index[-1]] for index in (examples.anchor_index, examples.frame_index))
    stride = examples.stride
    shown = [
        ((i.permute(1, 2, 0).float() + 1) * 127.5).round().clamp(0, 255).byte().cpu().numpy()[::stride, ::stride] for i in pair
    ]
    rows = [np.concatenate([*shown, np.full_like(shown[0], 255)], axis=1)]
    for predicted, true in ((prediction.tracking, truth.tracking), (prediction.reconstruction, truth.reconstruction)):
        rows.append(_row(predicted, true))
    return np.concatenate(rows)


def _row(predicted: Pointmap, true: Pointmap) -> np.ndarray:
    """Predicted depth, true depth, error of the last pair, side by side; unknown truth is blank."""
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
