"""An adaptation sees what the pipeline sees, and its gradients reach what learns."""

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch

from st4rtrack.adapt.config import AdaptConfig
from st4rtrack.adapt.forward import predict, solve_cameras
from st4rtrack.adapt.inputs import FrameInputs, frame_inputs
from st4rtrack.adapt.loop import PairTask
from st4rtrack.geometry.transforms import invert_rigid
from st4rtrack.io.video import open_video
from st4rtrack.losses.adaptation import AdaptationLoss
from st4rtrack.model.network import St4RTrack
from st4rtrack.pipeline import cameras as solver
from st4rtrack.pipeline.reconstruct import reconstruct
from tests.adapt.small import load, small_base, small_clip
from tests.synthetic import TruthNetwork


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> tuple[St4RTrack, FrameInputs, np.ndarray]:
    folder = tmp_path_factory.mktemp("inputs")
    model, rgb = load(small_base(folder)), small_clip().rgb
    return model, frame_inputs(model, open_video(rgb), folder), rgb


def test_the_prediction_is_that_of_the_pipeline(seen: tuple[St4RTrack, FrameInputs, np.ndarray]) -> None:
    model, inputs, rgb = seen
    scene = reconstruct(rgb, model=model, size=96, refine=False)
    frames = np.array([0, 2, 5])
    with torch.no_grad():
        maps = predict(model, inputs, frames, "float32")
        solved = solve_cameras(maps, refine=False)
    known = np.asarray(scene.cameras.solved)[frames]
    np.testing.assert_array_equal(np.isin(np.arange(3), solved.rows), known)
    for found, expected in ((maps.tracking, scene.tracking), (maps.reconstruction, scene.reconstruction)):
        np.testing.assert_allclose(found.points_world.numpy(), np.asarray(expected.points_world)[frames], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(solved.intrinsics.numpy(), scene.cameras.intrinsics[0], rtol=1e-4)


@pytest.mark.parametrize("freeze", ["reconstruction", "encoder"])
def test_gradients_reach_what_learns_and_nothing_else(
    seen: tuple[St4RTrack, FrameInputs, np.ndarray], freeze: Literal["reconstruction", "encoder"]
) -> None:
    model, inputs, _ = seen
    learning = PairTask(model, [], [], AdaptConfig(freeze=freeze), AdaptationLoss()).parameters
    assert not any(name.startswith("encoder.") for name in learning)
    branch = ("decoder.tracking_blocks.", "tracking_head.")
    assert all(name.startswith(branch) for name in learning) is (freeze == "reconstruction")
    model.requires_grad_(False).zero_grad()
    for parameter in learning.values():
        parameter.requires_grad_(True)
    maps = predict(model, inputs, np.array([0, 1, 3]), "float32")
    maps.tracking.points_world.sum().backward()
    touched = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert touched <= set(learning)
    assert any(name.startswith(branch[0]) for name in touched)


def test_the_true_cameras_are_found_and_refined_no_worse() -> None:
    clip = small_clip()
    model = TruthNetwork(clip)
    with torch.no_grad():
        maps = model.decode(model.encode(_images(clip.rgb[:1])), model.encode(_images(clip.rgb)))
    for refine in (False, True):
        solved = solve_cameras(maps, refine=refine)
        assert solved.rows.tolist() == list(range(6))
        np.testing.assert_array_equal(solved.camera_from_world[0].numpy(), np.eye(4))
        found = solved.camera_from_world.double().numpy()
        np.testing.assert_allclose(found, invert_rigid(clip.world_from_camera), atol=2e-2)


def _images(rgb: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(rgb).movedim(-1, 1) / 127.5 - 1


def test_solve_cameras_known_intrinsics_are_not_estimated(seen: tuple[St4RTrack, FrameInputs, np.ndarray]) -> None:
    model, inputs, _ = seen
    frames = np.array([0, 1, 3])
    intrinsics = np.tile([[77.0, 0, 20], [0, 78, 30], [0, 0, 1]], (len(inputs), 1, 1))
    with torch.no_grad():
        maps = predict(model, inputs, frames, "float32")
    solved = solve_cameras(maps, refine=True, inputs=replace(inputs, intrinsics=intrinsics), frames=frames)
    np.testing.assert_allclose(solved.intrinsics.numpy(), intrinsics[0])


def test_solve_cameras_unsolved_frame_is_left_out(
    seen: tuple[St4RTrack, FrameInputs, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, inputs, _ = seen
    frames = np.array([0, 1, 3])
    monkeypatch.setattr(solver, "solve_camera", lambda *_: np.eye(4))
    with torch.no_grad():
        maps = predict(model, inputs, frames, "float32")
    solved = solve_cameras(maps, refine=False, inputs=replace(inputs, unsolved=frozenset({1})), frames=frames)
    assert solved.rows.tolist() == [0, 2]
