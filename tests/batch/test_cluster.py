"""The same on a Ray cluster that is started for it."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from st4rtrack.batch.cluster import ray_workers, shares
from st4rtrack.batch.run import frames_written
from st4rtrack.batch.worker import BatchOptions
from st4rtrack.types import UserError
from tests.batch.clips import write_broken, write_clip, write_model

FRAMES = 12


def descendants(pid: int) -> list[int]:
    """Processes that a process has started, and those that they have."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rsplit(")", 1)[1].split()[1])
        except OSError:
            continue  # it has ended
        children.setdefault(parent, []).append(int(stat.parent.name))
    found = children.get(pid, [])
    return found + [deeper for child in found for deeper in descendants(child)]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="finds the actor's process in /proc")
def test_a_killed_actor_costs_no_video(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    for k in range(3):
        write_clip(tmp_path / f"videos/clip{k}.mp4", FRAMES, seed=k)
    write_broken(tmp_path / "videos/broken.mp4")
    model, output = write_model(tmp_path), tmp_path / "out"
    command = [sys.executable, "-m", "st4rtrack", "batch", "videos", "-o", "out", "--ray", "auto", "--device", "cpu"]
    command += ["--model", str(model), "--batch-size", "1", "--workers", "1"]
    batch = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    while batch.poll() is None and not any(0 < frames_written(folder)[0] < FRAMES for folder in output.glob("clip*")):
        time.sleep(0.01)
    actors = [pid for pid in descendants(batch.pid) if "ray::Worker" in Path(f"/proc/{pid}/cmdline").read_text()]
    assert len(actors) == 1, batch.communicate()[0]
    os.kill(actors[0], 9)
    said, _ = batch.communicate()
    assert batch.returncode == 1, said
    told = json.loads((output / "batch.json").read_text())
    assert told["counts"] == {"made": 3, "failed": 1}, said
    assert [video["name"] for video in told["videos"] if video["state"] == "failed"] == ["broken"]
    continued = [video["frames_made"] for video in told["videos"] if 0 < video["frames_made"] < FRAMES]
    assert len(continued) == 1, "the killed actor's video goes on after its last frame"

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1 and "3 already complete, 1 failed" in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("nodes", "device", "workers", "expected"),
    [
        ([(16, 0)], "cpu", None, (8, 2, 0)),
        ([(1, 0)], "cpu", None, (1, 1, 0)),
        ([(16, 0), (16, 0)], "cpu", 1, (1, 16, 0)),  # not the 32 that no machine has
        ([(10, 0)] * 3, "cpu", 4, (4, 5, 0)),  # a share of 7 would fit three times
        ([(4, 0)], "cpu", 9, (4, 1, 0)),
        ([(32, 4), (8, 1), (64, 0)], "cuda", None, (5, 8, 1)),
        ([(8, 1)], "cuda", 3, (3, 2, 1 / 3)),
        ([(2, 4)], "cuda", None, (4, 0, 1)),
    ],
)
def test_every_worker_finds_a_place(
    nodes: list[tuple[int, int]], device: str, workers: int | None, expected: tuple[int, int, float]
) -> None:
    count, cpus, gpus = shares(nodes, device, workers)
    assert (count, cpus, gpus) == expected
    places = [min(have // need for have, need in zip(node, (cpus, gpus), strict=True) if need) for node in nodes]
    assert sum(places) >= count


def test_ray_gives_the_gpus_out_itself() -> None:
    with (
        pytest.raises(UserError, match="auto, cpu or cuda"),
        ray_workers(BatchOptions(), address="auto", device="cuda:1", workers=None, videos=1),
    ):
        pass
