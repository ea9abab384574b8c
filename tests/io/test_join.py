"""Scenes of two cameras that film one dynamic scene, joined into one world."""

import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from st4rtrack.cli.view import _named
from st4rtrack.data import procedural
from st4rtrack.data.procedural import ProceduralClip, ProceduralConfig, procedural_clip
from st4rtrack.formats import export
from st4rtrack.geometry.camera import project_world
from st4rtrack.geometry.sampling import inside_image, nearest_pixel
from st4rtrack.geometry.transforms import rigid
from st4rtrack.io.join import join_scenes
from st4rtrack.io.scene import load_scene, save_scene
from st4rtrack.options import KnownGeometry
from st4rtrack.pipeline.reconstruct import reconstruct
from st4rtrack.scene import Scene
from st4rtrack.types import UserError
from st4rtrack.view.layers import SceneLayers
from st4rtrack.view.placement import place
from tests.conftest import Run
from tests.io.formats.test_ply import read_ply
from tests.synthetic import TruthNetwork
from tests.synthetic_scene import synthetic_scene

FRAMES = 4
MODEL_SCALE = 0.25
"""Units of the model of the cameras per metre."""
NETWORK_SCALE = {"left": 1.0, "right": 3.0}


def filmed(shift: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> tuple[ProceduralClip, np.ndarray]:
    """The clip of a camera that is moved by `shift` [4, 4] in its own frame, and its poses in the generator's world."""
    scenes = []
    sample = procedural.sample_scenes

    def sample_moved(*arguments, **options):
        found = sample(*arguments, **options)
        poses = found.world_from_camera @ found.world_from_camera.new_tensor(shift)
        scenes.append(dataclasses.replace(found, world_from_camera=poses))
        return scenes[-1]

    with monkeypatch.context() as patch:
        patch.setattr(procedural, "sample_scenes", sample_moved)
        clip = procedural_clip(1, ProceduralConfig(height=96, width=128, num_frames=FRAMES, setting="room"))
    return clip, scenes[0].world_from_camera[0].numpy()


@pytest.fixture(scope="module")
def two_cameras(tmp_path_factory) -> tuple[Path, dict[str, ProceduralClip]]:
    """A folder with the scenes `left` and `right`, whose cameras come from one transforms.json; and the clips."""
    folder, clips, entries = tmp_path_factory.mktemp("join"), {}, []
    turn, _ = cv2.Rodrigues(np.array([0.02, -0.15, 0.03]))
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name, shift in (("left", np.eye(4)), ("right", rigid(turn, np.array([0.4, 0.05, 0.1])))):
            clips[name], poses = filmed(shift, monkeypatch)
            (folder / f"{name}_images").mkdir()
            for frame, (rgb, pose) in enumerate(zip(clips[name].rgb, poses)):
                file = folder / f"{name}_images" / f"{name}_{frame:03d}.png"
                cv2.imwrite(str(file), rgb[..., ::-1])
                pose = np.vstack([np.column_stack([pose[:3, :3], MODEL_SCALE * pose[:3, 3]]), [0, 0, 0, 1]])
                entries.append({"file_path": file.name, "transform_matrix": (pose @ np.diag([1.0, -1, -1, 1])).tolist()})
    fx, fy, cx, cy = clips["left"].intrinsics[0][[0, 1, 0, 1], [0, 1, 2, 2]].tolist()
    model = {"fl_x": fx, "fl_y": fy, "cx": cx, "cy": cy, "w": 128, "h": 96, "frames": entries}
    (folder / "transforms.json").write_text(json.dumps(model))
    for name, clip in clips.items():
        points = (clip.tracking_points_world, clip.reconstruction_points_world)
        tracking, reconstruction = (NETWORK_SCALE[name] * values for values in points)
        network = TruthNetwork(
            dataclasses.replace(clip, tracking_points_world=tracking, reconstruction_points_world=reconstruction)
        )
        known = KnownGeometry(cameras=folder / "transforms.json")
        reconstruct(folder / f"{name}_images", model=network, size=128, output=folder / name, known=known)
    return folder, clips


def agreement(first: Scene, frame: int, points_world: np.ndarray) -> tuple[float, int]:
    """Median relative difference in depth of points [points, 3] and a frame's surface in its camera, and the points in view."""
    camera, intrinsics = first.cameras.world_from_camera[frame], first.cameras.intrinsics[frame]
    pixels_px, depth = project_world(points_world, camera, intrinsics)
    inside = inside_image(pixels_px, *first.rgb.shape[1:3])
    _, surface = project_world(np.asarray(first.reconstruction.points_world[frame], np.float64), camera, intrinsics)
    ratio = np.abs(surface[nearest_pixel(pixels_px[inside], *first.rgb.shape[1:3])] / depth[inside] - 1)
    return float(np.median(ratio)), int(inside.sum())


def test_joined_scenes_share_static_and_dynamic_surfaces(two_cameras, tmp_path) -> None:
    folder, clips = two_cameras
    written = join_scenes([folder / "left", folder / "right"], tmp_path / "out")
    assert [path.name for path in written] == ["left", "right", "joined.ply"]
    left, right = load_scene(written[0]), load_scene(written[1])
    np.testing.assert_array_equal(left.cameras.world_from_camera[0], np.eye(4))
    moved = right.cameras.world_from_camera[0]
    np.testing.assert_allclose(moved[:3, 3], MODEL_SCALE * np.array([0.4, 0.05, 0.1]), atol=1e-6)
    moving = clips["right"].moving
    assert moving.sum() > 50
    for frame in range(FRAMES):
        error, count = agreement(left, frame, right.reconstruction.points_world[frame].reshape(-1, 3))
        assert error < 0.01 and count > 3000, frame
        error, count = agreement(left, frame, right.tracking.points_world[frame][moving])
        assert error < 0.02 and count > 30, frame
    cloud = read_ply(tmp_path / "out" / "joined.ply")
    assert len(cloud["x"]) > 0.7 * 2 * FRAMES * 96 * 128


def test_joined_scenes_are_shown_in_one_place_and_exported(two_cameras, tmp_path) -> None:
    folder, _ = two_cameras
    written = join_scenes([folder / "left", folder / "right"], tmp_path / "out")[:2]
    joined = [SceneLayers(load_scene(path), path.name) for path in written]
    placements, _ = place(joined, [0, 1])
    assert placements[0] == placements[1]
    apart, _ = place([SceneLayers(load_scene(folder / name), name) for name in ("left", "right")], [0, 1])
    assert apart[0] != apart[1]
    export(written[1], tmp_path / "right.txt")
    row = np.loadtxt(tmp_path / "right.txt")[0]
    np.testing.assert_allclose(row[1:4], load_scene(written[1]).cameras.world_from_camera[0, :3, 3], atol=1e-9)


def test_join_twice_is_refused_and_overwritten_on_request(two_cameras, tmp_path) -> None:
    folders = [two_cameras[0] / "left", two_cameras[0] / "right"]
    join_scenes(folders, tmp_path / "out")
    with pytest.raises(UserError, match="already holds a scene"):
        join_scenes(folders, tmp_path / "out")
    join_scenes(folders, tmp_path / "out", overwrite=True)


def test_join_on_the_command_line_writes_scenes_that_view_finds(run: Run, tmp_path) -> None:
    for name in ("a", "b"):
        scene = synthetic_scene()
        scene.info |= {"known": {"cameras": "model"}, "results": {"units": "cameras", "known_from_world": np.eye(4).tolist()}}
        save_scene(scene, tmp_path / name)
    code, printed = run("join", "a", "b", "-o", "out")
    assert code == 0 and "wrote out/a" in printed and "st4rtrack view out" in printed
    assert list(_named(("out", "a"))) == ["out/a", "out/b", f"{tmp_path.name}/a"]
    code, printed = run("info", "out/b")
    assert "joined: one world with a, b" in printed
    assert run("join", "a", "-o", "out")[0] == 2


def test_join_of_a_scene_without_known_cameras_is_refused(tmp_path) -> None:
    for name in ("a", "b"):
        save_scene(synthetic_scene(), tmp_path / name)
    with pytest.raises(UserError, match="two or more scenes"):
        join_scenes([tmp_path / "a"], tmp_path / "out")
    with pytest.raises(UserError, match="the pose of a in a common world is unknown"):
        join_scenes([tmp_path / "a", tmp_path / "b"], tmp_path / "out")
