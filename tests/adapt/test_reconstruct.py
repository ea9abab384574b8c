"""`reconstruct_adapted` always leaves a complete scene; network, reconstruction and adaptation are replaced by stubs."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from st4rtrack.adapt import reconstruct as tested
from st4rtrack.adapt.reconstruct import RESULT, reconstruct_adapted
from st4rtrack.io.scene import SCENE_JSON, load_scene, save_scene
from st4rtrack.io.scene import folder as scene_folder
from st4rtrack.io.video import open_video
from st4rtrack.model.checkpoint import save_model
from st4rtrack.model.network import St4RTrack
from st4rtrack.options import ReconstructOptions
from st4rtrack.scene import Scene
from st4rtrack.train.forward import new_model
from st4rtrack.types import UserError
from tests.adapt.small import SMALL_MONOCULAR
from tests.synthetic_scene import synthetic_scene

VIDEO = open_video(np.zeros((4, 6, 8, 3), np.uint8))


def errors(depth_error: float) -> dict[str, float | None]:
    """A measurement."""
    return {"error_px": depth_error, "depth_error": depth_error, "agreement": None, "unsupervised": None}


class Stubs:
    """Scenes that differ with the weights, and an adaptation with a chosen end."""

    def __init__(self, model: St4RTrack) -> None:
        self.model, self.runs, self.adaptations = model, list[str](), 0
        self.end: Callable[[], None] = lambda: None
        self.gained, self.depth_error = True, 0.8

    def reconstruct(self, video: object, *, model: St4RTrack, output: Path, overwrite: bool, **_: Any) -> Scene:
        self.runs.append(output.name)
        if (output / SCENE_JSON).exists() and not overwrite:
            return load_scene(output)
        info = {"model": {"name": model.name, "hash": model.weights_hash}, "source": {"video": str(output / "video.mp4")}}
        scene = replace(synthetic_scene(seed=len(model.weights_hash)), info=info)
        return load_scene(save_scene(scene, output, overwrite=overwrite))

    def adapt_videos(self, videos: object, *, output: Path, model: St4RTrack, **_: Any) -> None:
        self.adaptations += 1
        state = output.with_name("model.unfinished.pt")
        state.touch()
        self.end()
        save_model(model, output)
        report = {
            "gained": self.gained,
            "sentence": "adapted to array" if self.gained else "no improvement in 8 steps",
            "best_step": 8,
            "steps_done": 8,
            "held_out": {"before": errors(1.0), "after": errors(self.depth_error)},
            "options": {"base": {"name": model.name, "hash": model.weights_hash}},
        }
        (output.parent / "model_adapted").mkdir(exist_ok=True)
        (output.parent / "model_adapted" / "adaptation.json").write_text(json.dumps(report))
        state.unlink()

    def run(self, folder: Path, **options: Any) -> Scene:
        return reconstruct_adapted(VIDEO, model=self.model, output=folder, **options)


@pytest.fixture(scope="module")
def model() -> St4RTrack:
    made = new_model(SMALL_MONOCULAR, seed=0)
    made.name = "base"
    return made


@pytest.fixture
def stubs(model: St4RTrack, monkeypatch: pytest.MonkeyPatch) -> Stubs:
    made = Stubs(model)
    monkeypatch.setattr(tested, "reconstruct", made.reconstruct)
    monkeypatch.setattr(tested, "adapt_videos", made.adapt_videos)
    return made


def model_of(folder: Path) -> str:
    """Name of the model of a complete scene."""
    scene = load_scene(folder)
    np.asarray(scene.tracking.points_world[0])
    return scene.info["model"]["name"]


def test_reconstruct_adapted_improvement_replaces_the_base_scene(stubs: Stubs, tmp_path: Path) -> None:
    folder = tmp_path / "scene"
    scene = stubs.run(folder)
    assert model_of(folder) == "model" and stubs.runs == ["scene", "scene"]
    result = scene.info["results"][RESULT]
    assert result["gained"] and result["minutes"] == 5 and result["base"]["name"] == "base"
    assert scene.info["source"]["video_from_scene"] == "adaptation/scene/video.mp4"
    assert {path.name for path in (folder / "adaptation").iterdir()} == {"model.safetensors", "model_adapted"}
    stubs.run(folder)
    assert stubs.adaptations == 1 and model_of(folder) == "model"
    with pytest.raises(UserError, match=r"--adapt-minutes 5.0, this run has --adapt-minutes 1"):
        stubs.run(folder, minutes=1)
    stubs.gained = False
    stubs.run(folder, minutes=1, overwrite=True)
    assert model_of(folder) == "base" and stubs.adaptations == 2


def test_reconstruct_adapted_no_improvement_keeps_the_base_scene(stubs: Stubs, tmp_path: Path) -> None:
    stubs.gained = False
    result = stubs.run(tmp_path).info["results"][RESULT]
    assert model_of(tmp_path) == "base" and result["sentence"] == "no improvement in 8 steps; kept the base scene"
    stubs.run(tmp_path)
    assert stubs.adaptations == 1


def test_reconstruct_adapted_small_improvement_keeps_the_base_scene(stubs: Stubs, tmp_path: Path) -> None:
    stubs.depth_error = 0.97
    result = stubs.run(tmp_path).info["results"][RESULT]
    assert model_of(tmp_path) == "base" and "needs 5 % less" in result["sentence"] and stubs.runs == [tmp_path.name]


def test_reconstruct_adapted_interrupted_keeps_the_base_scene_and_resumes(stubs: Stubs, tmp_path: Path) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    stubs.end = interrupt
    with pytest.raises(KeyboardInterrupt):
        stubs.run(tmp_path)
    assert model_of(tmp_path) == "base"
    stubs.end = lambda: None
    stubs.run(tmp_path)
    assert model_of(tmp_path) == "model"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "the device has no memory left"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), "this machine has no memory left"),
        (UserError("no teacher knows any depth"), "no teacher knows any depth"),
    ],
)
def test_reconstruct_adapted_out_of_memory_keeps_the_base_scene(
    stubs: Stubs, tmp_path: Path, error: Exception, message: str
) -> None:
    def fail() -> None:
        raise error

    stubs.end = fail
    result = stubs.run(tmp_path).info["results"][RESULT]
    assert model_of(tmp_path) == "base" and message in result["sentence"] and not result["gained"]
    stubs.end = lambda: None
    stubs.run(tmp_path)  # tries again
    assert model_of(tmp_path) == "model"


def test_reconstruct_adapted_internal_error_is_raised(stubs: Stubs, tmp_path: Path) -> None:
    def fail() -> None:
        raise RuntimeError("shapes differ")

    stubs.end = fail
    with pytest.raises(RuntimeError, match="shapes differ"):
        stubs.run(tmp_path)
    assert model_of(tmp_path) == "base"


@pytest.mark.parametrize("moves", [1, 2])
def test_reconstruct_adapted_killed_while_replacing_the_scene_ends_with_one(
    stubs: Stubs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moves: int
) -> None:
    new, base = _two_scenes(tmp_path)
    rename, done = Path.rename, list[Path]()

    def killed(path: Path, target: Path) -> Path:
        if len(done) == moves:
            raise KeyboardInterrupt
        done.append(path)
        return rename(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(scene_folder.Path, "rename", killed)
        patch.setattr(scene_folder.Path, "replace", killed if moves == 2 else Path.replace)
        with pytest.raises(KeyboardInterrupt):
            scene_folder.adopt_scene(new, base)
    scene_folder.finish_adoption(new, base)
    assert model_of(base) == "new" and not new.exists()
    scene_folder.finish_adoption(new, base)
    assert model_of(base) == "new"


def _two_scenes(folder: Path) -> tuple[Path, Path]:
    for name in ("base", "new"):
        save_scene(replace(synthetic_scene(), info={"model": {"name": name, "hash": "0"}}), folder / name)
    return folder / "new", folder / "base"


def test_reconstruct_adapted_other_depth_prior_raises(stubs: Stubs, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--depth-prior none replaces"):
        stubs.run(tmp_path, options=ReconstructOptions(depth_prior="none"))
    assert not list(tmp_path.iterdir())
