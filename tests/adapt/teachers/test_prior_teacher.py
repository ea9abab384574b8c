"""Depth priors as teachers: depth of every frame, inverse depth inverted, cameras of the file kept."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from st4rtrack.adapt.teachers import open_teachers
from st4rtrack.adapt.teachers.words import PriorTeacher
from st4rtrack.hints.depth_prior import PriorDepth
from st4rtrack.hints.depth_prior.open import open_depth_prior
from st4rtrack.io.video import open_video
from st4rtrack.types import UserError
from tests.adapt.truth_teachers import UNUSED

RGB = np.zeros((3, 32, 48, 3), np.uint8)
DEPTH = np.random.default_rng(0).uniform(1, 2, RGB.shape[:3]).astype(np.float32)


class InversePrior:
    name = "inverse"

    def __call__(self, rgb: np.ndarray, index: int, focal_px: float | None = None) -> PriorDepth:
        values = np.array([[4.0, 2.0], [1e-5, 0.0]]) * (index + 1)
        return PriorDepth.of("inverse_depth", values, rgb, self.name)


def test_prior_teacher_inverse_depth_gives_depth_and_leaves_the_sky_unknown() -> None:
    found = PriorTeacher(InversePrior()).depth(RGB[:2, :2, :2], 0)
    np.testing.assert_allclose(found.depth, [[[0.25, 0.5], [0, 0]], [[0.125, 0.25], [0, 0]]])
    assert found.depth.dtype == np.float32 and found.world_from_camera is None


class DepthAnything:
    """Image processor and model, called as in the model card of Depth-Anything-V2-Small-hf (commit 32d0394)."""

    config = SimpleNamespace(model_type="depth_anything", depth_estimation_type="relative")

    @classmethod
    def from_pretrained(cls, folder: Path, **options: bool) -> "DepthAnything":
        assert options["local_files_only"] and not options["trust_remote_code"] and (folder / "config.json").is_file()
        return cls()

    def __call__(self, images: np.ndarray | None = None, return_tensors: str = "", pixel_values: Any = None) -> Any:
        if images is not None:
            assert images.shape == RGB.shape[1:] and return_tensors == "pt"
            return type("Inputs", (dict,), {"to": lambda self, device: self})(pixel_values=torch.zeros(1, 3, 14, 28))
        return {"predicted_depth": pixel_values[:, 0] + 4}

    def to(self, device: str) -> "DepthAnything":
        return self

    def eval(self) -> "DepthAnything":
        return self


def test_depth_anything_v2_small_is_the_same_provider_for_run_and_adapt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub_id = "depth-anything/Depth-Anything-V2-Small-hf"
    (tmp_path / "config.json").write_text("{}")
    hub = SimpleNamespace(hf_hub_download=None, snapshot_download=lambda repository, **_: {hub_id: str(tmp_path)}[repository])
    package = SimpleNamespace(AutoImageProcessor=DepthAnything, AutoModelForDepthEstimation=DepthAnything)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)  # pyright: ignore[reportArgumentType]
    monkeypatch.setitem(sys.modules, "transformers", package)  # pyright: ignore[reportArgumentType]
    prior, teacher = open_depth_prior(hub_id, open_video(RGB)), open_teachers("fused", hub_id, open_video(RGB), fused=UNUSED)[1]
    assert prior is not None and teacher is not None and prior.name == teacher.name
    found = prior(RGB[0], 0)
    assert found.kind == "inverse_depth" and (found.values == 4).all()
    np.testing.assert_allclose(teacher.depth(RGB, 0).depth, np.full(RGB.shape[:3], 0.25))


@pytest.mark.parametrize("frames", [[0, 1, 2], [2, 3, 4]])
def test_file_teacher_cameras_of_source_or_processed_frames_are_kept(tmp_path: Path, frames: list[int]) -> None:
    depth, cameras = np.zeros((5, *DEPTH.shape[1:])), np.tile(np.eye(4), (5, 1, 1))
    depth[frames] = DEPTH
    cameras[frames, 0, 3] = 1
    np.savez(tmp_path / "a.npz", depth=depth, world_from_camera=cameras)
    video = open_video(np.zeros((5, *RGB.shape[1:]), np.uint8), start=frames[0], stop=frames[-1] + 1)
    teacher = open_teachers("fused", str(tmp_path / "a.npz"), video, fused=UNUSED)[1]
    assert teacher is not None
    found = teacher.depth(RGB, 0)
    np.testing.assert_array_equal(found.depth, DEPTH)
    assert found.world_from_camera is not None
    np.testing.assert_array_equal(found.world_from_camera[:, 0, 3], 1)


def test_file_teacher_of_depth_anything_3_keeps_its_cameras(tmp_path: Path) -> None:
    camera_from_world = np.tile(np.eye(4)[:3], (3, 1, 1))
    camera_from_world[:, 0, 3] = -np.arange(3)
    np.savez(tmp_path / "results.npz", depth=DEPTH, extrinsics=camera_from_world, intrinsics=np.tile(np.eye(3), (3, 1, 1)))
    teacher = open_teachers("fused", str(tmp_path / "results.npz"), open_video(RGB), fused=UNUSED)[1]
    assert teacher is not None
    cameras = teacher.depth(RGB, 0).world_from_camera
    assert cameras is not None
    np.testing.assert_array_equal(cameras[:, 0, 3], np.arange(3))


def test_file_teacher_cameras_of_another_shape_raise(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", depth=DEPTH, world_from_camera=np.zeros((3, 4)))
    with pytest.raises(UserError, match=r"cameras of .*a\.npz must be numbers \[frames, 4, 4\]"):
        open_teachers("fused", str(tmp_path / "a.npz"), open_video(RGB), fused=UNUSED)
