"""Videos that are made in a moment, and a network that is fast on them."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from st4rtrack.batch.worker import BatchOptions
from st4rtrack.io.video import write_video
from st4rtrack.model.checkpoint import save_model
from st4rtrack.model.config import TINY
from st4rtrack.train.forward import new_model

HEIGHT, WIDTH = 64, 96


def write_clip(path: Path, num_frames: int = 5, seed: int = 0) -> Path:
    """A textured plane that the camera passes by."""
    texture = np.random.default_rng(seed).integers(0, 255, (HEIGHT // 4, 2 * WIDTH // 4, 3), np.uint8).repeat(4, 0).repeat(4, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, (np.ascontiguousarray(texture[:, 2 * k : 2 * k + WIDTH]) for k in range(num_frames)), fps=10)
    return path


def write_broken(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(np.random.default_rng(1).bytes(2000))
    return path


def write_model(folder: Path) -> Path:
    path = folder / "small.safetensors"
    small = {
        "encoder_width": 32,
        "encoder_depth": 1,
        "encoder_heads": 2,
        "decoder_width": 32,
        "decoder_depth": 1,
        "decoder_heads": 2,
    }
    save_model(new_model(replace(TINY, image_size=WIDTH, **small), seed=0), path)
    return path


def small_options(model: Path, **options: object) -> BatchOptions:
    """One frame at a time, so that a worker can be killed between two."""
    return BatchOptions(model=str(model), dtype="float32", batch_size=1, **options)  # pyright: ignore[reportArgumentType]
