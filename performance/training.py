"""Pairs per second of what makes training data and of the training step, in one run: `python performance/training.py`.

Clips are rendered as they are needed. A step is forward, backward, optimiser and average, on data that is at hand. So a run is held
up by its data where a row of the first table is below that of its step. Medians; on a machine that does nothing else.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import torch
from machine import machine

from st4rtrack.data.procedural import ProceduralClips, ProceduralConfig
from st4rtrack.model import layers
from st4rtrack.model.config import LARGE, TINY, ModelConfig
from st4rtrack.model.device import choose_device
from st4rtrack.train.checkpoint import Average, Training
from st4rtrack.train.config import TrainConfig
from st4rtrack.train.examples import Examples, to_device
from st4rtrack.train.forward import new_model, prepare
from st4rtrack.train.loop import make_optimizer, training_step
from st4rtrack.train.parallel import Processes
from st4rtrack.train.presets import PRESETS
from st4rtrack.train.source import ClipExamples, ExampleSource


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


def step(
    config: ModelConfig, train: TrainConfig, examples: Examples, device: torch.device, *, compile: bool
) -> Callable[[], int]:
    """One optimiser step on the same micro-batch at each call."""
    network = prepare(new_model(config, 0).to(device), train, compile=compile)
    training = Training(network, make_optimizer(network, train), Average(network))
    on_device, alone = to_device(examples, device), Processes(0, 1, device)

    def run() -> int:
        training_step(training, [on_device], train, alone)
        return len(on_device)

    return run


def clips_of(height: int, width: int, frames: int) -> ClipExamples:
    return ClipExamples(ProceduralClips(ProceduralConfig(height=height, width=width, num_frames=frames)))


def data_rows(device: torch.device, rounds: int) -> Iterator[str]:
    for height, width, frames in ((192, 256, 6), (288, 512, 24)):
        rate = pairs_per_second(in_order(clips_of(height, width, frames)), device, rounds)
        yield f"| clips of {frames} frames | {width}x{height} | cpu | {rate:.3g} |"


def step_rows(device: torch.device, rounds: int, large_frames: int, *, compile: bool) -> Iterator[str]:
    tiny, large = PRESETS["tiny"].train, PRESETS["large-seq"].train
    pairs = clips_of(192, 256, 6).examples(0)
    cases = [
        ("tiny", TINY, replace(tiny, precision="float32"), pairs, "products", False),
        ("tiny", TINY, tiny, pairs, "fused", False),
        ("tiny", TINY, tiny, pairs, "products", False),
        ("tiny", TINY, tiny, pairs, "products", True),
    ]
    if large_frames:
        cases.append(("large, frozen encoder", LARGE, large, clips_of(288, 512, large_frames).examples(0), "products", False))
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
    parser.add_argument("--no-compile", action="store_true", help="do not compile the blocks of the network")
    options = parser.parse_args()
    device = choose_device(options.device)
    print(f"{machine()}; medians of {options.rounds}\n")
    print("| data | size | device | pairs per second |\n|---|---|---|---|")
    for row in data_rows(device, options.rounds):
        print(row, flush=True)
    print(
        "\n| step | size | device | precision | attention | blocks compiled | pairs per second |\n|---|---|---|---|---|---|---|"
    )
    for row in step_rows(device, options.rounds, options.large_frames, compile=not options.no_compile):
        print(row, flush=True)


if __name__ == "__main__":
    main()
