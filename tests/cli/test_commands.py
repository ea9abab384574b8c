"""The commands as a user meets them: what they write, and how mistakes end."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from st4rtrack.data.procedural import ProceduralConfig, procedural_clip
from st4rtrack.io.formats.common import NOT_METRES
from st4rtrack.io.scene import load_scene
from st4rtrack.io.video import open_video, write_video
from tests.conftest import Run
from tests.formula import ARCHITECTURE, formula_weights, save_official
from tests.model.test_checkpoint import Evil
from tests.shared_data import shared


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "room.mp4"
    write_video(path, iter(procedural_clip(1, ProceduralConfig(height=96, width=128, num_frames=6)).rgb), fps=10)
    return path


def test_run_writes_a_scene_a_picture_tracks_and_exports(run: Run, video: Path) -> None:
    Path("points.csv").write_text("u,v\n20.5,30.5\n64,48\n")
    code, said = run(
        "run", video, "--size", 128, "--queries", "points.csv", "--export", "ply", "--device", "cpu", "--dtype", "float32"
    )
    assert code == 0, said
    folder = Path("room_st4rtrack")
    scene = load_scene(folder)
    assert scene.tracking.points_world.shape == (6, 96, 128, 3)
    for array in (scene.tracking.points_world, scene.reconstruction.points_world, scene.cameras.world_from_camera):
        assert np.isfinite(array).all()
    picture = cv2.imread(str(folder / "overview.png"))
    assert picture is not None and picture.std() > 10
    for name in ("tracks.csv", "tracks.npz", "scene.ply"):
        assert (folder / name).stat().st_size > 100
    assert "overview.png" in said and NOT_METRES in said.splitlines()
    assert "export room_st4rtrack html" in said, "a format that is not there yet"
    info = json.loads((folder / "scene.json").read_text())["info"]
    assert info["model"]["name"] == "tiny" and info["source"]["fps"] == 10

    code, said = run("run", video, "--size", 128, "--device", "cpu", "--dtype", "float32")
    assert code == 0 and "room_st4rtrack is already complete; use --overwrite to make it again" in said and "wrote" not in said
    assert "6 frames, about" not in said, "no cost where nothing is computed"
    code, said = run("run", video, "--size", 128, "--device", "cpu", "--dtype", "float32", "--json")
    events = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert [event["path"] for event in events if event["event"] == "already_complete"] == ["room_st4rtrack"]
    assert not any(event["event"] == "wrote" for event in events)
    code, said = run("run", video, "--size", 128, "--stop", 3, "--device", "cpu", "--dtype", "float32")
    assert (
        code == 2 and "made with --stop 6, this run has --stop 3; choose another folder, or replace it with --overwrite" in said
    )
    code, said = run("run", video, "--size", 128, "--stop", 3, "--overwrite", "--device", "cpu", "--dtype", "float32", "--json")
    assert code == 0 and len(load_scene(folder)) == 3
    events = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    units = [event["unit"] for event in events if event["event"] == "progress"]
    assert units[0] == "preparation" and units[-1] == "frame" and units == sorted(units, reverse=True)

    code, said = run("run", folder)
    assert code == 2 and f"{folder} is a scene, not a video" in said and f"view {folder}" in said
    assert run("run", folder / "scene.zarr", "-o", "again", "--stop", 1, "--size", 64, "--device", "cpu")[0] == 0


@pytest.mark.skipif(sys.platform != "linux", reason="other systems allow no such name")
@pytest.mark.parametrize("as_images", [False, True])
def test_run_with_names_that_are_not_utf8_works(run: Run, video: Path, as_images: bool) -> None:
    source = Path(os.fsdecode(b"cl\xffip"))
    if as_images:
        source.mkdir()
        for k, image in enumerate(open_video(video, stop=2).frames()):
            (source / os.fsdecode(b"im\xfeage%d.png" % k)).write_bytes(cv2.imencode(".png", image)[1].tobytes())
    else:
        source = source.with_suffix(".mp4")
        shutil.copy(video, source)
    code, said = run("--quiet", "run", source, "-o", os.fsdecode(b"o\xffut"), "--size", 64, "--stop", 2, "--device", "cpu")
    assert code == 0, said
    assert (Path(os.fsdecode(b"o\xffut")) / "overview.png").is_file()
    assert load_scene(os.fsdecode(b"o\xffut")).info["source"]["name"] == os.fsdecode(b"cl\xffip")


def test_run_of_a_video_with_a_name_of_254_bytes_ends_in_a_sentence(run: Run, video: Path) -> None:
    name = Path("a" * 250 + ".mp4")
    shutil.copy(video, name)
    code, said = run("run", name, "--size", 64, "--stop", 2, "--device", "cpu")
    assert code == 2 and "too long" in said and "choose a shorter one with -o" in said and "Traceback" not in said
    assert run("run", name, "-o", "out", "--size", 64, "--stop", 2, "--device", "cpu")[0] == 0
    for format, ending in (("ply", ".ply"), ("tum", ".txt")):
        code, said = run("export", "out", format, "-o", "b" * 251 + ending)
        assert code == 0, said


def test_export_writes_beside_the_scene(run: Run, video: Path) -> None:
    assert run("run", video, "-o", "scene", "--size", 64, "--stop", 2, "--device", "cpu")[0] == 0
    code, said = run("export", "scene", "ply")
    assert code == 0 and Path("scene.ply").is_file() and "scene.ply" in said
    assert run("export", "scene", "ply")[0] == 2
    assert run("export", "scene", "ply", "--overwrite")[0] == 0
    code, said = run("export", "scene", "ply", "-o", "deep/other.ply")
    assert code == 0 and Path("deep/other.ply").is_file()
    code, said = run("export", "scene", "obj")
    assert code == 2 and "ply" in said


def test_convert_to_onnx_names_the_remaining_outputs(run: Run) -> None:
    code, said = run("convert", "tiny", "tiny.onnx")
    assert code == 2 and "ONNX export was removed; pass an OUTPUT that ends in .safetensors" in said


def test_convert_makes_safetensors_that_run(run: Run, video: Path) -> None:
    weights = formula_weights(shared("oracle/model_small_keys.json"))
    save_official(Path("official.pth"), weights)
    code, said = run("convert", "official.pth", "model")
    assert code == 0 and "model.safetensors" in said
    assert run("convert", "official.pth", "model")[0] == 2
    code, said = run("run", video, "--model", "model", "--size", 64, "--stop", 2, "-o", "large", "--device", "cpu")
    assert code == 0, said
    assert load_scene("large").info["model"]["name"] == "model"


def mistakes() -> dict[str, list[object]]:
    return {
        "missing": ["run", "missing.mp4"],
        "empty": ["run", "empty.mp4"],
        "not_a_video": ["run", "text.mp4"],
        "empty_folder": ["run", "folder"],
        "no_match": ["run", "*.jpg"],
        "stride": ["run", "VIDEO", "--stride", "0"],
        "start": ["run", "VIDEO", "--start", "abc"],
        "start_beyond": ["run", "VIDEO", "--start", "99"],
        "stop_before": ["run", "VIDEO", "--start", "4", "--stop", "2"],
        "fps": ["run", "VIDEO", "--fps", "-3"],
        "size": ["run", "VIDEO", "--size", "0"],
        "size_small": ["run", "VIDEO", "--size", "7"],
        "batch": ["run", "VIDEO", "--batch-size", "many"],
        "anchor": ["run", "VIDEO", "--anchor", "6"],
        "anchor_word": ["run", "VIDEO", "--anchor", "last"],
        "device": ["run", "VIDEO", "--device", "abacus"],
        "format": ["run", "VIDEO", "--export", "obj"],
        "queries": ["run", "VIDEO", "--queries", "none.csv"],
        "foreign_folder": ["run", "VIDEO", "-o", "foreign"],
        "output_is_file": ["run", "VIDEO", "-o", "text.mp4"],
        "model": ["run", "VIDEO", "--model", "none.safetensors"],
        "evil": ["run", "VIDEO", "--model", "evil.pth"],
        "architecture": ["run", "VIDEO", "--model", "linear.pth"],
        "convert_ending": ["convert", "tiny", "model.pth"],
        "export_missing": ["export", "none", "ply"],
    }


@pytest.mark.parametrize("name", mistakes())
def test_a_mistake_ends_in_one_sentence_and_exit_code_2(run: Run, video: Path, name: str) -> None:
    Path("empty.mp4").touch()
    Path("text.mp4").write_text("this is no video\n" * 50)
    Path("folder").mkdir()
    Path("foreign").mkdir()
    Path("foreign/thesis.txt").write_text("precious")
    torch.save({"model": {"a": torch.zeros(1)}, "args": Evil()}, "evil.pth")
    save_official(Path("linear.pth"), {"a": torch.zeros(1)}, ARCHITECTURE.replace("head_type='dpt'", "head_type='linear'"))
    before = sorted(str(path) for path in Path().rglob("*"))
    code, said = run(*[video if argument == "VIDEO" else argument for argument in mistakes()[name]])
    sentence = [line for line in said.splitlines() if line.startswith("st4rtrack: ")]
    assert code == 2 and len(sentence) == 1, said
    assert "Traceback" not in said
    assert sorted(str(path) for path in Path().rglob("*")) == before, "a mistake leaves nothing behind"


@pytest.mark.parametrize("arguments", [["run"], ["run", "x", "--stride", "q"], ["fly"], ["run", "x", "--no-such-option"]])
def test_options_that_do_not_exist_are_exit_code_2(run: Run, arguments: list[str]) -> None:
    code, said = run(*arguments)
    assert code == 2 and "Traceback" not in said


def test_help_version_and_module(run: Run) -> None:
    for arguments in (["--help"], [], ["run", "--help"]):
        code, said = run(*arguments)
        assert code == 0 and "st4rtrack" in said
    for command in (["-m", "st4rtrack"], ["-c", "from st4rtrack.cli.main import main; main()"]):
        done = subprocess.run([sys.executable, *command, "--version"], capture_output=True, text=True, check=True)
        assert done.stdout.startswith("st4rtrack ")


def test_run_without_room_on_the_disk_ends_in_one_sentence(run: Run, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=1000))
    code, said = run("run", video, "-o", "full", "--size", 64, "--device", "cpu")
    assert code == 2 and "GB left" in said and not Path("full").exists()
    assert said.splitlines()[0] == "6 frames, about 10 s, 0.01 GB"
