"""Seconds and memory of a step of adaptation against encoding both images of every pair again: `python performance/adaptation.py`.

The plain way is the released script's: the encoder is frozen and runs all the same, for both images of each pair of each step. Weights
are drawn by formula, which see no world: a step here is both branches, the way back and the optimiser, without cameras and teachers.
Each row is a process of its own, so that its peak memory is its own; rounds are interleaved; medians.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from machine import machine
from peak import peak_mib
from speed import formula_model

from st4rtrack.adapt.config import AdaptConfig, default_frames
from st4rtrack.adapt.forward import predict
from st4rtrack.adapt.inputs import FrameInputs, frame_inputs
from st4rtrack.adapt.loop import PairTask, make_optimizer
from st4rtrack.data.procedural import ProceduralConfig, procedural_clip
from st4rtrack.io.video import open_video
from st4rtrack.losses.adaptation import NAMED
from st4rtrack.model.config import LARGE
from st4rtrack.model.network import St4RTrack
from st4rtrack.preprocess import normalize_images

NETWORKS = {"large": LARGE}
WAYS = ("plain", "ours")
VIDEO_FRAMES = 8
HEIGHT, WIDTH = 288, 512


def encode_again(model: St4RTrack, inputs: FrameInputs, frames: np.ndarray) -> None:
    """Both images of every pair, as the released step does; the tokens are those that are kept, so both ways learn the same."""
    batch = np.concatenate([np.repeat(frames[:1], len(frames)), frames])
    with torch.no_grad():
        for start in range(0, len(batch), len(frames)):
            model.encode(normalize_images(inputs.rgb[batch[start : start + len(frames)]]).to(model.device))


def step(model: St4RTrack, inputs: FrameInputs, frames: np.ndarray, optimizer: torch.optim.Optimizer, way: str) -> None:
    """One step of learning."""
    optimizer.zero_grad(set_to_none=True)
    if way == "plain":
        encode_again(model, inputs, frames)
    maps = predict(model, inputs, frames, "float32")
    points = torch.cat([maps.tracking.points_world, maps.reconstruction.points_world])
    points.square().mean().backward()
    optimizer.step()


def measure(network: str, way: str, steps: int) -> tuple[float, float]:
    """Seconds of a step (median) and peak of resident memory in MiB."""
    model = formula_model(NETWORKS[network])
    config = AdaptConfig()
    clip = procedural_clip(0, ProceduralConfig(height=HEIGHT, width=WIDTH, num_frames=VIDEO_FRAMES))
    with tempfile.TemporaryDirectory() as folder:
        inputs = frame_inputs(model, open_video(clip.rgb), Path(folder))
        parameters = PairTask(model, [], [], config, NAMED["paper"]).parameters
        model.requires_grad_(False)
        for parameter in parameters.values():
            parameter.requires_grad_(True)
        optimizer = make_optimizer(parameters, config)
        frames = np.arange(default_frames(model.config, "cpu", HEIGHT, WIDTH))
        seconds = []
        for _ in range(steps + 1):
            start = time.perf_counter()
            step(model, inputs, frames, optimizer, way)
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[1:]), peak_mib()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--child", nargs=2, metavar=("NETWORK", "WAY"))
    options = parser.parse_args()
    if options.child:
        network, way = options.child
        print(*measure(network, way, options.steps))
        return
    print(f"{machine()}; {WIDTH}x{HEIGHT}, float32, medians of {options.rounds} interleaved rounds\n")
    print("| network | frames a step | way | seconds a step | against plain | peak memory, MiB |\n|---|---|---|---|---|---|")
    for network, config in NETWORKS.items():
        found: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
        for _ in range(options.rounds):
            for way in WAYS:
                command = [sys.executable, __file__, "--steps", str(options.steps), "--child", network, way]
                words = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
                found[way].append((float(words[-2]), float(words[-1])))
        seconds, memory = ({way: statistics.median(row[k] for row in found[way]) for way in WAYS} for k in (0, 1))
        frames = default_frames(config, "cpu", HEIGHT, WIDTH)
        for way in WAYS:
            share = seconds[way] / seconds["plain"]
            print(f"| {network} | {frames} | {way} | {seconds[way]:.2f} | {share:.2f} | {memory[way]:.0f} |", flush=True)


if __name__ == "__main__":
    main()
