"""What each means of speed brings: `large` at 512x288, each means taken away alone, in one run: `python performance/optimisations.py`.

Processor time of one thread, which other work on the machine does not lengthen as it does the clock's; rounds are interleaved, medians of
the ratio to the network as it is in the same round. Weights are drawn by formula. `--compile` adds `torch.compile`, with the time it takes.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from machine import machine
from speed import formula_model
from torch import Tensor
from torch.nn import functional as F

from st4rtrack.model import layers
from st4rtrack.model.config import LARGE
from st4rtrack.model.encoder import Tokens
from st4rtrack.model.heads import Fusion
from st4rtrack.model.network import St4RTrack

Pass = Callable[[St4RTrack, Tokens, Tensor], Any]


def as_it_is(model: St4RTrack, anchor: Tokens, frames: Tensor) -> None:
    model.decode(anchor, model.encode(frames))


def anchor_again(model: St4RTrack, anchor: Tokens, frames: Tensor) -> None:
    model.decode(model.encode(frames[:1]).expand(len(frames)), model.encode(frames))
    for _ in frames[1:]:
        model.encode(frames[:1])


def anchor_parts_again(model: St4RTrack, anchor: Tokens, frames: Tensor) -> None:
    model.decode(anchor.expand(len(frames)), model.encode(frames))


def one_by_one(model: St4RTrack, anchor: Tokens, frames: Tensor) -> None:
    for frame in frames:
        as_it_is(model, anchor, frame[None])


@contextmanager
def convolution_after_interpolation() -> Iterator[None]:
    """The head's 1x1 convolutions at four times the pixels, as released."""

    def forward(self: Fusion, x: Tensor, skip: Tensor | None = None) -> Tensor:
        if self.skip_unit is not None and skip is not None:
            x = x + self.skip_unit(skip)
        return self.out(F.interpolate(self.out_unit(x), scale_factor=2, mode="bilinear", align_corners=True))

    with patch.object(Fusion, "forward", forward):
        yield


MEANS: dict[str, tuple[Pass, Callable[[], Any]]] = {
    "the anchor encoded once": (anchor_again, nullcontext),
    "parts that only the anchor decides, once": (anchor_parts_again, nullcontext),
    "frames in batches": (one_by_one, nullcontext),
    "fused attention": (as_it_is, lambda: patch.object(layers, "_use_fused", lambda *_: False)),
    "rotary tables kept": (as_it_is, lambda: patch.object(layers, "_rope_tables", layers._rope_tables.__wrapped__)),
    "1x1 convolutions before interpolation": (as_it_is, convolution_after_interpolation),
    "channels last in the heads": (as_it_is, lambda: patch.object(torch, "channels_last", torch.contiguous_format)),
}
"""What is there, and the pass and the surroundings without it."""


def processor_seconds(run: Callable[[], Any]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


@torch.inference_mode()
def measure(dtype: torch.dtype, frames: int, rounds: int, *, compiles: bool) -> dict[str, float]:
    """Time without each means against the time with it, by name; with `compiles` also that of the compiled network."""
    model = formula_model(LARGE).to(dtype)
    images = torch.rand((frames, 3, 288, 512), generator=torch.Generator().manual_seed(0)) * 2 - 1
    anchor = model.encode(images[:1])
    ratios: dict[str, list[float]] = {name: [] for name in MEANS}
    as_it_is(model, anchor, images)
    for _ in range(rounds):
        base = processor_seconds(lambda: as_it_is(model, anchor, images))
        for name, (without, surroundings) in MEANS.items():
            with surroundings():
                ratios[name].append(processor_seconds(lambda without=without: without(model, anchor, images)) / base)
    if compiles:
        encode, decode = torch.compile(model.encoder.forward), torch.compile(model.decoder.forward)
        with patch.object(model.encoder, "forward", encode), patch.object(model.decoder, "forward", decode):
            start = time.perf_counter()
            as_it_is(model, anchor, images)
            print(f"torch.compile took {time.perf_counter() - start:.0f} s for {dtype}", flush=True)
            ratios["torch.compile (its time against without)"] = [
                processor_seconds(lambda: as_it_is(model, anchor, images)) / base for _ in range(rounds)
            ]
    return {name: float(np.median(found)) for name, found in ratios.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--frames", type=int, default=2)
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    found = [
        measure(dtype, options.frames, options.rounds, compiles=options.compile) for dtype in (torch.float32, torch.bfloat16)
    ]
    print(f"{machine()}; large at 512x288, {options.frames} frames, medians of {options.rounds} interleaved rounds\n")
    print("| means | float32: without it, times as long | bfloat16 |\n|---|---|---|")
    for name in found[0]:
        print(f"| {name} | {found[0][name]:.2f} | {found[1][name]:.2f} |")


if __name__ == "__main__":
    main()
