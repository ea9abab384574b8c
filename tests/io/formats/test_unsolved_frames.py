"""Exports, tracks and pictures of a scene with an unsolved frame."""

import logging
from pathlib import Path

import numpy as np
import pytest

from st4rtrack.formats import export
from st4rtrack.render.figure import chosen_frames
from st4rtrack.render.overview import render_overview
from st4rtrack.render.sample import read_points
from st4rtrack.scene import Scene
from st4rtrack.types import UserError
from tests.synthetic_scene import synthetic_scene

UNSOLVED = 2


@pytest.fixture
def scene() -> Scene:
    made = synthetic_scene(4, 12, 16)  # frame 2 is unsolved
    assert made.tracking.visible is not None
    made.tracking.visible[UNSOLVED] = True  # as scenes of earlier versions have it
    return made


def test_tracks_in_an_unsolved_frame_are_not_visible(scene: Scene) -> None:
    for frame in (None, 0, UNSOLVED):
        tracks = scene.tracks(np.array([[8.0, 12.0], [20.0, 18.0]]), frame=frame)
        assert not tracks.visible[UNSOLVED].any()
        assert tracks.visibility is None or not tracks.visibility[UNSOLVED].any()


def test_ply_leaves_an_unsolved_frame_out(scene: Scene, tmp_path: Path) -> None:
    for branch in ("reconstruction", "tracking"):
        folder = export(scene, tmp_path / branch, format="ply-sequence", branch=branch)
        assert sorted(path.name for path in folder.iterdir()) == [f"frame_{t:06d}.ply" for t in (0, 1, 3)]
    with pytest.raises(UserError, match="frame 2 is unsolved"):
        export(scene, tmp_path / "a.ply", frame=UNSOLVED)
    scene.reconstruction.points_world[UNSOLVED] = 1e6
    text = export(scene, tmp_path / "a.ply").read_bytes()
    scene.reconstruction.points_world[UNSOLVED] = -1e6
    assert export(scene, tmp_path / "b.ply").read_bytes() == text


def test_tapvid3d_has_the_interpolated_pose_no_visible_point_and_a_warning(
    scene: Scene, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        data = np.load(export(scene, tmp_path / "a.npz"))
    assert "1 of 4 frames are unsolved" in caplog.text
    assert not data["visibility"][UNSOLVED].any()
    assert data["visibility"][0].any()


def test_usd_warns_and_has_no_points_at_an_unsolved_time(scene: Scene, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    usd = pytest.importorskip("pxr.Usd")
    with caplog.at_level(logging.WARNING):
        stage = usd.Stage.Open(str(export(scene, tmp_path / "a.usda")))
    assert "1 of 4 frames are unsolved" in caplog.text
    assert stage.GetPrimAtPath("/World/tracking").GetAttribute("points").GetTimeSamples() == [0.0, 1.0, 3.0]
    assert stage.GetPrimAtPath("/World/camera").GetAttribute("xformOp:transform").GetTimeSamples() == [0.0, 1.0, 2.0, 3.0]


def test_pictures_do_not_draw_points_of_an_unsolved_frame(scene: Scene) -> None:
    assert np.isnan(read_points(scene, scene.reconstruction, UNSOLVED)).all()
    assert np.isfinite(read_points(scene, scene.reconstruction, 0)).all()
    assert chosen_frames(scene, 4, None) == [0, 1, 3]
    scene.cameras.solved = np.array([False, True, False, False])
    assert chosen_frames(scene, 1, None) == [1]
    assert render_overview(scene, width=600).std() > 5
