"""Frames per second of the network against the plain way, in one run: `python performance/speed.py`.

The plain way is the released one: float32, one pair at a time, the anchor encoded again for each pair. Weights are drawn by formula
(their values do not matter for speed). Rounds are interleaved, so that other work on the machine disturbs all rows alike; medians.
Share of peak: operations of one encoding and one decoding per frame by time, relative to the product of two large matrices of the same
type in the same run.
"""

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from machine import machine

from st4rtrack.data.procedural import ProceduralConfig, procedural_clip
from st4rtrack.doctor.benchmark import flops_per_frame, gemm_flops_per_s
from st4rtrack.model.config import LARGE, TINY, ModelConfig
from st4rtrack.model.network import St4RTrack
from st4rtrack.pipeline.pointmaps import automatic_batch_size, encode_anchor, predict_frames
from st4rtrack.preprocess import normalize_images


def formula_model(config: ModelConfig) -> St4RTrack:
    """A network whose weights keep activations in range: normal, divided by the square root of the fan-in."""
    with torch.device("meta"):
        model = St4RTrack(config)
    generator = torch.Generator().manual_seed(0)
    weights = {}
    for key, value in model.state_dict().items():
        drawn = torch.randn(value.shape, generator=generator)
        if value.ndim < 2:
            weights[key] = (1 + 0.1 * drawn) if "norm" in key and key.endswith("weight") else 0.05 * drawn
        else:
            weights[key] = drawn / value[0].numel() ** 0.5
    model.load_state_dict(weights, assign=True)
    return model.eval()


def plain(model: St4RTrack, rgb: np.ndarray) -> None:
    """One pair at a time, everything computed for each."""
    anchor = normalize_images(rgb[:1])
    with torch.inference_mode():
        for frame in rgb:
            model(anchor, normalize_images(frame[None]))


def ours(model: St4RTrack, rgb: np.ndarray) -> None:
    """As the pipeline does it."""
    batch_size = automatic_batch_size(model.config, model.device, *rgb.shape[1:3])
    for _ in predict_frames(model, encode_anchor(model, rgb[0]), enumerate(rgb), batch_size=batch_size):
        pass


def frames_per_second(run: Callable[[], None], frames: int) -> float:
    start = time.perf_counter()
    run()
    return frames / (time.perf_counter() - start)


def measure(name: str, config: ModelConfig, frames: int, rounds: int) -> list[str]:
    """Rows of the table for one network."""
    rgb = procedural_clip(0, ProceduralConfig(height=288, width=512, num_frames=frames)).rgb
    single, half = formula_model(config), formula_model(config).to(torch.bfloat16)
    rows: dict[str, Callable[[], None]] = {
        "plain, float32": lambda: plain(single, rgb),
        "float32": lambda: ours(single, rgb),
        "bfloat16": lambda: ours(half, rgb),
    }
    for run in rows.values():  # warm up
        run()
    rates = {row: [] for row in rows}
    for _ in range(rounds):
        for row, run in rows.items():
            rates[row].append(frames_per_second(run, frames))
    base = float(np.median(rates["plain, float32"]))
    shares = {row: share_of_peak(config, row, float(np.median(r)), rgb.shape[1:3]) for row, r in rates.items()}
    return [f"| {name} | {row} | {np.median(r):.3g} | {np.median(r) / base:.2f} | {shares[row]} |" for row, r in rates.items()]


def share_of_peak(config: ModelConfig, row: str, rate: float, size: tuple[int, ...]) -> str:
    """Of the fastest matrix product of that type, in words."""
    cpu, dtype = torch.device("cpu"), torch.bfloat16 if row == "bfloat16" else torch.float32
    flops = flops_per_frame(formula_model(config).to(dtype), np.zeros((1, *size, 3), np.uint8))
    return f"{rate * flops / gemm_flops_per_s(cpu, dtype):.0%}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--large-frames", type=int, default=4)
    parser.add_argument("--tiny-frames", type=int, default=16)
    options = parser.parse_args()
    print(f"{machine()}; 512x288, medians of {options.rounds} interleaved rounds\n")
    print("| network | way | frames per second | against plain | of peak |\n|---|---|---|---|---|")
    for name, config, frames in (("tiny", TINY, options.tiny_frames), ("large", LARGE, options.large_frames)):
        print("\n".join(measure(name, config, frames, options.rounds)), flush=True)


if __name__ == "__main__":
    main()
