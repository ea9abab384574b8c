"""The same video gives the same scene: bit for bit when nothing changes, nearly so with other batches and threads."""

import os
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from st4rtrack.data.procedural import ProceduralConfig, procedural_clip
from st4rtrack.model.checkpoint import load_model
from st4rtrack.model.device import use_deterministic_algorithms
from st4rtrack.model.network import St4RTrack
from st4rtrack.pipeline.reconstruct import reconstruct
from st4rtrack.scene import Scene

NEARLY = 1e-5
"""Of a point's distance, in the median."""


@pytest.fixture(scope="module")
def model() -> St4RTrack:
    return load_model(device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def clip() -> np.ndarray:
    return procedural_clip(3, ProceduralConfig(num_frames=4, setting="room")).rgb


@pytest.fixture(scope="module")
def scene(clip: np.ndarray, model: St4RTrack) -> Scene:
    return reconstruct(clip, model=model, size=128, batch_size=2)


@pytest.fixture
def threads() -> Iterator[None]:
    before = torch.get_num_threads(), cv2.getNumThreads()
    yield
    torch.set_num_threads(before[0])
    cv2.setNumThreads(before[1])


def arrays(scene: Scene) -> dict[str, Any]:
    return {
        "tracking": np.asarray(scene.tracking.points_world),
        "tracking confidence": np.asarray(scene.tracking.confidence),
        "visible": np.asarray(scene.tracking.visible),
        "reconstruction": np.asarray(scene.reconstruction.points_world),
        "reconstruction confidence": np.asarray(scene.reconstruction.confidence),
        "world_from_camera": np.asarray(scene.cameras.world_from_camera),
        "intrinsics": np.asarray(scene.cameras.intrinsics),
    }


def assert_nearly_equal(found: Scene, expected: Scene) -> None:
    one, other = arrays(found), arrays(expected)
    for name in ("tracking", "reconstruction"):
        difference = np.linalg.norm(one[name] - other[name], axis=-1) / np.linalg.norm(other[name], axis=-1)
        assert np.median(difference) < NEARLY, name
    assert np.mean(one["visible"] != other["visible"]) < 1e-3
    # RANSAC amplifies rounding: which points agree may change by a few
    np.testing.assert_allclose(one["world_from_camera"], other["world_from_camera"], atol=1e-3)


def test_a_second_run_is_equal_bit_for_bit(clip: np.ndarray, model: St4RTrack, scene: Scene) -> None:
    again = arrays(reconstruct(clip, model=model, size=128, batch_size=2))
    for name, values in arrays(scene).items():
        np.testing.assert_array_equal(again[name], values, err_msg=name)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_the_size_of_batches_changes_no_more_than_rounding(
    clip: np.ndarray, model: St4RTrack, scene: Scene, batch_size: int
) -> None:
    assert_nearly_equal(reconstruct(clip, model=model, size=128, batch_size=batch_size), scene)


@pytest.mark.parametrize("count", [1, 3])
def test_the_number_of_threads_changes_no_more_than_rounding(
    clip: np.ndarray, model: St4RTrack, scene: Scene, threads: None, count: int
) -> None:
    torch.set_num_threads(count)
    cv2.setNumThreads(count)
    assert_nearly_equal(reconstruct(clip, model=model, size=128, batch_size=2), scene)


def test_every_operation_has_a_kernel_that_adds_in_a_fixed_order(
    clip: np.ndarray, model: St4RTrack, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    try:
        use_deterministic_algorithms()
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
        found = reconstruct(clip, model=model, size=128, batch_size=2)  # an operation without one would raise
    finally:
        torch.use_deterministic_algorithms(False)
    np.testing.assert_array_equal(found.tracking.points_world, scene.tracking.points_world)


def test_a_scene_says_what_its_bits_depend_on(scene: Scene) -> None:
    computed = scene.info["results"]["computed"]
    assert computed["seed"] == 0 and computed["batch_size"] == 2 and computed["device"] == "cpu"
    assert computed["threads"] == torch.get_num_threads() and computed["torch"] == torch.__version__
