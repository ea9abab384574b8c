"""Training configuration: everything that determines the weights; `options.RunConfig` configures the execution."""

import math
from dataclasses import dataclass, field
from typing import Literal

from st4rtrack.losses.objective import LossConfig
from st4rtrack.types import UserError


@dataclass(frozen=True)
class TrainConfig:
    """Configuration of the optimisation, constant over a run; together with the data it determines the weights."""

    steps: int = 6250  # number of optimiser steps; schedules depend on the step, never on time
    batch_size: int = 8  # samples (pairs or clips) per step, over all processes
    # samples per forward pass with one loss; the loss of a step is the mean over its micro-batches, so that a step does not
    # depend on the number of processes. Must divide `batch_size`.
    micro_batch: int = 8
    learning_rate: float = 5e-4  # peak learning rate after linear warm-up, then half-cosine decay to `final_learning_rate`
    final_learning_rate: float = 1e-6
    warmup_steps: int = 300
    # relative learning rate of a pretrained backbone: that of a tensor is `learning_rate` times this times the root mean square
    # of its weights
    pretrained_rate: float = 3.0
    weight_decay: float = 0.05  # AdamW weight decay, on matrices only
    clip_norm: float = 1.0  # maximum norm of the whole gradient
    # "encoder" freezes patch embedding and encoder blocks; the encoder's last norm is trained, as released
    frozen: Literal["none", "encoder"] = "none"
    # precision of matrix products; weights, gradients and optimiser state are always float32
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    average: float = 0.999  # decay of the exponential moving average of the weights, which is saved for inference
    seed: int = 0  # random seed of initial weights and data
    loss: LossConfig = field(default_factory=LossConfig)  # configuration of the loss

    def __post_init__(self) -> None:
        if self.batch_size % self.micro_batch:
            raise UserError(f"--batch-size must be a multiple of --micro-batch {self.micro_batch}, got {self.batch_size}")
        if not 0 < self.learning_rate < math.inf:
            raise UserError(f"--learning-rate must be a finite number above 0, got {self.learning_rate}")

    @property
    def micro_batches(self) -> int:
        """Number of micro-batches per step, over all processes."""
        return self.batch_size // self.micro_batch
