"""`st4rtrack batch` as a user meets it."""

import dataclasses
import inspect
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from st4rtrack.batch import worker as local
from st4rtrack.batch.jobs import Outcome, Status
from st4rtrack.batch.run import frames_written
from st4rtrack.cli.batch import BatchProgress, _summarise, batch
from st4rtrack.cli.reporter import reporting
from st4rtrack.cli.run import run as run_command
from st4rtrack.cli.run import write_beside
from st4rtrack.io.scene import load_scene, save_scene
from tests.batch.clips import write_clip, write_model
from tests.batch.light_worker import serve_without_network
from tests.conftest import Run
from tests.synthetic_scene import synthetic_scene

GROUPS = ("scene", "frames", "device", "known", "results")
"""Parameters that are groups of options."""


def test_it_says_what_failed_and_where_to_look(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_serve", serve_without_network)
    for name in ("good", "faulty"):
        Path(f"{name}.mp4").touch()
    code, said = run("batch", "*.mp4", "-o", "out", "--device", "cpu", "--workers", 1)
    assert code == 1
    assert "2 videos: 1 made, 1 failed" in said and "faulty.mp4: RuntimeError: x" in said
    assert "out/batch.json" in said and "good/overview.png" in said and "2 of 2 videos (1 failed)" in said
    assert json.loads(Path("out/batch.json").read_text())["counts"] == {"made": 1, "failed": 1}
    code, said = run("batch", "good.mp4", "-o", "out", "--device", "cpu")
    assert code == 0 and "1 video: 1 made; 0 frames" in said


def test_quality_of_each_video_is_listed_and_may_decide_the_exit_code(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "_serve", serve_without_network)
    for name in ("sharp", "dark"):
        Path(f"{name}.mp4").touch()
    code, said = run("batch", "*.mp4", "-o", "out", "--device", "cpu", "--workers", 1)
    assert code == 0 and "2 made; 1 unreliable; 20 frames" in said
    assert "sharp: quality: consistent with the video; 10/10 frames solved, reprojection 0.5 px, parallax good" in said
    assert "dark: quality: UNRELIABLE (low_light); 5/10 frames solved" in said
    videos = {video["name"]: video for video in json.loads(Path("out/batch.json").read_text())["videos"]}
    assert videos["dark"]["quality"]["reliable"] is False and videos["sharp"]["quality"]["reprojection_px"] == 0.5
    assert run("batch", "*.mp4", "-o", "out", "--device", "cpu", "--workers", 1, "--require-reliable")[0] == 3
    assert run("batch", "sharp.mp4", "-o", "out", "--device", "cpu", "--workers", 1, "--require-reliable")[0] == 0


def test_summary_of_a_complete_scene_says_already_complete(capsys: pytest.CaptureFixture) -> None:
    with reporting("json"):
        _summarise([Outcome("clip", "clip.mp4", "out/clip", "already there", frames=10)], Path("out"))
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {"1 video: 1 already complete; 10 frames in out", "out/clip"} <= {
        event.get("text", event.get("path")) for event in events
    }
    assert "already_complete" in [event["event"] for event in events]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["none/*.mp4"], "no video matches none/*.mp4"),
        (["x.png"], "is a single image"),
        (["x.mp4", "--export", "obj"], "--export must be among"),
        (["x.mp4", "--workers", "some"], "--workers must be"),
        (["x.mp4", "--size", "0"], "--size must be"),
        (["x.mp4", "--anchor", "last"], "--anchor must be"),
        (["x.mp4", "--device", "quantum"], "is not available"),
        (["x.mp4", "-o", "x.png"], "is a file"),
    ],
    ids=lambda value: value if isinstance(value, str) else " ".join(value),
)
def test_mistakes_end_in_a_sentence(run: Run, given: list[str], expected: str) -> None:
    for name in ("x.mp4", "x.png"):
        Path(name).touch()
    code, said = run("batch", *given, *([] if "-o" in given else ["-o", "out"]))
    assert code == 2 and expected in said and "Traceback" not in said, said
    assert not Path("out").exists()


def test_batch_takes_all_options_of_run_but_queries() -> None:
    def options(command: Callable[..., None]) -> set[str]:
        names = set()
        for name, parameter in inspect.signature(command).parameters.items():
            fields = [field.name for field in dataclasses.fields(parameter.annotation)] if name in GROUPS else [name]
            names.update(fields)
        return names

    assert options(run_command) - options(batch) == {"video", "queries", "adaptation"}


def test_what_lies_beside_a_scene_is_written_when_it_is_due(tmp_path: Path) -> None:
    folder = save_scene(synthetic_scene(3, 24, 32), tmp_path / "scene")
    picture, cloud = folder / "overview.png", folder / "scene.ply"

    def written(changed: bool) -> tuple[int, int]:
        write_beside(load_scene(folder), folder, changed, formats=("ply",))
        return picture.stat().st_mtime_ns, cloud.stat().st_mtime_ns

    first = written(True)
    assert written(False) == first
    os.utime(cloud, (1, 1))  # as if of a scene before this one
    second = written(False)
    assert second[0] == first[0] and second[1] > first[1]
    third = written(True)
    assert third[0] > second[0] and third[1] > second[1]


def test_the_time_left_is_that_of_what_was_not_there_before(capsys: pytest.CaptureFixture) -> None:
    with BatchProgress() as progress:
        progress(Status(videos=10, done=5, failed=1, share=5.0, found=5.0, frames=0))
        assert progress._bar is not None
        progress._bar.start_t -= 10
        progress(Status(videos=10, done=5, failed=1, share=6.0, found=5.0, frames=30))
    last = capsys.readouterr().err.split("\r")[-1]
    assert "5 of 10 videos (1 failed)" in last and "60%" in last and "[00:10<00:4" in last and "30 frames, 3.0/s" in last, last


@pytest.mark.slow
def test_a_killed_command_goes_on_where_it_was(tmp_path: Path) -> None:
    model, frames = write_model(tmp_path), 12
    for k in range(2):
        write_clip(tmp_path / f"videos/clip{k}.mp4", frames, seed=k)
    command = [sys.executable, "-m", "st4rtrack", "batch", "videos/*", "-o", "out", "--device", "cpu", "--workers", "2"]
    command += ["--model", str(model), "--batch-size", "1"]
    batch = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    folders = [tmp_path / f"out/clip{k}" for k in range(2)]
    while batch.poll() is None and not any(0 < frames_written(folder)[0] < frames for folder in folders):
        time.sleep(0.01)
    batch.send_signal(signal.SIGKILL)
    batch.wait()
    time.sleep(2)  # workers end with the command, within moments
    before = [frames_written(folder)[0] for folder in folders]
    time.sleep(3)
    assert [frames_written(folder)[0] for folder in folders] == before and 0 < sum(before) < 2 * frames

    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    told = json.loads((tmp_path / "out/batch.json").read_text())["videos"]
    assert [video["frames_made"] for video in told] == [frames - there for there in before]
    assert [len(load_scene(folder).time_s) for folder in folders] == [frames, frames]
