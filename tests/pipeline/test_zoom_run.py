"""A zooming video through the whole pipeline: a focal length for each frame, and geometry that uses it."""

import numpy as np
import pytest

from st4rtrack.geometry.camera import project_world
from st4rtrack.pipeline.reconstruct import reconstruct
from tests.cases import clips


@pytest.mark.slow
def test_reconstruct_zoom_of_fixed_camera_gives_focal_length_per_frame() -> None:
    clip = clips.zoom(clips.Look(seed=1, frames=12), 1.5)
    scene = reconstruct(clip.rgb, size=128)
    assert scene.solved_frames.all()
    intrinsics, cameras = np.asarray(scene.cameras.intrinsics), np.asarray(scene.cameras.world_from_camera)
    truth = clip.intrinsics[:, 0, 0] / clip.intrinsics[0, 0, 0]
    np.testing.assert_allclose(intrinsics[:, 0, 0] / intrinsics[0, 0, 0], truth, rtol=0.01)
    np.testing.assert_allclose(cameras[:, :3, 3], 0, atol=1e-9)
    points = np.asarray(scene.reconstruction.points_world[-1])[20:-20:10, 20:-20:10].reshape(-1, 3)  # on the rays of their pixels
    height, width = scene.rgb.shape[1:3]
    v, u = np.mgrid[20 : height - 20 : 10, 20 : width - 20 : 10] + 0.5
    pixels, _ = project_world(points, cameras[-1], intrinsics[-1])
    np.testing.assert_allclose(pixels, np.stack([u, v], -1).reshape(-1, 2), atol=0.05)
    assert [warning.code for warning in scene.quality.warnings if warning.serious] == []


@pytest.mark.slow
def test_reconstruct_zoom_none_leaves_zooming_frames_unsolved() -> None:
    clip = clips.zoom(clips.Look(seed=1, frames=12), 1.5)
    scene = reconstruct(clip.rgb, size=128, zoom="none")
    assert not scene.solved_frames[1:].any()
    assert "zoom" in [warning.code for warning in scene.quality.warnings]
