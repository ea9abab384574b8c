"""COLMAP folders, read back by pycolmap."""

import logging

import cv2
import numpy as np
import pytest

from st4rtrack.io.formats.posed_images import write_colmap, write_colmap_text
from st4rtrack.types import UserError
from tests.io.formats.exact_scene import SOURCE_SIZE, WALL_DEPTH, distorted, exact_scene, source_px

pycolmap = pytest.importorskip("pycolmap")


LENSES = {
    "PINHOLE": None,
    "OPENCV": ("opencv", -0.12, 0.02, 0.001, -0.002),
    "FULL_OPENCV": ("opencv", -0.12, 0.02, 0.001, -0.002, 0.01),
    "OPENCV_FISHEYE": ("fisheye", 0.05, -0.01, 0.002, 0.0),
}


@pytest.mark.parametrize(("write", "model_name"), [(write_colmap, "PINHOLE"), *((write_colmap_text, each) for each in LENSES)])
def test_cameras_points_and_tracks_are_those_of_the_scene(tmp_path, write, model_name) -> None:
    scene = exact_scene(tmp_path)
    scene = scene if LENSES[model_name] is None else distorted(scene, *LENSES[model_name])
    (tmp_path / "out").mkdir()
    write(scene, tmp_path / "out")
    model = pycolmap.Reconstruction(tmp_path / "out" / "sparse" / "0")
    assert model.num_reg_images() == len(scene) and model.num_cameras() == 1
    (camera,) = model.cameras.values()
    assert camera.model_name == model_name and (camera.height, camera.width) == SOURCE_SIZE
    for image in model.images.values():
        frame = int(image.name.removeprefix("frame_").removesuffix(".jpg"))
        camera_from_world = np.vstack([image.cam_from_world().matrix(), [0, 0, 0, 1]])
        np.testing.assert_allclose(camera_from_world @ scene.cameras.world_from_camera[frame], np.eye(4), atol=1e-9)
        points = np.array([[0.1, -0.2, 3.0], [-0.4, 0.3, 2.5]])
        seen = np.stack([camera.img_from_cam(point) for point in points @ camera_from_world[:3, :3].T + camera_from_world[:3, 3]])
        np.testing.assert_allclose(seen, source_px(scene, frame, points), atol=1e-6)
    assert model.num_points3D() > 100 and model.compute_mean_track_length() > 3
    assert model.compute_mean_reprojection_error() < 2e-2
    for point in model.points3D.values():
        assert point.xyz[2] == pytest.approx(WALL_DEPTH, abs=4e-3) and len(point.track.elements) >= 2
        for element in point.track.elements:
            image = model.images[element.image_id]
            frame = int(image.name.removeprefix("frame_").removesuffix(".jpg"))
            seen = image.points2D[element.point2D_idx]
            np.testing.assert_allclose(seen.xy, source_px(scene, frame, point.xyz[None])[0], atol=0.1)


def test_pictures_at_source_size_in_their_order(tmp_path) -> None:
    scene = exact_scene(tmp_path)
    (tmp_path / "out").mkdir()
    write_colmap(scene, tmp_path / "out")
    names = sorted(path.name for path in (tmp_path / "out" / "images").iterdir())
    assert names == [f"frame_{t:06d}.jpg" for t in range(6)]
    for t, name in enumerate(names):
        written = cv2.imread(str(tmp_path / "out" / "images" / name)).astype(float)
        source = cv2.imread(str(tmp_path / "video" / f"{t:03d}.png")).astype(float)
        assert written.shape == source.shape and np.abs(written - source).mean() < 4


def test_without_the_video_network_size_and_a_sentence(tmp_path, caplog) -> None:
    scene = exact_scene(tmp_path)
    scene.info["source"]["video"] = str(tmp_path / "moved.mp4")
    (tmp_path / "out").mkdir()
    with caplog.at_level(logging.WARNING):
        write_colmap(scene, tmp_path / "out")
    assert "network size, 16 x 24" in caplog.text and "moved.mp4 does not exist" in caplog.text
    model = pycolmap.Reconstruction(tmp_path / "out" / "sparse" / "0")
    (camera,) = model.cameras.values()
    np.testing.assert_allclose(camera.calibration_matrix(), scene.cameras.intrinsics[0], atol=1e-9)
    assert cv2.imread(str(tmp_path / "out" / "images" / "frame_000000.jpg")).shape == (24, 16, 3)
    assert model.compute_mean_reprojection_error() < 2e-2


def test_frames_without_a_camera_are_left_out(tmp_path) -> None:
    scene = exact_scene(tmp_path)
    scene.cameras.solved[2] = False
    (tmp_path / "out").mkdir()
    write_colmap(scene, tmp_path / "out")
    model = pycolmap.Reconstruction(tmp_path / "out" / "sparse" / "0")
    names = sorted(image.name for image in model.images.values())
    assert names == [f"frame_{t:06d}.jpg" for t in (0, 1, 3, 4, 5)]
    assert sorted(path.name for path in (tmp_path / "out" / "images").iterdir()) == names


def test_a_focal_length_that_changes_makes_several_cameras(tmp_path) -> None:
    scene = exact_scene(tmp_path)
    scene.cameras.intrinsics[3:, :2] *= 1.25
    (tmp_path / "out").mkdir()
    write_colmap(scene, tmp_path / "out")
    model = pycolmap.Reconstruction(tmp_path / "out" / "sparse" / "0")
    focal = {image.name: model.cameras[image.camera_id].focal_length_x for image in model.images.values()}
    assert focal["frame_000005.jpg"] == pytest.approx(1.25 * focal["frame_000000.jpg"])


def test_a_scene_without_cameras(tmp_path) -> None:
    scene = exact_scene(tmp_path)
    scene.cameras.world_from_camera[:] = np.nan
    with pytest.raises(UserError, match="no cameras"):
        write_colmap(scene, tmp_path)
