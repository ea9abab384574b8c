"""Export of a range of frames and of one anchor."""

import dataclasses

import numpy as np
import pytest

from st4rtrack.formats import export
from st4rtrack.io.formats.frames import frame_range, of_anchor
from st4rtrack.scene import Scene
from st4rtrack.types import UserError
from tests.io.formats.exact_scene import exact_scene


def test_export_range_in_seconds_and_numbers_gives_the_same_times(tmp_path) -> None:
    scene = exact_scene(tmp_path)  # six frames, 30 per second
    scene.info["source"] |= {"first_frame": 10, "last_frame": 15}
    export(scene, tmp_path / "a.txt", start=12, stop=14)
    export(scene, tmp_path / "b.txt", start=f"{scene.time_s[2]}s", stop=f"{scene.time_s[4]}s")
    times = np.loadtxt(tmp_path / "a.txt")[:, 0]
    np.testing.assert_allclose(times, scene.time_s[2:4])
    assert (tmp_path / "a.txt").read_text() == (tmp_path / "b.txt").read_text()


@pytest.mark.parametrize(
    ("start", "stop", "message"),
    [(4, 4, "no frame from 4 to before 4"), (9, None, "no frame from 9 to the end"), ("x", None, "start must be a frame")],
)
def test_export_range_without_frames_is_refused(tmp_path, start, stop, message) -> None:
    with pytest.raises(UserError, match=message):
        export(exact_scene(tmp_path), tmp_path / "a.txt", start=start, stop=stop)


def with_second_anchor(scene: Scene) -> Scene:
    shifted = np.asarray(scene.tracking.points_world) + np.float32(0.5)
    return dataclasses.replace(scene, anchors={4: dataclasses.replace(scene.tracking, points_world=shifted)})


def test_export_range_without_the_anchor_of_the_tracks_names_another(tmp_path) -> None:
    scene = with_second_anchor(exact_scene(tmp_path))
    with pytest.raises(UserError, match="choose --anchor 4"):
        export(scene, tmp_path / "a.npz", format="tapvid3d", start=3)
    export(scene, tmp_path / "a.npz", format="tapvid3d", start=3, anchor=4)
    data = np.load(tmp_path / "a.npz")
    assert data["tracks_XYZ"].shape[0] == 3 and set(data["queries_xyt"][:, 2]) == {1}
    with pytest.raises(UserError, match="frame 3 is no anchor of this scene; choose one of: 1, 4"):
        export(scene, tmp_path / "b.npz", format="tapvid3d", anchor=3)
    with pytest.raises(UserError, match="tum has no tracks"):
        export(scene, tmp_path / "a.txt", anchor=4)


def test_selected_anchor_and_range_keep_world_and_tracks(tmp_path) -> None:
    scene = with_second_anchor(exact_scene(tmp_path))
    chosen = frame_range(of_anchor(scene, 4), 3, None, with_anchor=True)
    assert len(chosen) == 3 and chosen.anchor_index == 1
    np.testing.assert_array_equal(chosen.cameras.world_from_camera[:], scene.cameras.world_from_camera[3:])
    np.testing.assert_array_equal(chosen.tracking.points_world[1], scene.anchors[4].points_world[4])
    assert (chosen.info["source"]["first_frame"], chosen.info["source"]["last_frame"]) == (3, 5)
