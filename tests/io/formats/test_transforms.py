"""nerfstudio's `transforms.json`, read as nerfstudio reads it: files relative to it, OpenGL cameras."""

import json

import cv2
import numpy as np
import pytest

from st4rtrack.io.formats.posed_images import write_transforms
from st4rtrack.io.scene import load_scene, save_scene
from st4rtrack.types import UserError
from tests.io.formats.exact_scene import SOURCE_SIZE, distorted, exact_scene, source_px


def seen_by_opengl(content: dict, entry: dict, points_world: np.ndarray) -> np.ndarray:
    """Pixels of points in an OpenGL camera: the picture's y points down, the camera's up, and it looks along -z."""
    camera = np.linalg.inv(np.array(entry["transform_matrix"]))
    x, y, z = camera[:3, :3] @ points_world.T + camera[:3, 3:]
    k = content | entry
    return np.stack([k["fl_x"] * x / -z + k["cx"], k["fl_y"] * -y / -z + k["cy"]], axis=1)


def test_cameras_images_and_points(tmp_path) -> None:
    scene = exact_scene(tmp_path)
    write_transforms(scene, tmp_path / "transforms.json")
    content = json.loads((tmp_path / "transforms.json").read_text())
    assert (content["h"], content["w"]) == SOURCE_SIZE and len(content["frames"]) == len(scene)
    points = np.array([[0.1, -0.2, 3.0], [-0.4, 0.3, 2.5]])
    for frame, entry in enumerate(content["frames"]):
        matrix = np.array(entry["transform_matrix"]) @ np.diag([1, -1, -1, 1])
        np.testing.assert_allclose(matrix, scene.cameras.world_from_camera[frame], atol=1e-12)
        np.testing.assert_allclose(seen_by_opengl(content, entry, points), source_px(scene, frame, points), atol=1e-6)
        assert entry["time"] == pytest.approx(scene.time_s[frame])
        assert cv2.imread(str(tmp_path / entry["file_path"])).shape == (*SOURCE_SIZE, 3)
    trimesh = pytest.importorskip("trimesh")
    cloud = trimesh.load(tmp_path / content["ply_file_path"])
    assert 250 < len(cloud.vertices) < 16 * 24 * 2  # the wall once, not once per frame
    np.testing.assert_allclose(cloud.vertices[:, 2], 3.0, atol=4e-3)


def test_lens_distortion_is_written_with_the_source_images_and_survives_saving(tmp_path) -> None:
    scene = distorted(exact_scene(tmp_path), "opencv", -0.12, 0.02, 0.001, -0.002, 0.01)
    scene = load_scene(save_scene(scene, tmp_path / "scene"))
    write_transforms(scene, tmp_path / "transforms.json")
    content = json.loads((tmp_path / "transforms.json").read_text())
    assert [content[key] for key in ("camera_model", "k1", "k2", "p1", "p2", "k3")] == [
        "OPENCV",
        -0.12,
        0.02,
        0.001,
        -0.002,
        0.01,
    ]
    points = np.array([[0.1, -0.2, 3.0], [-0.4, 0.3, 2.5]])
    entry = content["frames"][2]
    ideal = (seen_by_opengl(content, entry, points) - (content["cx"], content["cy"])) / (content["fl_x"], content["fl_y"])
    camera = np.array([[content["fl_x"], 0, content["cx"]], [0, content["fl_y"], content["cy"]], [0, 0, 1]])
    coefficients = np.array([content[key] for key in ("k1", "k2", "p1", "p2", "k3")])
    seen = cv2.projectPoints(np.column_stack([ideal, [1, 1]]), np.zeros(3), np.zeros(3), camera, coefficients)[0][:, 0]
    np.testing.assert_allclose(seen, source_px(scene, 2, points), atol=1e-6)
    source = cv2.imread(str(tmp_path / "video" / "002.png")).astype(float)
    assert np.abs(cv2.imread(str(tmp_path / entry["file_path"])) - source).mean() < 4


def test_masks_hide_what_moves_and_nothing_else(tmp_path) -> None:
    scene = exact_scene(tmp_path)
    write_transforms(scene, tmp_path / "transforms.json")
    entries = json.loads((tmp_path / "transforms.json").read_text())["frames"]
    for frame in (scene.anchor_index, 3):
        mask = cv2.imread(str(tmp_path / entries[frame]["mask_path"]), cv2.IMREAD_UNCHANGED)
        assert mask.shape == SOURCE_SIZE and set(np.unique(mask)) == {0, 255}
        moving = scene.tracking.moving & scene.tracking.visible[frame]
        centre = source_px(scene, frame, scene.tracking.points_world[frame][moving].astype(float))
        column, row = np.floor(centre).astype(int).T
        assert (mask[row, column] == 0).all()
        depth = (scene.tracking.points_world[frame] @ scene.cameras.world_from_camera[frame, :3, 2])[moving].mean()
        depth -= scene.cameras.world_from_camera[frame, :3, 3] @ scene.cameras.world_from_camera[frame, :3, 2]
        expected = moving.sum() * (3 / depth) ** 2 / np.prod(scene.pixel_map.scale)  # in source pixels; nearer is larger
        assert (mask == 0).sum() == pytest.approx(expected, rel=0.3)


def test_without_knowledge_of_motion_there_are_no_masks(tmp_path) -> None:
    scene = exact_scene(tmp_path)
    scene.tracking.moving = None
    write_transforms(scene, tmp_path / "a.json")
    assert "mask_path" not in (tmp_path / "a.json").read_text()
    assert sorted(path.name for path in (tmp_path / "a_files").iterdir()) == ["images", "points.ply"]


def test_a_focal_length_that_changes_is_that_of_the_frame(tmp_path) -> None:
    scene = exact_scene(tmp_path)
    scene.cameras.intrinsics[3:, :2] *= 1.25
    write_transforms(scene, tmp_path / "a.json")
    content = json.loads((tmp_path / "a.json").read_text())
    points = np.array([[0.1, -0.2, 3.0]])
    assert "fl_x" not in content
    for frame, entry in enumerate(content["frames"]):
        np.testing.assert_allclose(seen_by_opengl(content, entry, points), source_px(scene, frame, points), atol=1e-6)


def test_a_scene_without_cameras(tmp_path) -> None:
    scene = exact_scene(tmp_path)
    scene.cameras.solved[:] = False
    with pytest.raises(UserError, match="no cameras"):
        write_transforms(scene, tmp_path / "a.json")


def test_masks_of_the_scene_are_written_as_they_are(tmp_path) -> None:
    scene = exact_scene(tmp_path)
    height, width = scene.rgb.shape[1:3]
    scene.reconstruction.moving = np.zeros((len(scene), height, width), bool)
    scene.reconstruction.moving[2, : height // 2] = True
    write_transforms(scene, tmp_path / "a.json")
    masks = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in sorted((tmp_path / "a_files" / "masks").iterdir())]
    assert [bool((mask == 0).any()) for mask in masks] == [frame == 2 for frame in range(len(scene))]
    centre = SOURCE_SIZE[1] // 2
    column = masks[2][:, centre]
    assert (np.diff((column == 0).astype(int)) != 0).sum() <= 2 and 0.3 < (column == 0).mean() < 0.7
