"""What `faults.py` does to commands: small jobs that end in a second or so, and what of their results must be the same."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from st4rtrack.geometry.transforms import rigid
from st4rtrack.io.npz import read_npz
from st4rtrack.io.video import write_video
from st4rtrack.io.worldtrack import encode_jpeg, write_worldtrack
from st4rtrack.model.checkpoint import save_model
from st4rtrack.model.config import TINY
from st4rtrack.train.forward import new_model

HEIGHT, WIDTH, FRAMES = 64, 96, 6
DIFFERS = ("batch.json", "adaptation.json", "adaptation.png", "log.jsonl", "frames.journal", "anchors.journal", "events.")
"""Files with times in them, and what a process leaves that was killed after its last word."""


@dataclass(frozen=True)
class Job:
    """A command.

    Attributes:
        arguments: of the command line; everything is written to `out` in the current folder.
        modules: imported before the first start, which is then quick.
    """

    arguments: tuple[str, ...]
    modules: tuple[str, ...] = ()


_CPU = ("--device", "cpu", "--model", "../small.safetensors")
_EXACT = (*_CPU, "--dtype", "float32")
_TRAIN = ("--steps", "12", "--save-every", "3", "--validate-every", "4", "--threads", "1", "--no-compile", "--device", "cpu")
JOBS = {
    "run": Job(
        ("run", "../clips/a.mp4", "-o", "out", *_EXACT, "--batch-size", "1", "--export", "ply", "--queries", "../points.csv"),
        ("st4rtrack.pipeline.reconstruct", "st4rtrack.render.overview", "st4rtrack.formats", "st4rtrack.io.formats.ply"),
    ),
    "batch": Job(
        ("batch", "../clips/*.mp4", "-o", "out", *_EXACT, "--batch-size", "1", "--workers", "1"),
        ("st4rtrack.batch.run", "st4rtrack.batch.worker"),
    ),
    "bench predict": Job(
        ("bench", "predict", "--data", "../sequences", "--output", "out", *_EXACT),
        ("st4rtrack.bench.predict", "st4rtrack.bench.methods.pairwise", "st4rtrack.pipeline.reconstruct"),
    ),
    "adapt": Job(
        ("adapt", "../clips/a.mp4", "-o", "out/a.safetensors", *_CPU, "--steps", "50", "--batch-size", "3"),
        ("st4rtrack.adapt", "st4rtrack.render.overview"),
    ),
    "train": Job(("train", "overfit", "-o", "out", *_TRAIN), ("st4rtrack.train.start", "st4rtrack.data.procedural")),
}


def write_material(folder: Path) -> None:
    """The clips, model, sequences and query points of all jobs."""
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        texture = rng.integers(0, 255, (HEIGHT // 4, WIDTH // 2, 3), np.uint8).repeat(4, 0).repeat(4, 1)
        (folder / "clips").mkdir(exist_ok=True)
        frames = (np.ascontiguousarray(texture[:, 3 * k : 3 * k + WIDTH]) for k in range(FRAMES))
        write_video(folder / f"clips/{name}.mp4", frames, fps=10)
    for k in range(4):
        _write_sequence(folder / f"sequences/s{k}.npz", rng)
    widths = {"encoder_width": 32, "encoder_depth": 1, "encoder_heads": 2}
    widths |= {"decoder_width": 32, "decoder_depth": 1, "decoder_heads": 2}
    save_model(new_model(replace(TINY, image_size=WIDTH, **widths), seed=0), folder / "small.safetensors")
    (folder / "points.csv").write_text("u,v\n20.5,30.5\n64,48\n")


def _write_sequence(path: Path, rng: np.random.Generator) -> None:
    points = rng.uniform((-0.5, -0.3, 2.0), (0.5, 0.3, 3.0), (40, 3))
    cameras = np.stack([rigid(np.eye(3), np.array([-0.05 * t, 0.0, 0.0])) for t in range(3)])
    write_worldtrack(
        path,
        images_jpeg=[encode_jpeg(rng.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)) for _ in cameras],
        fx_fy_cx_cy=np.array([90.0, 90.0, WIDTH / 2, HEIGHT / 2]),
        camera_from_world=cameras,
        visibility=np.ones((len(cameras), len(points)), bool),
        tracks_camera=np.stack([points + camera[:3, 3] for camera in cameras]),
        depth=np.full((len(cameras), HEIGHT, WIDTH), 2.5),
    )


def result(folder: Path) -> dict[str, str]:
    """Name to digest of all that a job wrote: arrays and tensors by value, other files by their bytes."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.startswith(DIFFERS)]
    return {str(path.relative_to(folder)): _digest(path) for path in files if not path.name.startswith(".")}


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    if path.suffix == ".npz":
        values: Any = read_npz(path)
    elif path.suffix == ".safetensors":
        values = load_file(path)
    elif path.suffix == ".pt":
        values = torch.load(path, weights_only=True)
    else:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    for name, value in _leaves(values):
        digest.update(name.encode())
        digest.update(np.asarray(value).tobytes() if isinstance(value, torch.Tensor | np.ndarray) else repr(value).encode())
    return digest.hexdigest()


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key in sorted(value, key=str):
            yield from _leaves(value[key], f"{name}/{key}")
    elif isinstance(value, list | tuple):  # of an optimiser's options; which of the two they are is nobody's business
        for k, item in enumerate(value):
            yield from _leaves(item, f"{name}/{k}")
    else:
        yield name, value
