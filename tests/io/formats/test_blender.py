"""The Blender folder: its data, the script without Blender and, where an interpreter with bpy is named, Blender itself."""

import json
import os
import runpy
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from st4rtrack.formats import export
from st4rtrack.io.formats import blender_script
from st4rtrack.scene import Scene
from tests.io.formats.exact_scene import exact_scene, source_px
from tests.io.formats.test_compositing import SHOWN, VARIABLE_S

UNSOLVED = 4
BPY_PYTHON = "ST4RTRACK_BPY_PYTHON"
"""Environment variable with the path of a Python interpreter that has the package bpy, which is Blender."""
BLENDER_FROM_OPENCV = np.array([[1.0, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0], [0, 0, 0, 1]])


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    made = exact_scene(tmp_path)
    made.cameras.solved[UNSOLVED] = False
    made.cameras.intrinsics[3:, :2] *= 1.25
    made.reconstruction.moving = np.broadcast_to(made.tracking.moving, made.rgb.shape[:3]).copy()
    return made


def data_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "scene.json").read_text())


def track_pixels(scene: Scene, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the anchor pixels whose tracks are in the folder."""
    points = np.load(folder / "tracks.npz")["points"]
    network_px = scene.pixel_map.network_from_source(source_px(scene, scene.anchor_index, points))
    column, row = np.floor(network_px).astype(int).T
    return row, column


def test_positions_over_time_are_the_tracking(scene: Scene, tmp_path: Path) -> None:
    folder = export(scene, tmp_path / "a", format="blender", max_tracks=50)
    row, column = track_pixels(scene, folder)
    positions = blender_script.read_pc2(folder / "tracks.pc2")
    assert positions.shape[0] == len(scene) and 20 < positions.shape[1] <= 50
    for frame in range(len(scene)):
        wanted = scene.tracking.points_world[3 if frame == UNSOLVED else frame, row, column]
        np.testing.assert_allclose(positions[frame], wanted, atol=1e-6)
    tracks = np.load(folder / "tracks.npz")
    assert (tracks["colours"] == scene.rgb[scene.anchor_index, row, column]).all()
    assert tracks["markers_visible"].any(axis=1).tolist() == [frame != UNSOLVED for frame in range(len(scene))]


def test_clouds_of_the_frames_are_dynamic_and_the_static_cloud_is_not(scene: Scene, tmp_path: Path) -> None:
    folder = export(scene, tmp_path / "a", format="blender", max_points=500, max_frame_points=25)
    static = np.load(folder / "static.npz")["points"]
    moving = np.asarray(scene.reconstruction.moving)
    assert 300 < len(static) <= 500
    solved = np.array([frame != UNSOLVED for frame in range(len(scene))])
    known = {tuple(point) for point in scene.reconstruction.points_world[~moving & solved[:, None, None]]}
    assert {tuple(point) for point in static} <= known
    for frame in range(len(scene)):
        path = folder / "clouds" / f"frame_{frame + 1:06d}.npz"
        assert path.exists() == (frame != UNSOLVED)
        if path.exists():
            cloud = np.load(path)["points"]
            known = {tuple(point) for point in scene.reconstruction.points_world[frame, moving[frame]]}
            assert 0 < len(cloud) <= 25 and {tuple(point) for point in cloud} <= known


def test_frame_clouds_without_motion_masks_hold_all_points(scene: Scene, tmp_path: Path) -> None:
    scene.reconstruction.moving = None
    folder = export(scene, tmp_path / "a", format="blender")
    assert not (folder / "static.npz").exists()
    assert len(np.load(folder / "clouds" / "frame_000001.npz")["points"]) > 0.7 * scene.rgb[0, ..., 0].size


def test_an_overwriting_export_leaves_no_frame_of_a_longer_one(scene: Scene, tmp_path: Path) -> None:
    folder = export(scene, tmp_path / "a", format="blender")
    (folder / "shot.blend").touch()
    export(scene, folder, format="blender", stride=3, overwrite=True)
    assert {path.name for path in (folder / "images").iterdir()} == {"frame_000001.jpg", "frame_000002.jpg"}
    assert {path.name for path in (folder / "clouds").iterdir()} <= {"frame_000001.npz", "frame_000002.npz"}
    assert (folder / "shot.blend").exists()


def test_every_frame_of_a_variable_frame_rate_shows_the_nearest_image(scene: Scene, tmp_path: Path) -> None:
    folder = export(replace(scene, time_s=VARIABLE_S), tmp_path / "a", format="blender")
    data = data_of(folder)
    assert data["num_frames"] == len(SHOWN) and data["frames_per_second"] == pytest.approx(25)
    assert data["time_s"] == pytest.approx(VARIABLE_S[SHOWN])
    assert data["camera_frames"] == [k + 1 for k, frame in enumerate(SHOWN) if frame != UNSOLVED]
    for number, frame in enumerate(SHOWN, 1):
        image = cv2.imread(str(folder / "images" / f"frame_{number:06d}.jpg"))
        source = cv2.imread(str(tmp_path / "video" / f"{frame:03d}.png"))
        assert image is not None and source is not None
        assert np.abs(image.astype(float) - source).mean() < 6
    row, column = track_pixels(scene, folder)
    positions = blender_script.read_pc2(folder / "tracks.pc2")
    np.testing.assert_allclose(positions[-1], scene.tracking.points_world[5, row, column], atol=1e-6)


@pytest.mark.parametrize("rate", [30000 / 1001, 25.0, 12.345, 0.25])
def test_fps_and_base_give_the_frame_rate(rate: float) -> None:
    fps, base = blender_script.fps_and_base(rate)
    assert isinstance(fps, int) and fps >= 1 and fps / base == pytest.approx(rate)


@pytest.mark.parametrize("fy", [190.0, 210.0])
def test_lens_shift_and_pixel_aspect_are_those_of_the_intrinsics(fy: float) -> None:
    """Blender's film back: an image plane at the focal length, `sensor` wide, shifted by a share of its width."""
    width, height, intrinsics = 320, 200, [[200.0, 0, 170.0], [0, fy, 90.0], [0, 0, 1]]
    lens, shift_x, shift_y = blender_script.lens_and_shift(intrinsics, width, height)
    aspect_x, aspect_y = blender_script.pixel_aspect(intrinsics)
    assert min(aspect_x, aspect_y) == 1.0  # the minimum that Blender accepts
    x, y, z = 0.3, -0.2, 1.7
    pixel_mm = blender_script.SENSOR_WIDTH / width
    right = lens * x / z / pixel_mm - shift_x * width
    up = (lens * -y / z / pixel_mm - shift_y * width) / (aspect_y / aspect_x)
    expected = intrinsics[0][0] * x / z + intrinsics[0][2], intrinsics[1][1] * y / z + intrinsics[1][2]
    assert (width / 2 + right, height / 2 - up) == pytest.approx(expected)


def test_script_in_the_folder_runs_without_blender_up_to_its_import(scene: Scene, tmp_path: Path) -> None:
    folder = export(scene, tmp_path / "a", format="blender")
    names = runpy.run_path(str(folder / "import_scene.py"))
    assert names["bpy"] is None and names["fps_and_base"](24) == (24, 1.0)
    assert "st4rtrack." not in (folder / "import_scene.py").read_text()


def in_blender(folder: Path, picture: Path) -> dict[str, Any]:
    python = os.environ.get(BPY_PYTHON)
    if not python:
        pytest.skip(f"{BPY_PYTHON} names no Python interpreter with the package bpy (pip install bpy==5.0.1, Python 3.11)")
    script = Path(__file__).with_name("blender_check.py")
    done = subprocess.run([python, script, folder, picture], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.split("RESULT ", 1)[1].splitlines()[0])


@pytest.mark.slow
@pytest.mark.parametrize(
    "change", [lambda scene: scene, lambda scene: replace(scene, time_s=VARIABLE_S)], ids=["constant", "variable"]
)
def test_blender_sees_what_the_scene_sees(scene: Scene, tmp_path: Path, change: Callable[[Scene], Scene]) -> None:
    scene = change(scene)
    folder = export(scene, tmp_path / "a", format="blender", max_tracks=50)
    shown = SHOWN if data_of(folder)["num_frames"] == len(SHOWN) else list(range(len(scene)))
    found = in_blender(folder, tmp_path / "picture.png")
    assert found["range"] == [1, len(shown)] and found["clip_frames"] == len(shown)
    assert found["frames_per_second"] == pytest.approx(25 if len(shown) > len(scene) else 30)
    assert found["background"] == ["frame_000001.jpg", "SEQUENCE", len(shown)]
    assert found["keys"] == [number for number, frame in enumerate(shown, 1) if frame != UNSOLVED]
    row, column = track_pixels(scene, folder)
    tracks = np.load(folder / "tracks.npz")
    height, width = scene.source_size
    for number, frame in enumerate(shown, 1):
        seen = found["frames"][str(number)]
        assert seen["clouds"] == ([] if frame == UNSOLVED else [f"frame_{number:06d}"])
        if frame == UNSOLVED:
            assert all(mute for *_, mute in seen["markers"].values())
            continue
        pose = BLENDER_FROM_OPENCV @ scene.cameras.world_from_camera[frame] @ np.diag([1.0, -1.0, -1.0, 1.0])
        np.testing.assert_allclose(seen["camera"], pose, atol=1e-6)
        expected = source_px(scene, frame, scene.tracking.points_world[frame, row, column])
        np.testing.assert_allclose(seen["tracks_px"], expected, atol=1e-3)
        for name, (u, v, mute) in seen["markers"].items():
            track = int(name.split("_")[1])
            assert mute != tracks["markers_visible"][number - 1, track]
            if not mute:
                np.testing.assert_allclose((u * width, (1 - v) * height), tracks["markers_px"][number - 1, track], atol=1e-3)
    assert found["drawn"] == (0 if found["version"] < "5" else len(row))
    picture = cv2.imread(str(tmp_path / "picture.png"), cv2.IMREAD_UNCHANGED)
    assert picture is not None and picture.shape == (height, width, 4)
    v, u = np.nonzero(picture[..., 3] == 255)
    column, row = np.floor(scene.pixel_map.network_from_source(np.column_stack([u, v]) + 0.5)).astype(int).T
    difference = np.abs(picture[v, u, :3].astype(float) - scene.rgb[shown[1], row, column][:, ::-1])
    assert len(v) > 30 and np.median(difference) < 10
    assert (tmp_path / "picture.blend").stat().st_size > 100_000
