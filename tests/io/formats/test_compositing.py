"""Camera, depth, masks and 2D tracks for compositing, read back as the tools read them."""

import csv
import json
import logging
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from st4rtrack.formats import export
from st4rtrack.geometry.transforms import rotation_from_quaternion
from st4rtrack.io.formats.camera_paths import zxy_angles
from st4rtrack.io.formats.common import OPENCV_FROM_OPENGL
from st4rtrack.io.formats.frames import at_constant_rate, every_nth
from st4rtrack.io.known.maps import read_exr_depth
from st4rtrack.scene import Scene
from st4rtrack.types import TrackingOverTime, UserError
from tests.io.formats.exact_scene import distorted, exact_scene, source_px

UNSOLVED = 4
VARIABLE_S = np.array([5.0, 5.04, 5.08, 5.2, 5.24, 5.28])
SHOWN = [0, 1, 2, 2, 3, 3, 4, 5]
"""Frames of `VARIABLE_S` at its 25 frames per second; 5.12 s shows the frame of 5.08 s, 5.16 s that of 5.2 s."""


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    made = exact_scene(tmp_path)
    made.cameras.solved[UNSOLVED] = False
    made.cameras.intrinsics[3:, :2] *= 1.25
    return made


def rotation(axis: int, degrees: float) -> np.ndarray:
    return cv2.Rodrigues(np.eye(3)[axis] * np.radians(degrees))[0]


def read_chan(path: Path) -> dict[int, tuple[np.ndarray, float]]:
    """World-from-camera in OpenCV axes and vertical field of view by frame; a camera turns about z, then x, then y."""
    cameras = {}
    for frame, tx, ty, tz, rx, ry, rz, field_of_view in np.loadtxt(path, ndmin=2):
        pose = np.eye(4)
        pose[:3, :3] = rotation(1, ry) @ rotation(0, rx) @ rotation(2, rz)
        pose[:3, 3] = tx, ty, tz
        cameras[int(frame)] = OPENCV_FROM_OPENGL @ pose @ OPENCV_FROM_OPENGL, field_of_view
    return cameras


def test_chan_read_back_has_the_cameras_of_the_scene(scene: Scene, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        cameras = read_chan(export(scene, tmp_path / "a.chan", first_frame=1001))
    assert "principal point" in caplog.text
    assert list(cameras) == [1001, 1002, 1003, 1004, 1006]
    for number, (pose, field_of_view) in cameras.items():
        frame = number - 1001
        np.testing.assert_allclose(pose, scene.cameras.world_from_camera[frame], atol=1e-9)
        focal_px = scene.cameras.intrinsics[frame, 1, 1] / scene.pixel_map.scale[1]
        assert scene.source_size[0] / 2 / np.tan(np.radians(field_of_view) / 2) == pytest.approx(focal_px)


@given(st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda q: np.linalg.norm(q) > 0.1))
def test_zxy_angles_of_any_rotation_give_it_back(quaternion: list[float]) -> None:
    turned = rotation_from_quaternion(np.array(quaternion))
    x, y, z = zxy_angles(turned[None])[0]
    np.testing.assert_allclose(rotation(1, y) @ rotation(0, x) @ rotation(2, z), turned, atol=1e-6)


def test_zxy_angles_beyond_half_a_turn_are_continuous() -> None:
    turns = np.stack([rotation(1, degrees) for degrees in range(0, 720, 20)])
    np.testing.assert_allclose(zxy_angles(turns)[:, 1], range(0, 720, 20), atol=1e-6)


def expected_depth(scene: Scene, frame: int) -> np.ndarray:
    """z-depth of the plane at the centres of the source pixels inside the network's crop, 0 outside; slow and independent."""
    height, width = scene.source_size
    pose = scene.cameras.world_from_camera[frame]
    depth = np.zeros((height, width))
    for row in range(height):
        for column in range(width):
            u, v = np.floor(scene.pixel_map.network_from_source(np.array([column + 0.5, row + 0.5]))) + 0.5
            if 0 < u < scene.rgb.shape[2] and 0 < v < scene.rgb.shape[1]:
                point = scene.reconstruction.points_world[frame, int(v), int(u)]
                depth[row, column] = (np.linalg.inv(pose) @ [*point, 1])[2]
    assert 0.5 < (depth > 0).mean() < 1
    return depth


def test_exr_has_the_depth_and_the_mask_of_each_solved_frame(scene: Scene, tmp_path: Path) -> None:
    openexr = pytest.importorskip("OpenEXR")
    folder = export(scene, tmp_path / "a", format="exr")
    assert [path.name for path in sorted(folder.iterdir())] == [f"frame_{n:06d}.exr" for n in (1, 2, 3, 4, 6)]
    for number in (1, 2, 6):
        path = folder / f"frame_{number:06d}.exr"
        np.testing.assert_allclose(read_exr_depth(path), expected_depth(scene, number - 1), rtol=1e-6)
        image = openexr.File(str(path), separate_channels=True)
        assert image.channels()["Z"].pixels.dtype == np.float32
        assert image.header()["time_s"] == pytest.approx(scene.time_s[number - 1])
        assert "not metres" in image.header()["comments"]
    mask = openexr.File(str(folder / "frame_000002.exr"), separate_channels=True).channels()["mask.a"].pixels
    u, v = np.floor(scene.pixel_map.source_from_network(np.array([7.5, 11.5]))).astype(int)
    assert mask.shape == scene.source_size and mask[v, u] == 1 and mask[0, 0] == 0
    assert set(np.unique(mask)) == {0, 1}


def test_distorted_video_has_depth_in_source_pixels_and_an_undistorted_camera(scene: Scene, tmp_path: Path) -> None:
    plain, scene = scene, distorted(scene, "opencv", -0.12, 0.02)
    folder = export(scene, tmp_path / "a", format="png")
    per_unit = json.loads((folder / "depth.json").read_text())["depth_per_unit"]
    depth = cv2.imread(str(folder / "depth" / "frame_000001.png"), cv2.IMREAD_UNCHANGED)
    assert depth is not None
    expected = np.rint(expected_depth(scene, 0) * per_unit).clip(0, 65535)
    np.testing.assert_allclose(depth, expected, atol=1)
    assert (expected_depth(plain, 0) != expected_depth(scene, 0)).any()
    _, field_of_view = read_chan(export(scene, tmp_path / "a.chan"))[1]
    assert field_of_view == read_chan(export(plain, tmp_path / "b.chan"))[1][1]


def test_png_depth_times_its_scale_is_the_depth(scene: Scene, tmp_path: Path) -> None:
    folder = export(scene, tmp_path / "a", format="png")
    described = json.loads((folder / "depth.json").read_text())
    assert [entry["frame"] for entry in described["frames"]] == [1, 2, 3, 4, 6]
    for entry in described["frames"]:
        frame = entry["frame"] - 1
        stored = cv2.imread(str(folder / "depth" / f"frame_{entry['frame']:06d}.png"), cv2.IMREAD_UNCHANGED)
        assert stored is not None and stored.dtype == np.uint16
        expected = expected_depth(scene, frame).clip(0, described["farthest"])
        np.testing.assert_allclose(stored / described["depth_per_unit"], expected, atol=0.51 / described["depth_per_unit"])
        assert entry["time_s"] == pytest.approx(scene.time_s[frame])
        mask = cv2.imread(str(folder / "mask" / f"frame_{entry['frame']:06d}.png"), cv2.IMREAD_UNCHANGED)
        assert mask is not None and set(np.unique(mask)) == {0, 255}


def test_png_of_a_scene_without_motion_has_no_masks(scene: Scene, tmp_path: Path) -> None:
    scene.tracking.moving = None
    assert not (export(scene, tmp_path / "a", format="png") / "mask").exists()


def read_csv(path: Path) -> list[dict[str, float]]:
    with path.open(newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def test_csv_has_the_projection_of_each_track(scene: Scene, tmp_path: Path) -> None:
    rows = read_csv(export(scene, tmp_path / "a.csv", max_tracks=20))
    assert {row["frame"] for row in rows} == {1, 2, 3, 4, 6}
    anchor = {row["track"]: (row["u"], row["v"]) for row in rows if row["frame"] == scene.anchor_index + 1}
    for row in rows:
        frame = int(row["frame"]) - 1
        column, pixel_row = np.floor(scene.pixel_map.network_from_source(np.array(anchor[row["track"]]))).astype(int)
        point = scene.tracking.points_world[frame, pixel_row, column]
        np.testing.assert_allclose([row["u"], row["v"]], source_px(scene, frame, point[None])[0], atol=1e-3)
        assert row["time"] == pytest.approx(scene.time_s[frame], abs=1e-6)
        height, width = scene.source_size
        inside = 0 <= row["u"] < width and 0 <= row["v"] < height
        assert bool(row["visible"]) == (inside and scene.tracking.visible[frame, pixel_row, column])


def test_csv_of_query_points_starts_at_the_queries(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "points.csv").write_text("u,v,frame\n20,30,1\n25.5,22.25,1\n")
    rows = read_csv(export(scene, tmp_path / "a.csv", queries=tmp_path / "points.csv"))
    at_query = [(row["u"], row["v"]) for row in rows if row["frame"] == 2]
    np.testing.assert_allclose(at_query, [(20, 30), (25.5, 22.25)], atol=0.05)
    (tmp_path / "points.csv").write_text("u,v\n2000,30\n")
    with pytest.raises(UserError, match="1 of 1 queries lie outside"):
        export(scene, tmp_path / "b.csv", queries=tmp_path / "points.csv")


def expected_curves(scene: Scene, path: Path, **options: int) -> list[dict[int, tuple[float, float]]]:
    """Frame to (u, v) where visible, per track, from the CSV that the test above checks."""
    curves: dict[float, dict[int, tuple[float, float]]] = {}
    for row in read_csv(export(scene, path, **options)):
        if row["visible"]:
            curves.setdefault(row["track"], {})[int(row["frame"])] = (row["u"], row["v"])
    return list(curves.values())


def test_after_effects_keyframes_are_the_tracks(scene: Scene, tmp_path: Path) -> None:
    folder = export(scene, tmp_path / "a", format="after-effects", max_tracks=10)
    expected = expected_curves(scene, tmp_path / "a.csv", max_tracks=10)
    files = sorted(folder.glob("track_*.txt"))
    assert len(files) >= len(expected) > 2
    curves = []
    for file in files:
        text = file.read_bytes().decode("ascii")
        lines = text.split("\r\n")
        assert lines[0] == "Adobe After Effects 8.0 Keyframe Data" and "End of Keyframe Data" in lines
        assert "\tUnits Per Second\t30" in lines and f"\tSource Height\t{scene.source_size[0]}" in lines
        rows = [line.split("\t")[1:4] for line in lines[lines.index("Transform\tPosition") + 2 :] if line.startswith("\t")]
        curves.append({int(frame) + 1: (float(x), float(y)) for frame, x, y in rows})
    assert [curve for curve in curves if curve] == expected


def braces(text: str) -> list:
    """Nested lists of words of a Tcl list, which a Nuke script is."""
    stack: list[list] = [[]]
    for word in text.replace("{", " { ").replace("}", " } ").split():
        if word == "{":
            stack.append([])
        elif word == "}":
            done = stack.pop()
            stack[-1].append(done)
        else:
            stack[-1].append(word)
    assert len(stack) == 1
    return stack[0]


def test_nuke_tracker_has_31_columns_and_the_tracks_from_the_bottom(scene: Scene, tmp_path: Path) -> None:
    name, node = braces(export(scene, tmp_path / "a.nk", max_tracks=10, first_frame=1).read_text())
    size, columns, rows = node[node.index("tracks") + 1]
    expected = expected_curves(scene, tmp_path / "a.csv", max_tracks=10)
    assert name == "Tracker4" and size == ["1", "31", str(len(expected))] and len(columns) == 31
    names = [column[3] for column in columns]
    assert names[:4] == ["enable", "name", "track_x", "track_y"] and names[-1] == "key_centre_offset_y"
    height = scene.source_size[0]
    for row, curve in zip(rows, expected, strict=True):
        assert len(row) == 31 and row[2][0] == row[3][0] == "curve"
        keys = [(int(row[2][k][1:]), float(row[2][k + 1]), float(row[3][k + 1])) for k in range(1, len(row[2]), 2)]
        assert [key[0] for key in keys] == list(curve)
        np.testing.assert_allclose([(x, height - y) for _, x, y in keys], list(curve.values()), atol=2e-4)


def test_3de_text_has_the_tracks_from_the_bottom(scene: Scene, tmp_path: Path) -> None:
    lines = export(scene, tmp_path / "a_3de.txt", max_tracks=10).read_text().splitlines()
    expected = expected_curves(scene, tmp_path / "a.csv", max_tracks=10)
    curves, at = [], 1
    for _ in range(int(lines[0])):
        count = int(lines[at + 2])
        assert lines[at].startswith("track_") and lines[at + 1] == "0"
        rows = [line.split() for line in lines[at + 3 : at + 3 + count]]
        curves.append({int(frame): (float(x), scene.source_size[0] - float(y)) for frame, x, y in rows})
        at += 3 + count
    assert at == len(lines)
    for curve, reference in zip([curve for curve in curves if curve], expected, strict=True):
        np.testing.assert_allclose(list(curve.values()), list(reference.values()), atol=2e-4)


def test_variable_frame_rate_shows_the_nearest_frame_at_each_time(tmp_path: Path) -> None:
    pytest.importorskip("OpenEXR")
    scene = replace(exact_scene(tmp_path), time_s=VARIABLE_S)
    _, shown, rate = at_constant_rate(scene)
    assert rate == pytest.approx(25) and shown.tolist() == SHOWN
    cameras = read_chan(export(scene, tmp_path / "a.chan"))
    assert list(cameras) == list(range(1, 9))
    for number, (pose, _) in cameras.items():
        np.testing.assert_allclose(pose, scene.cameras.world_from_camera[SHOWN[number - 1]], atol=1e-9)
    folder = export(scene, tmp_path / "a", format="exr")
    np.testing.assert_allclose(read_exr_depth(folder / "frame_000005.exr"), expected_depth(scene, SHOWN[4]), rtol=1e-6)
    times = {row["frame"]: row["time"] for row in read_csv(export(scene, tmp_path / "a.csv"))}
    np.testing.assert_allclose(list(times.values()), VARIABLE_S[SHOWN], atol=1e-6)


@pytest.mark.parametrize(("rate", "digits"), [(30000 / 1001, 3), (24, 3), (23.976, 9), (12.5, 9), (10, 3)])
def test_constant_frame_rate_keeps_every_frame_and_finds_the_rate(tmp_path: Path, rate: float, digits: int) -> None:
    scene = replace(exact_scene(tmp_path, 12), time_s=np.round(2 + np.arange(12) / rate, digits))
    same, shown, measured = at_constant_rate(scene)
    assert same is scene and shown.tolist() == list(range(12)) and measured == pytest.approx(rate, rel=1e-4)


def test_anchor_frame_is_always_among_the_output_frames(tmp_path: Path) -> None:
    time_s = np.array([0.0, 0.1, 0.104, 0.2, 0.3, 0.4])
    scene, shown, _ = at_constant_rate(replace(exact_scene(tmp_path, anchor_index=2), time_s=time_s))
    assert shown[scene.anchor_index] == 2 and (np.diff(shown) >= 0).all()


def test_stride_selects_the_motion_masks_and_the_further_anchors(scene: Scene) -> None:
    image = scene.rgb.shape[:3]
    scene.reconstruction.moving = np.arange(6).reshape(-1, 1, 1) * np.ones(image, int) % 3 == 0
    scene.anchors = {3: TrackingOverTime(scene.tracking.points_world, scene.tracking.confidence, visible=scene.tracking.visible)}
    chosen = every_nth(scene, 2)
    assert [bool(np.asarray(chosen.reconstruction.moving[t]).all()) for t in range(3)] == [False, True, False]
    assert list(chosen.anchors) == [1] and len(chosen.anchors[1].points_world) == 3
    chosen.tracks(np.array([[20.0, 30.0]]), frame=2)
