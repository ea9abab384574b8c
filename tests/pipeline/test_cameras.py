"""Poses and visibility of unsolved frames of an unfinished scene."""

import numpy as np
import pytest

from st4rtrack.geometry.transforms import interpolate_rigid, rigid, rotation_angle
from st4rtrack.io.scene import SceneBuffer, SceneHeader
from st4rtrack.pipeline.cameras import hide_unsolved
from tests.io.scene.test_scene import frame_of, header_of
from tests.synthetic_scene import synthetic_scene


def test_interpolate_rigid_is_slerp_and_linear() -> None:
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    middle = interpolate_rigid(np.eye(4), rigid(turn, np.array([2.0, 0, 4])), 0.25)
    assert np.rad2deg(rotation_angle(middle[:3, :3])) == pytest.approx(22.5)
    np.testing.assert_allclose(middle[:3, 3], [0.5, 0, 1])


def test_hide_unsolved_interpolates_between_and_repeats_beyond_solved_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    scene = synthetic_scene(num_frames=6)
    solved = np.array([False, True, False, False, True, False])
    header: SceneHeader = header_of(scene)
    sink = SceneBuffer(header)
    for t in range(6):
        sink.write_frame(t, **{**frame_of(scene, t), "solved": solved[t]})
    assert hide_unsolved(sink).tolist() == [0, 2, 3, 5]
    monkeypatch.setattr(sink, "_store", lambda *_: pytest.fail("a frame was written that was right already"))
    assert hide_unsolved(sink).tolist() == [0, 2, 3, 5]  # a resumed run does it again
    made = sink.finish()
    x = np.asarray(made.cameras.world_from_camera)[:, 0, 3]
    np.testing.assert_allclose(x, [0.0, 0.0, 0.1, 0.2, 0.3, 0.3], atol=1e-12)
    assert not np.any(np.asarray(made.tracking.visible)[~solved])
    assert not np.any(np.asarray(made.tracking.visibility)[~solved])
    np.testing.assert_array_equal(np.asarray(made.tracking.visible)[solved], np.asarray(scene.tracking.visible)[solved])
