"""How far bfloat16 points are from float32 points, with the embedded weights: `python performance/precision.py [--data FOLDER]`.

Other instruction sets: set ONEDNN_MAX_CPU_ISA and ATEN_CPU_CAPABILITY, see docs/portability.md.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from machine import machine
from torch import Tensor

from st4rtrack.data.procedural import ProceduralConfig, procedural_clip
from st4rtrack.io.worldtrack import find_worldtrack, read_worldtrack
from st4rtrack.model.checkpoint import load_model
from st4rtrack.model.network import St4RTrack
from st4rtrack.preprocess import normalize_images, stretch_to_network_size

CLIPS, FRAMES = 8, 4


def clips(data: Path | None, model: St4RTrack) -> Iterator[tuple[str, Tensor]]:
    """Names and images [FRAMES, 3, height, width]: procedural clips, or frames spread over each WorldTrack sequence of a folder."""
    if data is None:
        for seed in range(5000, 5000 + CLIPS):
            yield f"procedural {seed}", normalize_images(procedural_clip(seed, ProceduralConfig(num_frames=FRAMES)).rgb)
        return
    for name, path in find_worldtrack(data):
        video = read_worldtrack(path, name=name).video
        size = {"long_side": model.config.image_size, "patch_size": model.config.patch_size}
        frames = list(stretch_to_network_size(video, **size)[0].frames())
        indices = np.linspace(0, len(frames) - 1, FRAMES).round().astype(int)
        yield name, normalize_images(np.stack([frames[index] for index in indices]))


def relative_differences(images: Tensor, single: St4RTrack, half: St4RTrack) -> dict[str, np.ndarray]:
    """|difference| / |float32 point| of every pixel of both branches; the first image is the anchor."""
    hints = single.hints(images[:1], images)
    with torch.inference_mode():
        a, b = (model.decode(model.encode(images[:1]), model.encode(images), hints) for model in (single, half))
    pairs = {"tracking": (a.tracking, b.tracking), "reconstruction": (a.reconstruction, b.reconstruction)}
    return {
        name: ((y.points_world - x.points_world).norm(dim=-1) / x.points_world.norm(dim=-1)).numpy().ravel()
        for name, (x, y) in pairs.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of WorldTrack sequences instead of procedural clips")
    data = parser.parse_args().data
    single = load_model(device="cpu", dtype="float32")
    half = load_model(device="cpu", dtype="float32").to(torch.bfloat16)  # also where the check of load_model refuses it
    print(f"{machine()}; embedded model, {FRAMES} frames per clip\n")
    print("| clip | branch | median relative difference | 95 % |\n|---|---|---|---|")
    found: dict[str, list[np.ndarray]] = {}
    for clip, images in clips(data, single):
        for branch, values in relative_differences(images, single, half).items():
            found.setdefault(branch, []).append(values)
            print(f"| {clip} | {branch} | {np.median(values):.2e} | {np.quantile(values, 0.95):.2e} |", flush=True)
    for branch, arrays in found.items():
        values = np.concatenate(arrays)
        print(f"| all | {branch} | {np.median(values):.2e} | {np.quantile(values, 0.95):.2e} |")


if __name__ == "__main__":
    main()
