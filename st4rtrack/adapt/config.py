"""What an adaptation can be told. All of it decides the result, so an interrupted adaptation goes on only with the same values."""

from dataclasses import dataclass
from typing import Literal, get_args

from st4rtrack.model.config import ModelConfig
from st4rtrack.types import UserError

Freeze = Literal["reconstruction", "anchored", "encoder"]

LEARNING_RATE = 5e-5
"""Of the paper, for the released network."""
HINTED_LEARNING_RATE = 5e-4
"""Of a network with hints: it is small, and what it learns are corrections of a skeleton."""


@dataclass(frozen=True)
class AdaptConfig:
    """The optimisation.

    Attributes:
        steps: optimiser steps at most.
        frames: of a video per step, the anchor among them; as many as there are, if fewer. 24 in the paper.
        largest_stride: the frames of a step are 1 to so many apart; 6 in the paper.
        learning_rate: reached after `warmup_steps`, then half a cosine down to `final_share` of it. The release: 5e-5 to 4e-5.
        warmup_steps: of a linear warm-up.
        final_share: of the learning rate at the last step.
        weight_decay: on matrices only.
        clip_norm: of the gradient.
        freeze: what does not learn, always with the encoder. "reconstruction": the reconstruction branch and what both branches
            share, as the paper asks; "anchored": the same, and its output is held everywhere at what it was, since it attends to the
            branch that learns; "encoder": nothing more, as the released script.
        queries: points of the anchor that are followed, about, in a grid; what moves gets up to as many again.
        points_per_step: different tracks that a step looks at, at most.
        moving_share: of these, what moves counts as so large a share, where it is less; 0: as many as there are, as in the paper.
        held_out_share: of the tracks, in patches of the image, only for measuring.
        measure_every: steps between measurements on the held-out tracks; the state is saved then too.
        patience: so many measurements in a row without gain end the adaptation.
        precision: of the network's products.
        seed: of frames, points and of what is held out.
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
    moving_share: float = 0.0
    held_out_share: float = 0.2
    measure_every: int = 25
    patience: int = 6
    precision: Literal["float32", "bfloat16"] = "float32"
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "largest_stride", "queries", "points_per_step", "measure_every", "patience"):
            if getattr(self, name) < 1:
                raise UserError(f"{_option(name)} must be at least 1, got {getattr(self, name)}")
        if self.frames < 2:
            raise UserError(f"--batch-size must be at least 2, the anchor and another frame, got {self.frames}")
        if not 0 < self.learning_rate < float("inf"):
            raise UserError(f"--learning-rate must be a finite number above 0, got {self.learning_rate}")
        if not 0 <= self.moving_share < 1:
            raise UserError(f"moving_share must be from 0 to below 1, got {self.moving_share}")
        if self.seed < 0:
            raise UserError(f"--seed must not be negative, got {self.seed}")
        if self.freeze not in get_args(Freeze):
            raise UserError(f"--freeze is one of {', '.join(get_args(Freeze))}, not {self.freeze!r}")


ANCHORED_WEIGHT = 10.0
"""Of holding the reconstruction with "anchored", in a loss that does not hold it by itself."""


def default_freeze(model: ModelConfig) -> Freeze:
    """As the paper; of a network with hints the reconstruction learns too: its depth of what moves is what most needs it."""
    return "encoder" if model.hints else "reconstruction"


def default_moving_share(model: ModelConfig) -> float:
    """None, as the paper, or half: what moves is a small part of most videos, and what a skeleton says least of."""
    return 0.5 if model.hints else 0.0


def default_learning_rate(model: ModelConfig) -> float:
    """That of the paper, or for a network with hints a larger one."""
    return HINTED_LEARNING_RATE if model.hints else LEARNING_RATE


FRAME_TOKENS = {"cpu": 1800, "mps": 7000, "cuda": 30_000}
"""Tokens of frames in a step that learns: it keeps what the way back needs; on a CPU more frames per step are only slower."""


def default_frames(model: ModelConfig, device: str, height: int, width: int) -> int:
    """Frames per step: the paper's 24, or fewer where that asks for too much memory.

    Args:
        device: its kind, such as "cpu".
        height, width: of the network's images, pixels.
    """
    tokens = height * width // model.patch_size**2
    return max(4, min(AdaptConfig.frames, FRAME_TOKENS.get(device, FRAME_TOKENS["cpu"]) // tokens))


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"
