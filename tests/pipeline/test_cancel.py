"""Cancelling from Python: what `progress` raises ends the call, leaves nothing running, and the folder free to go on."""

import threading
from pathlib import Path

import numpy as np
import pytest

from st4rtrack.io.scene import load_scene, save_scene
from st4rtrack.pipeline.reconstruct import reconstruct
from st4rtrack.threads import THREAD
from st4rtrack.types import UserError
from tests.batch.clips import write_model
from tests.synthetic_scene import synthetic_scene


class Cancelled(Exception):
    pass


def cancel(done: int, _: int) -> None:
    if done == 2:
        raise Cancelled


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory):
    from st4rtrack.model.checkpoint import load_model

    return load_model(write_model(tmp_path_factory.mktemp("model")), device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (5, 64, 96, 3), np.uint8)


@pytest.mark.parametrize("on_disk", [False, True])
def test_nothing_goes_on_after_a_cancel(model, frames: np.ndarray, tmp_path: Path, on_disk: bool) -> None:
    output = tmp_path / "scene" if on_disk else None
    with pytest.raises(Cancelled) as held:  # `held` keeps the whole call's variables alive: that must not block the folder
        reconstruct(frames, model=model, output=output, batch_size=1, progress=cancel)
    assert not [thread for thread in threading.enumerate() if thread.name == THREAD]
    if output is not None:
        with pytest.raises(UserError, match="2 of 5 frames"):
            load_scene(output)
        assert len(reconstruct(frames, model=model, output=output, batch_size=1)) == 5
        assert sorted(path.name for path in output.iterdir()) == ["scene.json", "scene.zarr"]
    assert held.type is Cancelled


def test_a_folder_that_goes_away_midway_is_said_and_can_be_gone_on_with(model, frames: np.ndarray, tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "scene", tmp_path / "elsewhere"

    def move(done: int, _: int) -> None:
        if done == 2:
            folder.rename(elsewhere)

    with pytest.raises(UserError, match="was moved or removed"):
        reconstruct(frames, model=model, output=folder, batch_size=1, progress=move)
    assert not folder.exists(), "nothing is made where it was"
    elsewhere.rename(folder)
    scene = reconstruct(frames, model=model, output=folder, batch_size=1)
    whole = reconstruct(frames, model=model, batch_size=1)
    np.testing.assert_array_equal(scene.tracking.points_world, whole.tracking.points_world)


def test_a_scene_that_is_being_written_is_refused_before_anything_is_computed(model, frames: np.ndarray, tmp_path: Path) -> None:
    refused: list[str] = []

    def meanwhile(done: int, _: int) -> None:
        if done == 2:
            with pytest.raises(UserError, match="is being written to by") as error:
                reconstruct(frames, model=model, output=tmp_path / "scene", batch_size=1)
            refused.append(str(error.value))
            with pytest.raises(UserError, match="is being written to by"):
                save_scene(synthetic_scene(), tmp_path / "scene", overwrite=True)

    scene = reconstruct(frames, model=model, output=tmp_path / "scene", batch_size=1, progress=meanwhile)
    assert len(scene) == 5 and str(tmp_path / "scene") in refused[0]
