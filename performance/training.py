"""Pairs per second of what makes training data and of the training step, in one run: `python performance/training.py`.

The generator is measured as it is used: whole shards of cached pairs, with their hints; reading them back; and clips that are
rendered as they are needed. A step is forward, backward, optimiser and average, on data that is at hand. So a run is held up by its
data where a row of the first table is below that of its step. Medians; on a machine that does nothing else.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from machine import machine

from st4rtrack.data.procedural import ProceduralConfig
from st4rtrack.data.procedural_source import ProceduralClips
from st4rtrack.model import layers
from st4rtrack.model.config import LARGE, TINY, ModelConfig
from st4rtrack.model.device import choose_device
from st4rtrack.train.average import Average
from st4rtrack.train.checkpoint import Training
from st4rtrack.train.config import PoolConfig, TrainConfig
from st4rtrack.train.examples import Examples
from st4rtrack.train.forward import new_model, prepare
from st4rtrack.train.loop import make_optimizer, training_step
from st4rtrack.train.parallel import Processes
from st4rtrack.train.pool import fill_pool
from st4rtrack.train.presets import PRESETS
from st4rtrack.train.source import ClipExamples, ExampleSource, PoolExamples


def pairs_per_second(run: Callable[[], int], device: torch.device, rounds: int) -> float:
    """Median rate of a function that returns how many pairs it dealt with; the first call only warms up."""
    rates = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        pairs = run()
        if device.type == "cuda":
            torch.cuda.synchronize()
        rates.append(pairs / (time.perf_counter() - start))
    return float(np.median(rates[1:]))


def in_order(source: ExampleSource) -> Callable[[], int]:
    """Asks a source for one micro-batch after another."""
    numbers = iter(range(10**9))
    return lambda: len(source.examples(next(numbers)))


def fill(folder: Path, config: PoolConfig) -> Callable[[], int]:
    """Renders one more shard at each call, with the hints."""
    seeds = iter(range(config.seed, config.seed + 10**6))

    def run() -> int:
        seed = next(seeds)
        fill_pool(folder / str(seed), replace(config, pairs=config.shard_pairs, seed=seed))
        return config.shard_pairs

    return run


def step(
    config: ModelConfig, train: TrainConfig, examples: Examples, device: torch.device, *, compile: bool
) -> Callable[[], int]:
    """One optimiser step on the same micro-batch at each call."""
    network = prepare(new_model(config, 0).to(device), train, compile=compile)
    training = Training(network, make_optimizer(network, train), Average(network))
    on_device, alone = examples.to(device), Processes(0, 1, device)

    def run() -> int:
        training_step(training, [on_device], train, alone)
        return len(on_device)

    return run


def data_rows(folder: Path, device: torch.device, rounds: int, *, compile: bool) -> tuple[list[str], PoolExamples]:
    pool = PoolConfig(sizes=((192, 256),), compile=compile)
    rows = [f"| pool: render and survey | 256x192 | cpu | {pairs_per_second(fill(folder, pool), device, rounds):.3g} |"]
    first = folder / str(pool.seed)
    cached = PoolExamples(first, micro_batch=8, seed=0)
    rows.append(f"| pool: read | 256x192 | cpu | {pairs_per_second(in_order(cached), device, 5 * rounds):.3g} |")
    for height, width, frames in ((192, 256, 8), (288, 512, 8)):
        clips = ClipExamples(ProceduralClips(ProceduralConfig(height=height, width=width, num_frames=frames)))
        rate = pairs_per_second(in_order(clips), device, rounds)
        rows.append(f"| clips of {frames} frames, as needed | {width}x{height} | cpu | {rate:.3g} |")
    return rows, cached


def step_rows(cached: PoolExamples, device: torch.device, rounds: int, large_frames: int, *, compile: bool) -> Iterator[str]:
    tiny, large = PRESETS["tiny"].train, PRESETS["large-seq"].train
    pairs = cached.examples(0)
    cases = [
        ("tiny", TINY, replace(tiny, precision="float32"), pairs, "products", False),
        ("tiny", TINY, tiny, pairs, "fused", False),
        ("tiny", TINY, tiny, pairs, "products", False),
        ("tiny", TINY, tiny, pairs, "products", True),
    ]
    if large_frames:
        clips = ProceduralClips(ProceduralConfig(height=288, width=512, num_frames=large_frames))
        cases.append(("large, frozen encoder", LARGE, large, ClipExamples(clips).examples(0), "products", False))
    for name, config, train, examples, attention, compiled in cases:
        if compiled and not compile:
            continue
        fused = attention == "fused" or device.type != "cpu"
        with patch.object(layers, "_use_fused", lambda *_, chosen=fused: chosen):
            rate = pairs_per_second(step(config, train, examples, device, compile=compiled), device, rounds)
        size = f"{examples.images.shape[3]}x{examples.images.shape[2]}, {len(examples)} pairs"
        kernel, blocks = "fused" if fused else "products", "yes" if compiled else "no"
        yield f"| {name} | {size} | {device} | {train.precision} | {kernel} | {blocks} | {rate:.3g} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--large-frames", type=int, default=2, help="of the clip for the large network, 0 for none of it")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--no-compile", action="store_true", help="neither the renderer nor the blocks of the network")
    options = parser.parse_args()
    device = choose_device(options.device)
    print(f"{machine()}; medians of {options.rounds}\n")
    with tempfile.TemporaryDirectory() as folder:
        rows, cached = data_rows(Path(folder), device, options.rounds, compile=not options.no_compile)
        print("| data | size | device | pairs per second |\n|---|---|---|---|")
        print("\n".join(rows), flush=True)
        print(
            "\n| step | size | device | precision | attention | blocks compiled | pairs per second |\n|---|---|---|---|---|---|---|"
        )
        for row in step_rows(cached, device, options.rounds, options.large_frames, compile=not options.no_compile):
            print(row, flush=True)


if __name__ == "__main__":
    main()
