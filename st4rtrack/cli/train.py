"""`st4rtrack train`: the embedded network from scratch, on procedural pairs."""

from pathlib import Path
from typing import Annotated, Literal

import tyro


def train(
    preset: tyro.conf.Positional[Literal["tiny"]],
    /,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("runs/tiny"),
    steps: int = 6250,
    batch_size: int = 8,
    pairs: int = 18432,
    validation_pairs: int = 256,
    threads: int = 0,
    compile: bool = True,
) -> None:
    """Train a network. The pool of rendered pairs and the run are kept in the output folder; the same command goes on with both.

    Args:
        preset: tiny: the embedded network.
        output: Folder of the run; model.safetensors in it is what `--model` takes.
        steps: Optimiser steps.
        batch_size: Pairs per step.
        pairs: Rendered pairs to train on, each used in both directions; 1.35 MB of disk each.
        validation_pairs: Rendered pairs to measure on.
        threads: Of PyTorch and OpenCV; 0 leaves it to them.
        compile: Fuse the renderer with torch.compile (needs a C++ compiler).
    """
    import cv2
    import torch

    from st4rtrack.cli.options import positive_int
    from st4rtrack.cli.progress import log_to_stderr
    from st4rtrack.model.config import TINY
    from st4rtrack.train.config import PoolConfig, TrainConfig
    from st4rtrack.train.loop import baselines
    from st4rtrack.train.loop import train as train_network
    from st4rtrack.train.pool import fill_pool

    log_to_stderr()
    for name, value in (
        ("--steps", steps),
        ("--batch-size", batch_size),
        ("--pairs", pairs),
        ("--validation-pairs", validation_pairs),
    ):
        positive_int(value, name)
    if threads > 0:
        torch.set_num_threads(threads)
        cv2.setNumThreads(threads)
    fill_pool(output / "validation", PoolConfig(pairs=validation_pairs, seed=9_000_000, compile=compile))
    fill_pool(output / "pool", PoolConfig(pairs=pairs, compile=compile))
    config = TrainConfig(steps=steps, batch_size=batch_size)
    score = train_network(TINY, config, pool=output / "pool", validation=output / "validation", output=output)
    for name, other in baselines(output / "pool", output / "validation").items():
        print(f"{name}: {other}")
    print(f"this model: {score}")
    print(f"wrote {output / 'model.safetensors'}; use it with: st4rtrack run VIDEO --model {output / 'model.safetensors'}")
