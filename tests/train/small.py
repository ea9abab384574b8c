"""Networks, clips and runs small enough to train in a test."""

import faulthandler
import json
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from st4rtrack.data.clip import Clip
from st4rtrack.model.config import TINY, ModelConfig
from st4rtrack.options import RunConfig
from st4rtrack.train.config import TrainConfig
from st4rtrack.train.forward import new_model
from st4rtrack.train.loop import PairStage, TrainingJob, train_stage
from st4rtrack.train.parallel import Processes, process_group
from st4rtrack.train.source import ClipExamples, held_out_clips
from st4rtrack.train.validate import Score

SMALL = replace(TINY, encoder_width=32, encoder_depth=1, encoder_heads=2, decoder_width=32, decoder_depth=1, decoder_heads=2)
CONFIG = TrainConfig(
    steps=6, batch_size=4, micro_batch=1, learning_rate=1e-3, warmup_steps=2, average=0.9, precision="float32", seed=3
)
RUN = RunConfig(device="cpu", validate_every=3, save_every=2, report_every=2)
ALONE = Processes(0, 1, torch.device("cpu"))


@dataclass(frozen=True)
class SmallClips:
    """Clips of random points, by number: nothing is rendered. `bad`: those whose truth holds a NaN."""

    frames: int = 3
    height: int = 32
    width: int = 48
    bad: tuple[int, ...] = ()

    def clip(self, index: int) -> Clip:
        rng = np.random.default_rng((17, index))
        shape = (self.frames, self.height, self.width)
        depth = (2 + rng.random(shape)).astype(np.float32)
        valid = rng.random(shape) < 0.3
        tracking = rng.normal(0, 1, (*shape, 3)).astype(np.float32) + np.float32([0, 0, 3])
        if index in self.bad:
            tracking[1, 2, 3], valid[1, 2, 3] = np.nan, True
        intrinsics = np.array([[40.0, 0, self.width / 2], [0, 40.0, self.height / 2], [0, 0, 1]])
        return Clip(
            rgb=rng.integers(0, 256, (*shape, 3), dtype=np.uint8),
            depth=depth,
            intrinsics=np.tile(intrinsics, (self.frames, 1, 1)),
            world_from_camera=np.tile(np.eye(4), (self.frames, 1, 1)),
            tracking_points_world=tracking,
            tracking_valid=valid,
            name=f"small{index}",
            moving=rng.random(shape[1:]) < 0.3,
        )


def run_small(
    output: Path,
    config: TrainConfig = CONFIG,
    run: RunConfig = RUN,
    *,
    model: ModelConfig = SMALL,
    clips: SmallClips | None = None,
    processes: Processes = ALONE,
    **options: Any,
) -> Score:
    """A run on random clips."""
    source = ClipExamples(clips or SmallClips(), micro_batch=config.micro_batch)
    held_out = held_out_clips(SmallClips(), range(1000, 1001))
    stage = PairStage(new_model(model, config.seed), held_out)
    score = train_stage(TrainingJob(stage, model, source), config, run, output=output, processes=processes, **options)
    assert isinstance(score, Score)
    return score


@dataclass(frozen=True)
class Job:
    """A run for several processes."""

    output: Path
    config: TrainConfig = CONFIG
    run: RunConfig = RUN
    clips: SmallClips | None = None


def in_processes(count: int, jobs: Sequence[Job]) -> None:
    """Runs one after another, each by `count` processes of this machine over gloo."""
    torch.multiprocessing.spawn(_worker, (count, [_free_port() for _ in jobs], list(jobs)), nprocs=count)


def _worker(rank: int, count: int, ports: list[int], jobs: list[Job]) -> None:
    faulthandler.dump_traceback_later(120, exit=True)  # instead of waiting for each other for half an hour
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1"}
    for port, job in zip(ports, jobs, strict=True):
        os.environ["MASTER_PORT"] = str(port)
        with process_group("cpu") as processes:
            run_small(job.output, job.config, job.run, processes=processes, clips=job.clips)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def check_interrupted_run(stage: type, run: Callable[[Path], object], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Check that a run of four steps that stops in the third, and is resumed, equals an uninterrupted one bit for bit."""
    run(folder / "whole")
    real, calls = stage.loss, []

    def interrupted(self: object, *args: object) -> object:
        calls.append(0)
        if len(calls) > 2:
            raise KeyboardInterrupt
        return real(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(stage, "loss", interrupted)
        with pytest.raises(KeyboardInterrupt):
            run(folder / "parts")
    run(folder / "parts")
    states = [torch.load(folder / name / "state.pt", weights_only=True) for name in ("whole", "parts")]
    assert states[0]["step"] == states[1]["step"] == 4
    for part in ("model", "average"):
        assert all(torch.equal(states[0][part][name], states[1][part][name]) for name in states[0][part])


def losses(output: Path, name: str = "total") -> dict[int, float]:
    """A figure of training by step."""
    rows = [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]
    return {row["step"]: row[name] for row in rows if name in row}
