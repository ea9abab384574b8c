"""Anchor against every frame through the network, in batches, the anchor encoded once."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from st4rtrack.model.encoder import Tokens
from st4rtrack.model.network import St4RTrack
from st4rtrack.preprocess import normalize_images
from st4rtrack.types import Pointmap, TwoPointmaps

logger = logging.getLogger(__name__)

TOKENS_PER_BATCH = {"cpu": 2500, "mps": 10_000, "cuda": 20_000}
"""Tokens of frames at once: enough to fill the matrix units, little enough to fit anywhere. Frames at 512x288 have 576."""


@dataclass
class Anchor:
    """The anchor as the network knows it: `image` [1, 3, height, width] in [-1, 1] and its `tokens`."""

    image: torch.Tensor
    tokens: Tokens


@torch.inference_mode()
def encode_anchor(model: St4RTrack, rgb: np.ndarray) -> Anchor:
    """The anchor from its image [height, width, 3] uint8."""
    image = normalize_images(rgb[None]).to(model.device)
    return Anchor(image, model.encode(image))


@torch.inference_mode()
def predict_batch(model: St4RTrack, anchor: Anchor, rgb: np.ndarray) -> list[TwoPointmaps]:
    """Pointmaps of the anchor against frames [batch, height, width, 3] uint8: one `TwoPointmaps` of NumPy arrays per frame."""
    images = normalize_images(rgb).to(model.device)
    hints = model.hints(anchor.image, images)
    out = model.decode(anchor.tokens, model.encode(images), hints)
    tracking, reconstruction = _to_numpy(out.tracking), _to_numpy(out.reconstruction)
    return [TwoPointmaps(tracking[k], reconstruction[k]) for k in range(len(rgb))]


def predict_frames(
    model: St4RTrack, anchor: Anchor, frames: Iterator[np.ndarray], *, batch_size: int
) -> Iterator[tuple[np.ndarray, TwoPointmaps]]:
    """Each frame [height, width, 3] uint8 with its pointmaps, in order; at most one batch is held.

    A batch that does not fit into the accelerator's memory is tried again in halves, which is said once in the log.
    """
    waiting: list[np.ndarray] = []
    for frame in frames:
        waiting.append(frame)
        if len(waiting) == batch_size:
            yield from zip(waiting, _predict_or_halve(model, anchor, waiting), strict=True)
            waiting = []
    if waiting:
        yield from zip(waiting, _predict_or_halve(model, anchor, waiting), strict=True)


def automatic_batch_size(model: St4RTrack, height: int, width: int) -> int:
    """Frames per batch for a network size, from the device's kind."""
    tokens = height * width // model.config.patch_size**2
    return max(1, TOKENS_PER_BATCH.get(model.device.type, TOKENS_PER_BATCH["cpu"]) // tokens)


def _predict_or_halve(model: St4RTrack, anchor: Anchor, frames: list[np.ndarray]) -> list[TwoPointmaps]:
    try:
        return predict_batch(model, anchor, np.stack(frames))
    except torch.OutOfMemoryError:
        if len(frames) == 1:
            raise
        torch.cuda.empty_cache()
    middle = len(frames) // 2
    logger.warning(
        "a batch of %d frames did not fit into memory: trying %d; a smaller --batch-size avoids this", len(frames), middle
    )
    return _predict_or_halve(model, anchor, frames[:middle]) + _predict_or_halve(model, anchor, frames[middle:])


def _to_numpy(pointmaps: Pointmap) -> list[Pointmap]:
    points, confidence = pointmaps.points_world.cpu().numpy(), pointmaps.confidence
    assert confidence is not None
    return [Pointmap(p, c) for p, c in zip(points, confidence.cpu().numpy(), strict=True)]
