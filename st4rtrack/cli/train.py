"""`st4rtrack train`: a network, by a preset."""

from pathlib import Path
from typing import Annotated, Literal

import tyro


def train(
    preset: tyro.conf.Positional[str],
    /,
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], metavar="DIR")] = None,
    init: Annotated[str, tyro.conf.arg(metavar="MODEL")] = "",
    data: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=DIR...")] = (),
    steps: int | None = None,
    batch_size: int | None = None,
    micro_batch: int | None = None,
    learning_rate: float | None = None,
    precision: Literal["bfloat16", "float32"] | None = None,
    seed: int | None = None,
    augment: bool = False,
    pairs: int | None = None,
    validation_pairs: int | None = None,
    device: str = "auto",
    parallel: Literal["ddp", "fsdp"] = "ddp",
    workers: int = 0,
    threads: int = 0,
    compile: bool = True,
    compile_network: bool = False,
    validate_every: int = 500,
    save_every: int = 250,
    on_non_finite: Literal["stop", "skip"] = "stop",
    skip_limit: int = 10,
    change_options: bool = False,
) -> None:
    """Train a network; the same command resumes. Under torchrun on several GPUs and machines.

    Args:
        preset: large-seq, large-pair, large-seq-reweight, large-pair-reweight, large-procedural, tiny, mono or overfit (docs/training.md).
        output: Folder of the run, with model.safetensors. Default: runs/PRESET.
        init: Initial weights: a checkpoint, random, or (mono) imagenet.
        data: Data sets, each NAME=DIR: point_odyssey, dynamic_replica, kubric; mono: pictures, procedural, world, multiview.
        steps: Optimiser steps.
        batch_size: Samples (pairs or clips) per step, over all processes.
        micro_batch: Samples per forward pass (gradient accumulation).
        learning_rate: Peak learning rate.
        precision: Precision of matrix products.
        seed: Random seed of weights and data.
        augment: Augment clips: crop, focal length, colour, mirror, time reversal, anchor.
        pairs: tiny: rendered training pairs (1.4 MB of disk each).
        validation_pairs: tiny: rendered validation pairs.
        device: auto, cpu or cuda.
        parallel: Under torchrun: replicated (ddp) or sharded (fsdp) network.
        workers: Data workers per training process.
        threads: Threads of PyTorch and OpenCV; 0: their default.
        compile: Compile the renderer with torch.compile (needs a C++ compiler).
        compile_network: Compile the network too: minutes at the start, then faster.
        validate_every: Steps between validations.
        save_every: Steps between checkpoints.
        on_non_finite: Non-finite loss or gradient: stop the run, or skip the step.
        skip_limit: Maximum number of steps skipped in a row.
        change_options: Resume a run with other options than it was started with.
    """
    import cv2
    import torch

    from st4rtrack.cli.progress import log_to_stderr
    from st4rtrack.train.config import RunConfig
    from st4rtrack.train.datasets import parse_folders
    from st4rtrack.train.parallel import joined
    from st4rtrack.train.presets import with_options
    from st4rtrack.train.start import find_preset, run_preset

    log_to_stderr()
    counts = {
        "steps": steps,
        "batch_size": batch_size,
        "micro_batch": micro_batch,
        "pairs": pairs,
        "validation_pairs": validation_pairs,
    }
    _require_positive({**counts, "validate_every": validate_every, "save_every": save_every, "skip_limit": skip_limit})
    chosen = with_options(
        find_preset(preset), **counts, learning_rate=learning_rate, precision=precision, seed=seed, augment=augment
    )
    folders, output = parse_folders(data), output or Path("runs") / preset
    if threads > 0:
        torch.set_num_threads(threads)
        cv2.setNumThreads(threads)
    run = RunConfig(
        device=device,
        parallel=parallel,
        workers=workers,
        compile=compile,
        compile_network=compile_network,
        validate_every=validate_every,
        save_every=save_every,
        on_non_finite=on_non_finite,
        skip_limit=skip_limit,
    )
    with joined(device) as processes:
        score = run_preset(
            chosen, run, output=output, processes=processes, init=init, folders=folders, change_options=change_options
        )
        if processes.first:
            _say_what_is_there(output, score, pairs=preset != "mono")


def _require_positive(counts: dict[str, int | None]) -> None:
    from st4rtrack.cli.options import positive_int

    for name, value in counts.items():
        if value is not None:
            positive_int(value, f"--{name.replace('_', '-')}")


def _say_what_is_there(output: Path, score: object, *, pairs: bool) -> None:
    from st4rtrack.cli.voice import answer, say, wrote
    from st4rtrack.train.start import baselines

    for name, other in baselines(output).items():
        answer(f"{name}: {other}")
    answer(f"this model: {score}")
    wrote(output / "model.safetensors")
    if pairs:
        say(f"use it with: st4rtrack run VIDEO --model {output / 'model.safetensors'}")
