"""Frames per second from a video file to a scene on disk, embedded model, in one run: `python performance/end_to_end.py`.

The named baseline does one thing after the other (`prefetch` replaced by plain iteration). Rounds are interleaved; medians.
Where the time goes says `st4rtrack doctor --benchmark`.
"""

import argparse
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from machine import machine

from st4rtrack.data.procedural import ProceduralConfig, procedural_clip
from st4rtrack.io.video import write_video
from st4rtrack.model.checkpoint import load_model
from st4rtrack.pipeline import frames
from st4rtrack.pipeline.reconstruct import reconstruct


@dataclass(frozen=True)
class Way:
    """How a run is made: the type of the network, whether its parts overlap, whether NumPy's products of matrices may have threads."""

    dtype: str
    overlaps: bool = True
    blas_threads: bool = False


WAYS = {
    "one after the other, float32": Way("float32", overlaps=False),
    "float32, NumPy's matrix products on all cores": Way("float32", blas_threads=True),
    "float32": Way("float32"),
    "bfloat16": Way("bfloat16"),
}


def one_after_the_other(items: Iterable[Any], _: int) -> Iterator[Any]:
    """What `prefetch` gives, without a thread."""
    return iter(items)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--frames", type=int, default=96)
    options = parser.parse_args()
    models = {dtype: load_model(dtype=dtype) for dtype in ("float32", "bfloat16")}
    rates: dict[str, list[float]] = {name: [] for name in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        config = ProceduralConfig(288, 512, 16, setting="room", camera="orbit", camera_motion=2.0, moving_share=0.7)
        clip = procedural_clip(23, config).rgb
        back_and_forth = [*range(len(clip)), *range(len(clip) - 2, 0, -1)]
        video = Path(folder) / "clip.mp4"
        write_video(video, (clip[back_and_forth[k % len(back_and_forth)]] for k in range(options.frames)), fps=12)
        for turn in range(options.rounds + 1):
            for name, way in WAYS.items():
                run = reconstruct.__wrapped__ if way.blas_threads else reconstruct  # without its decorator
                with patch.object(frames, "prefetch", frames.prefetch if way.overlaps else one_after_the_other):
                    start = time.perf_counter()
                    run(video, model=models[way.dtype], output=Path(folder) / "scene", overwrite=True)
                if turn:  # the first warms up
                    rates[name].append(options.frames / (time.perf_counter() - start))
    print(f"{machine()}; {options.frames} frames of 512x288 at 256x144, medians of {options.rounds} interleaved rounds\n")
    print("| way | frames per second | against the first |\n|---|---|---|")
    base = float(np.median(next(iter(rates.values()))))
    for name, found in rates.items():
        print(f"| {name} | {np.median(found):.1f} | {np.median(found) / base:.2f} |")


if __name__ == "__main__":
    main()
