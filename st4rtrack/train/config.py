"""Training configuration: all that decides the weights; `options.RunConfig` has how a run is executed."""

import math
from dataclasses import dataclass, field
from typing import Literal

from st4rtrack.losses.objective import LossConfig
from st4rtrack.types import UserError


@dataclass(frozen=True)
class PoolConfig:
    """The cached pairs that a run draws from.

    Attributes:
        pairs: how many ordered pairs of images.
        shard_pairs: pairs per file; all of one image size.
        clip_frames: frames of a rendered clip; pairs are taken with its first and its last frame as anchors.
        pairs_per_anchor: how many of its frames each anchor is paired with.
        shares: of the shards whose clips are followed as videos, of pairs with simulated hints (`simulated.py`; many scenes, cheaply),
            and of pairs alone, which know nothing of a video.
        sizes: (height, width) of the shards in turn, so that the network meets every orientation.
        seed: of the first shard; shard k has seed + k.
        compile: fuse the renderer with `torch.compile` (a minute once per size, then several times faster).
    """

    pairs: int = 18432
    shard_pairs: int = 36
    clip_frames: int = 16
    pairs_per_anchor: int = 6
    shares: tuple[float, float, float] = (0.4, 0.5, 0.1)
    sizes: tuple[tuple[int, int], ...] = (
        (192, 256),
        (144, 256),
        (192, 256),
        (256, 192),
        (192, 256),
        (144, 256),
        (192, 256),
        (256, 144),
    )
    seed: int = 1_000_000
    compile: bool = True


@dataclass(frozen=True)
class TrainConfig:
    """The optimisation: with the data, all that decides which weights come out. A run keeps it from its first step to its last.

    Attributes:
        steps: optimiser steps; schedules run by step, never by clock.
        batch_size: samples (pairs or clips) per step, of all processes together.
        micro_batch: samples that are computed together and share one loss; the loss of a step is the mean over its micro-batches.
            So the same step comes out of one process or many. Divides `batch_size`.
        learning_rate: peak of a linear warm-up and half-cosine decay to `final_learning_rate`.
        pretrained_rate: relative learning rate of a pretrained backbone: that of a tensor is `learning_rate` times this times the
            root mean square of its weights.
        weight_decay: on matrices only.
        clip_norm: of the whole gradient.
        frozen: "encoder" keeps patch embedding and encoder blocks as they are; the encoder's last norm learns, as released.
        precision: of the network's products; weights, gradients and the optimiser's state are float32 either way.
        average: decay of the exponential average of the weights, which is what is saved for use.
        seed: of initial weights and of the data.
        loss: what is compared, and how.
    """

    steps: int = 6250
    batch_size: int = 8
    micro_batch: int = 8
    learning_rate: float = 5e-4
    final_learning_rate: float = 1e-6
    warmup_steps: int = 300
    pretrained_rate: float = 3.0
    weight_decay: float = 0.05
    clip_norm: float = 1.0
    frozen: Literal["none", "encoder"] = "none"
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    average: float = 0.999
    seed: int = 0
    loss: LossConfig = field(default_factory=LossConfig)

    def __post_init__(self) -> None:
        if self.batch_size % self.micro_batch:
            raise UserError(f"--batch-size {self.batch_size} does not split into micro-batches of {self.micro_batch}")
        if not 0 < self.learning_rate < math.inf:
            raise UserError(f"--learning-rate must be a number above 0, got {self.learning_rate}")

    @property
    def micro_batches(self) -> int:
        """Per step, of all processes together."""
        return self.batch_size // self.micro_batch
