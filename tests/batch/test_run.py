"""A batch with a broken video, killed workers, and a second call."""

import json
import logging
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from st4rtrack.batch import worker as local
from st4rtrack.batch.jobs import Job, Outcome, Status
from st4rtrack.batch.run import frames_written, reconstruct_videos
from st4rtrack.batch.worker import BatchOptions, Worker
from st4rtrack.io.scene import load_scene
from st4rtrack.model.checkpoint import load_model
from st4rtrack.options import KnownGeometry
from st4rtrack.types import UserError
from tests.batch.clips import HEIGHT, WIDTH, small_options, write_broken, write_clip, write_model
from tests.batch.light_worker import serve_without_network

FRAMES = 5


@pytest.fixture(params=[3, pytest.param(19, marks=pytest.mark.slow)])
def clips(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Clips a/clip0, a/clip1, ... and b/clip1, and one that is broken."""
    for k, name in enumerate([*(f"a/clip{k}" for k in range(request.param - 1)), "b/clip1"]):
        write_clip(tmp_path / f"videos/{name}.mp4", FRAMES, seed=k)
    write_broken(tmp_path / "videos/a/broken.mp4")
    return tmp_path


def changed_at(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*")) if path.is_file() and path.name != "batch.json"}


class KillOnce:
    """As the progress of a batch: kills the worker when the second frame of a scene is written, and remembers what was on disk."""

    def __init__(self, output: Path) -> None:
        self.output, self.victim, self.written = output, None, {}
        self.statuses = list[Status]()

    def __call__(self, status: Status) -> None:
        self.statuses.append(status)
        for folder in () if self.victim else self.output.glob("clip*"):
            done = frames_written(folder)[0]
            if 2 <= done < FRAMES:
                (worker,) = multiprocessing.active_children()
                worker.kill()
                worker.join()
                done = frames_written(folder)[0]
                self.victim = folder
                self.written = {path: time for path, time in changed_at(folder / "scene.zarr").items() if frame_of(path) < done}


def frame_of(path: Path) -> int:
    """The frame of a chunk file `.../c/FRAME/0/0...`; beyond all frames for other files."""
    parts = path.parts
    return int(parts[len(parts) - 1 - parts[::-1].index("c") + 1]) if "c" in parts else FRAMES


def test_one_broken_one_killed_then_again(clips: Path) -> None:
    output, options = clips / "out", small_options(write_model(clips))
    patterns, progress = [str(clips / "videos/**/*.mp4")], KillOnce(clips / "out")
    outcomes = reconstruct_videos(patterns, output, options, device="cpu", workers=1, progress=progress, interval_s=0.002)
    states = {outcome.name: outcome.state for outcome in outcomes}
    good = [name for name in states if name != "broken"]
    assert states == {"broken": "failed", **dict.fromkeys(good, "made")} and {"clip0", "clip1", "b_clip1"} <= set(good)
    assert progress.victim is not None and len(progress.written) >= 2 * 5
    for path, time_ns in progress.written.items():
        assert path.stat().st_mtime_ns == time_ns, f"{path} was computed twice"
    for outcome in outcomes:
        if outcome.state == "made":
            assert outcome.frames == FRAMES == len(load_scene(outcome.folder))
        else:
            assert "not a video" in (outcome.reason or "") and outcome.traceback is None
    last = progress.statuses[-1]
    videos = len(good) + 1
    assert (last.videos, last.done, last.failed, last.share, last.frames) == (videos, videos, 1, videos, len(good) * FRAMES)

    before = changed_at(output)
    again = reconstruct_videos(patterns, output, options, device="cpu", workers=1)
    assert {outcome.name: outcome.state for outcome in again} == {
        name: "failed" if state == "failed" else "already there" for name, state in states.items()
    }
    assert changed_at(output) == before
    told = json.loads((output / "batch.json").read_text())
    assert told["counts"] == {"already there": len(good), "failed": 1} and told["workers"] == ["cpu"]
    assert [video["name"] for video in told["videos"]] == [outcome.name for outcome in outcomes]


def light_batch(folder: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...], **options: Any) -> list[Outcome]:
    monkeypatch.setattr(local, "_serve", serve_without_network)
    for name in names:
        (folder / f"{name}.mp4").touch()
    videos = [str(folder / f"{name}.mp4") for name in names]
    return reconstruct_videos(videos, folder / "out", BatchOptions(**options), device="cpu", workers=1, interval_s=0.01)


def test_options_of_a_batch_reach_every_scene(tmp_path: Path) -> None:
    video = write_clip(tmp_path / "clip.mp4", 2)
    np.savez(tmp_path / "clip.npz", depth=np.ones((2, HEIGHT, WIDTH), np.float32))
    (tmp_path / "clip_k.txt").write_text("80 0 48\n0 80 32\n0 0 1\n")
    known = KnownGeometry(intrinsics=str(tmp_path / "{name}_k.txt"), metres_per_unit=2.0)
    prior = str(tmp_path / "{name}.npz")
    worker = Worker(BatchOptions(dtype="float32", known=known, refine=False, depth_prior=prior), "cpu", 1)
    worker.__dict__["model"] = load_model(device="cpu", dtype="float32")  # leaves the threads of OpenCV alone
    outcome = worker.reconstruct(Job("clip", str(video), tmp_path / "clip"))
    assert outcome.state == "made", outcome
    info = json.loads((tmp_path / "clip" / "scene.json").read_text())["info"]
    assert info["known"]["metres_per_unit"] == 2.0 and "clip_k.txt" in str(info["known"]["intrinsics"])
    assert info["options"]["refine"] == []
    assert info["options"]["depth_prior"].startswith("clip.npz")


def test_paths_of_known_geometry_become_absolute_and_numbers_stay() -> None:
    known = KnownGeometry(intrinsics="500,510", cameras=Path("poses.txt"), depth="depth/{name}").absolute()
    assert known == KnownGeometry(intrinsics="500,510", cameras=Path.cwd() / "poses.txt", depth=Path.cwd() / "depth/{name}")
    assert KnownGeometry(intrinsics="k.txt").absolute().intrinsics == Path.cwd() / "k.txt"


def test_a_killed_worker_costs_no_other_video(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        outcomes = light_batch(tmp_path, monkeypatch, ("first", "deadly", "once", "faulty", "last"))
    assert [outcome.state for outcome in outcomes] == ["made", "failed", "made", "failed", "made"]
    assert "killed twice" in (outcomes[1].reason or "") and "signal 9" in (outcomes[1].reason or "")
    assert "deadly failed: its worker was killed twice" in caplog.text
    first, _, once, faulty, last = (outcome.notes for outcome in outcomes)
    assert once == faulty != first and last != faulty  # one process as long as it lives; a fault ends it, to be safe
    assert json.loads((tmp_path / "out/batch.json").read_text())["counts"] == {"made": 3, "failed": 2}


def test_a_model_that_cannot_be_loaded_ends_the_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="no such model"):
        light_batch(tmp_path, monkeypatch, ("one", "two"), model="refused")
    assert not (tmp_path / "out").exists()
    assert not multiprocessing.active_children()


def test_an_interrupted_batch_says_what_it_did_and_leaves_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_serve", serve_without_network)
    for name in ("first", "second", "third"):
        (tmp_path / f"{name}.mp4").touch()

    def interrupt(status: Status) -> None:
        if status.done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reconstruct_videos([str(tmp_path)], tmp_path / "out", device="cpu", workers=1, progress=interrupt, interval_s=0.01)
    assert not multiprocessing.active_children()
    told = json.loads((tmp_path / "out/batch.json").read_text())
    assert told["videos"][0]["state"] == "made" and sum(told["counts"].values()) == 3


def test_workers_share_devices_cores_and_videos() -> None:
    options = BatchOptions()
    assert len(local.local_workers(options, device="cpu", workers=5, videos=3)) == 3
    assert [worker.device for worker in local.local_workers(options, device="cpu,cpu", workers=None, videos=9)] == ["cpu", "cpu"]
    assert len(local.local_workers(options, device="cpu", workers=None, videos=99)) == max(1, local._cores() // 2)
    with pytest.raises(UserError, match="not available"):
        local.local_workers(options, device="quantum", workers=None, videos=1)


def test_frames_of_a_scene_are_read_from_its_folder(tmp_path: Path) -> None:
    assert frames_written(tmp_path) == (0, 0)
    (tmp_path / "scene.json").write_text("{")
    assert frames_written(tmp_path) == (0, 0)
    job = Job("x", "x.mp4", tmp_path)
    assert Outcome.of(job, "made", frames=3).folder == str(tmp_path)
