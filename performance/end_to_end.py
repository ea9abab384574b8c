"""Frames per second from a video file to a scene on disk, embedded model, in one run: `python performance/end_to_end.py`.

The named baseline does one thing after the other (`run_ahead` replaced by plain iteration). Rounds are interleaved; medians.
Where the time goes says `st4rtrack doctor --benchmark`.
"""

import argparse
import tempfile
import time
from collections.abc import Iterable, Iterator
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

WAYS = {"one after the other, float32": ("float32", False), "float32": ("float32", True), "bfloat16": ("bfloat16", True)}


def one_after_the_other(items: Iterable[Any], _: int) -> Iterator[Any]:
    """What `run_ahead` gives, without a thread."""
    return iter(items)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--frames", type=int, default=96)
    options = parser.parse_args()
    models = {dtype: load_model(dtype=dtype) for dtype in ("float32", "bfloat16")}
    rates: dict[str, list[float]] = {way: [] for way in WAYS}
    with tempfile.TemporaryDirectory() as folder:
        config = ProceduralConfig(288, 512, 16, setting="room", camera="orbit", camera_motion=2.0, moving_share=0.7)
        clip = procedural_clip(23, config).rgb
        back_and_forth = [*range(len(clip)), *range(len(clip) - 2, 0, -1)]
        video = Path(folder) / "clip.mp4"
        write_video(video, (clip[back_and_forth[k % len(back_and_forth)]] for k in range(options.frames)), fps=12)
        for turn in range(options.rounds + 1):
            for way, (dtype, overlaps) in WAYS.items():
                with patch.object(frames, "run_ahead", frames.run_ahead if overlaps else one_after_the_other):
                    start = time.perf_counter()
                    reconstruct(video, model=models[dtype], output=Path(folder) / "scene", overwrite=True)
                if turn:  # the first warms up
                    rates[way].append(options.frames / (time.perf_counter() - start))
    print(f"{machine()}; {options.frames} frames of 512x288 at 256x144, medians of {options.rounds} interleaved rounds\n")
    print("| way | frames per second | against the first |\n|---|---|---|")
    base = float(np.median(next(iter(rates.values()))))
    for way, found in rates.items():
        print(f"| {way} | {np.median(found):.1f} | {np.median(found) / base:.2f} |")


if __name__ == "__main__":
    main()
