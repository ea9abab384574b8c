"""The embedded network by ONNX Runtime against PyTorch, on one thread, in one run: `python performance/runtimes.py`.

A pair at the network's own size: both images encoded, the pair decoded; hints are given to both. Rounds are interleaved; medians of
processor time, which other work on the machine does not lengthen as it does the clock's.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from machine import machine

from st4rtrack.model.checkpoint import load_model
from st4rtrack.model.hints import Hints
from st4rtrack.model.network import St4RTrack
from st4rtrack.model.onnx import HINTS, example_inputs, export_onnx, graphs_of, network_size, open_session, run_graph


def by_pytorch(model: St4RTrack, images: list[torch.Tensor], hints: Hints) -> None:
    with torch.inference_mode():
        model.decode(model.encode(images[0]), model.encode(images[1]), hints)


def by_onnx(encoder: object, decoder: object, images: list[torch.Tensor], hints: Hints) -> None:
    tokens = [torch.from_numpy(run_graph(encoder, [image])[0]) for image in images]
    run_graph(decoder, [*tokens, *(getattr(hints, name) for name in HINTS)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, half = load_model(device="cpu", dtype="float32"), load_model(device="cpu", dtype="bfloat16")
    size = network_size(model, None, None)
    encoder_graph, decoder_graph = graphs_of(model, split=True)
    images = [example_inputs(encoder_graph, model, 1, size, seed)[0] for seed in (0, 1)]
    hints = Hints(*example_inputs(decoder_graph, model, 1, size)[2:])
    with tempfile.TemporaryDirectory() as folder:
        paths = export_onnx(model, Path(folder) / "tiny.onnx", height=size[0], width=size[1])
        encoder, decoder = (open_session(path, threads=1) for path in paths)
        ways: dict[str, Callable[[], None]] = {
            "PyTorch, float32": lambda: by_pytorch(model, images, hints),
            "ONNX Runtime, float32": lambda: by_onnx(encoder, decoder, images, hints),
            "PyTorch, bfloat16": lambda: by_pytorch(half, images, hints),
        }
        times: dict[str, list[float]] = {way: [] for way in ways}
        for _ in range(options.rounds + 1):
            for way, run in ways.items():
                start = time.process_time()
                run()
                times[way].append(time.process_time() - start)
    medians = {way: float(np.median(taken[1:])) for way, taken in times.items()}  # the first warms up
    print(f"{machine()}; tiny at {size[1]}x{size[0]}, one thread, medians of {options.rounds} interleaved rounds\n")
    print("| way | ms per pair | against PyTorch float32 |\n|---|---|---|")
    for way, median in medians.items():
        print(f"| {way} | {1000 * median:.1f} | {median / medians['PyTorch, float32']:.2f} |")


if __name__ == "__main__":
    main()
