"""The examples do what they say, one after another; test_notebook.py and test_app.py run the two that are no scripts."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from st4rtrack.data.procedural import ProceduralConfig, procedural_clip
from st4rtrack.io.scene import load_scene
from st4rtrack.io.video import write_video
from tests.conftest import Run
from tests.moving_camera import walk
from tests.worldtrack_data import write_sequence

EXAMPLES = Path(__file__).parents[1] / "examples"


def example(name: str, *arguments: object) -> str:
    """What an example prints; it ends without an error."""
    done = subprocess.run([sys.executable, EXAMPLES / name, *map(str, arguments)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "cat.mp4"
    write_video(path, iter(procedural_clip(3, ProceduralConfig(height=64, width=96, num_frames=3)).rgb), fps=10)
    return path


@pytest.fixture(scope="module")
def scene(video: Path) -> Path:
    folder = video.with_name("cat_st4rtrack")
    assert "3 frames of" in example("01_reconstruct.py", video, folder)
    return folder


def test_all_are_numbered_and_run_here() -> None:
    names = sorted(path.name for path in EXAMPLES.glob("[0-9]*.py"))
    assert [int(name[:2]) for name in names] == list(range(1, len(names) + 1))
    assert all(name in Path(__file__).read_text() for name in names)


def test_a_video_is_reconstructed_and_its_points_are_followed(scene: Path) -> None:
    assert len(load_scene(scene)) == 3
    said = example("02_tracks.py", scene)
    assert said.count("visible in") == 3 and "in the last frame at [[" in said


def test_a_scene_is_exported(scene: Path, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    pytest.importorskip("pycolmap")
    example("04_export.py", scene, tmp_path / "exports")
    names = {path.name for path in (tmp_path / "exports").iterdir()}
    assert names == {"points.ply", "film.mp4", "figure.pdf", "colmap"}


def test_a_model_is_adapted(tmp_path: Path) -> None:
    video = tmp_path / "walk.mp4"
    write_video(video, iter(walk(12).rgb), fps=10)
    assert "with the adapted model" in example("03_adapt.py", video, tmp_path / "cat.safetensors", 2)
    assert (tmp_path / "cat.safetensors").is_file()


def test_someone_elses_method_is_scored(run: Run, tmp_path: Path) -> None:
    data = tmp_path / "data"
    sequence = write_sequence(data / "set" / "one.npz")
    example("05_score_your_method.py", data, "predictions")
    with np.load("predictions/set/one.npz") as prediction:
        assert prediction["tracks_world"].shape == sequence.tracks_world.shape  # pyright: ignore[reportOptionalMemberAccess]
    code, said = run("bench", "score", "--data", data, "--predictions", "predictions", "-o", "scores.json")
    assert code == 0 and "tracking, all: median APD" in said
