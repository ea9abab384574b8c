"""An adaptation sees what the pipeline sees, and its gradients reach what learns."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from st4rtrack.adapt.forward import predict, solve_cameras
from st4rtrack.adapt.inputs import FrameInputs, frame_inputs
from st4rtrack.adapt.loop import learning_parameters
from st4rtrack.geometry.transforms import invert_rigid
from st4rtrack.io.video import open_video
from st4rtrack.model.network import St4RTrack
from st4rtrack.pipeline import cameras as solver
from st4rtrack.pipeline.reconstruct import reconstruct
from tests.adapt.small import load, monocular_base, small_base, small_clip
from tests.synthetic import TruthNetwork


@pytest.fixture(scope="module", params=["plain", "monocular"])
def seen(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[St4RTrack, FrameInputs, np.ndarray]:
    folder = tmp_path_factory.mktemp("inputs")
    base = monocular_base(folder) if request.param == "monocular" else small_base(folder)
    model, rgb = load(base), small_clip().rgb
    return model, frame_inputs(model, open_video(rgb), folder), rgb


def test_the_prediction_is_that_of_the_pipeline(seen: tuple[St4RTrack, FrameInputs, np.ndarray]) -> None:
    model, inputs, rgb = seen
    scene = reconstruct(rgb, model=model, size=96, refine=False, depth_prior="none")
    frames = np.array([0, 2, 5])
    with torch.no_grad():
        maps = predict(model, inputs, frames, "float32")
        solved = solve_cameras(maps, refine=False)
    known = np.asarray(scene.cameras.solved)[frames]
    np.testing.assert_array_equal(np.isin(np.arange(3), solved.rows), known)
    if model.config.head == "monocular":  # learns from points whose depth the pipeline replaces by known depth
        return
    for found, expected in ((maps.tracking, scene.tracking), (maps.reconstruction, scene.reconstruction)):
        np.testing.assert_allclose(found.points_world.numpy(), np.asarray(expected.points_world)[frames], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(solved.intrinsics.numpy(), scene.cameras.intrinsics[0], rtol=1e-4)


@pytest.mark.parametrize("freeze", ["reconstruction", "encoder"])
def test_gradients_reach_what_learns_and_nothing_else(seen: tuple[St4RTrack, FrameInputs, np.ndarray], freeze: str) -> None:
    model, inputs, _ = seen
    learning = learning_parameters(model, "encoder" if freeze == "encoder" else "reconstruction")
    assert not any(name.startswith("encoder.") for name in learning)
    branch = ("decoder.tracking_blocks.", "tracking_head.")
    if model.config.head == "monocular":
        branch = ("monocular_head.",)
        assert all(name.startswith(branch) for name in learning)
    elif freeze == "reconstruction":
        assert all(name.startswith(branch) for name in learning)
    model.zero_grad()
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


def test_known_cameras_and_intrinsics_are_neither_solved_nor_refined(seen: tuple[St4RTrack, FrameInputs, np.ndarray]) -> None:
    model, inputs, _ = seen
    frames = np.array([0, 1, 3])
    cameras = np.tile(np.eye(4), (len(inputs), 1, 1))
    cameras[:, 0, 3] = np.arange(len(inputs))
    intrinsics = np.tile([[77.0, 0, 20], [0, 78, 30], [0, 0, 1]], (len(inputs), 1, 1))
    told = replace(inputs, world_from_camera=cameras, intrinsics=intrinsics)
    with torch.no_grad():
        maps = predict(model, inputs, frames, "float32")
    for refine in (False, True):
        solved = solve_cameras(maps, refine=refine, inputs=told, frames=frames)
        assert solved.rows.tolist() == [0, 1, 2]
        np.testing.assert_allclose(solved.camera_from_world.numpy(), invert_rigid(cameras[frames]), atol=1e-6)
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
