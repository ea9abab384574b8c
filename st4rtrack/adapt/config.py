"""Adaptation configuration. Every value affects the result, so an interrupted adaptation resumes only with the same values."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

from st4rtrack.model.config import ModelConfig
from st4rtrack.types import UserError

Freeze = Literal["reconstruction", "anchored", "encoder"]

LEARNING_RATE = 5e-5
"""Learning rate of the paper, for the released network."""
MONOCULAR_LEARNING_RATE = 7e-4
"""Learning rate for a monocular head alone."""


@dataclass(frozen=True)
class AdaptConfig:
    """Configuration of the optimisation.

    Attributes:
        steps: maximum number of optimiser steps.
        frames: maximum number of frames per step, including the anchor. 24 in the paper.
        largest_stride: maximum stride between the frames of a step; 6 in the paper.
        learning_rate: peak learning rate after `warmup_steps`, then half-cosine decay to `final_share` of it. The release: 5e-5
            to 4e-5.
        warmup_steps: steps of linear warm-up.
        final_share: final learning rate relative to the peak.
        weight_decay: AdamW weight decay, on matrices only.
        clip_norm: maximum norm of the gradient.
        freeze: frozen parts, in addition to the encoder. "reconstruction": the reconstruction branch and the shared parts, as in
            the paper; "anchored": the same, with a retention term on its whole output, because it attends to the trained branch;
            "encoder": nothing more, as the released script.
        queries: approximate number of anchor points to track, in a grid; up to as many are added on dynamic objects.
        points_per_step: maximum number of distinct tracks per step.
        held_out_share: share of tracks, in patches of the image, that are held out for measurement.
        measure_every: steps between measurements on the held-out tracks; the state is saved at the same time.
        patience: stop after this many consecutive measurements without improvement.
        minutes: time budget of the optimisation; `None` for none. The result then depends on the speed of the machine.
        precision: precision of the network's matrix products.
        seed: random seed of frames, points and held-out tracks.
    """

    steps: int = 500
    frames: int = 24
    largest_stride: int = 6
    learning_rate: float = LEARNING_RATE
    warmup_steps: int = 20
    final_share: float = 0.1
    weight_decay: float = 0.05
    clip_norm: float = 0.8
    freeze: Freeze = "reconstruction"
    queries: int = 1000
    points_per_step: int = 1000
    held_out_share: float = 0.2
    measure_every: int = 25
    patience: int = 6
    minutes: float | None = None
    precision: Literal["float32", "bfloat16"] = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "largest_stride", "queries", "points_per_step", "measure_every", "patience"):
            if getattr(self, name) < 1:
                raise UserError(f"--{name.replace('_', '-')} must be at least 1, got {getattr(self, name)}")
        if self.frames < 2:
            raise UserError(f"--batch-size must be at least 2 (the anchor and another frame), got {self.frames}")
        if not 0 < self.learning_rate < float("inf"):
            raise UserError(f"--learning-rate must be a finite number above 0, got {self.learning_rate}")
        if self.minutes is not None and not 0 < self.minutes < float("inf"):
            raise UserError(f"--minutes must be a finite number above 0, got {self.minutes}")
        if self.seed < 0:
            raise UserError(f"--seed must not be negative, got {self.seed}")
        if self.freeze not in get_args(Freeze):
            raise UserError(f"--freeze must be one of {', '.join(get_args(Freeze))}, got {self.freeze!r}")


ANCHORED_WEIGHT = 10.0
"""Weight of the retention term with "anchored", for a loss that has none."""


def default_config(model: ModelConfig) -> dict[str, Any]:
    """Default configuration of a network: that of the paper; without decoders, that of a monocular head."""
    if model.head != "monocular":
        return {}
    return {"learning_rate": MONOCULAR_LEARNING_RATE, "freeze": "encoder", "frames": MONOCULAR_FRAMES, "precision": "float32"}


MONOCULAR_FRAMES = 4
"""Frames per step of a monocular head, which needs no anchor."""
FRAME_TOKENS = {"cpu": 1800, "mps": 7000, "cuda": 30_000}
"""Maximum frame tokens of a training step, limited by activation memory; on a CPU more frames per step are only slower."""


def default_frames(model: ModelConfig, device: str, height: int, width: int) -> int:
    """Default frames per step: the paper's 24, or fewer if these need too much memory on a type of device ("cpu")."""
    if model.head == "monocular":
        return MONOCULAR_FRAMES
    tokens = height * width // model.patch_size**2
    return max(4, min(AdaptConfig.frames, FRAME_TOKENS.get(device, FRAME_TOKENS["cpu"]) // tokens))
