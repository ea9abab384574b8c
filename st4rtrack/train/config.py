"""What a training run can be told."""

from dataclasses import dataclass


@dataclass(frozen=True)
class PoolConfig:
    """The cached pairs that a run draws from.

    Attributes:
        pairs: how many rendered image pairs; each is used in both directions.
        shard_pairs: pairs per file; all of one image size.
        sizes: (height, width) of the shards in turn, so that the network meets every orientation.
        seed: of the first shard; shard k has seed + k.
        compile: fuse the renderer with `torch.compile` (a minute once per size, then several times faster).
    """

    pairs: int = 18432
    shard_pairs: int = 32
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
    """The optimisation.

    Attributes:
        steps: optimiser steps; schedules run by step, never by clock.
        batch_size: ordered pairs per step. Small batches learn more per pair early on.
        learning_rate: peak of a linear warm-up and half-cosine decay to `final_learning_rate`.
        weight_decay: on matrices only.
        clip_norm: of the whole gradient.
        alpha: price of being unsure (paper section 3.2).
        moving_weight: how many times a moving pixel of the tracking branch counts.
        still_share: share of pairs (anchor, anchor), which every video has once.
        average: decay of the exponential average of the weights, which is what is saved for use.
        seed: of initial weights and order.
        validate_every, save_every: steps.
    """

    steps: int = 6250
    batch_size: int = 8
    learning_rate: float = 5e-4
    final_learning_rate: float = 1e-6
    warmup_steps: int = 300
    weight_decay: float = 0.05
    clip_norm: float = 1.0
    alpha: float = 0.2
    moving_weight: float = 3.0
    still_share: float = 0.06
    average: float = 0.999
    seed: int = 0
    validate_every: int = 500
    save_every: int = 250
