"""How far bfloat16 points are from float32 points, with the embedded weights: `python performance/precision.py`."""

import numpy as np
import torch
from machine import machine

from st4rtrack.data.procedural import ProceduralConfig, procedural_clip
from st4rtrack.model.checkpoint import load_model
from st4rtrack.preprocess import normalize_images

CLIPS = 8


def relative_differences(seed: int) -> dict[str, np.ndarray]:
    """|difference| / |float32 point| of every pixel of both branches, on the frames of one clip."""
    images = normalize_images(procedural_clip(seed, ProceduralConfig(num_frames=4)).rgb)
    single, half = (load_model(device="cpu", dtype=dtype) for dtype in ("float32", "bfloat16"))
    hints = single.hints(images[:1], images)
    with torch.inference_mode():
        a, b = (model.decode(model.encode(images[:1]), model.encode(images), hints) for model in (single, half))
    pairs = {"tracking": (a.tracking, b.tracking), "reconstruction": (a.reconstruction, b.reconstruction)}
    return {
        name: ((y.points_world - x.points_world).norm(dim=-1) / x.points_world.norm(dim=-1)).numpy().ravel()
        for name, (x, y) in pairs.items()
    }


def main() -> None:
    print(f"{machine()}; embedded model, {CLIPS} procedural clips of 4 frames at 256x192\n")
    print("| branch | median relative difference | 95 % |\n|---|---|---|")
    found = [relative_differences(5000 + seed) for seed in range(CLIPS)]
    for name in found[0]:
        values = np.concatenate([one[name] for one in found])
        print(f"| {name} | {np.median(values):.2e} | {np.quantile(values, 0.95):.2e} |")


if __name__ == "__main__":
    main()
