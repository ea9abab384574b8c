"""The layout of Shape of Motion, read as its documentation says."""

import cv2
import numpy as np
import pytest

from st4rtrack.formats import export
from st4rtrack.types import UserError
from tests.io.formats.exact_scene import SOURCE_SIZE, exact_scene, source_px


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


def test_shape_of_motion_folder_reproduces_the_scene(tmp_path) -> None:
    scene = exact_scene(tmp_path)
    scene.cameras.solved[2] = False
    folder = export(scene, tmp_path / "som", format="shape-of-motion")
    frames = [0, 1, 3, 4, 5]
    names = [f"frame_{frame:06d}" for frame in frames]
    for kind, ending in (("images", ".jpg"), ("masks", ".png"), ("aligned_depth_anything", ".png")):
        files = sorted((folder / kind / "video").iterdir())
        assert [file.name for file in files] == [name + ending for name in names]
        assert all(cv2.imread(str(file)).shape[:2] == SOURCE_SIZE for file in files)
    cameras = np.load(folder / "droid_recon" / "video.npy", allow_pickle=True).item()  # written by this test
    assert cameras["traj_c2w"].shape == (5, 4, 4) and tuple(cameras["img_shape"]) == SOURCE_SIZE
    fx, fy, cx, cy = cameras["intrinsics"]
    moving = scene.tracking.moving
    unit = scene.cameras.world_from_camera[5, 0, 3] / cameras["traj_c2w"][4, 0, 3]
    for k, frame in enumerate(frames):
        inverse = cv2.imread(str(folder / "aligned_depth_anything" / "video" / f"{names[k]}.png"), cv2.IMREAD_UNCHANGED)
        assert inverse.dtype == np.uint16
        camera_from_world = np.linalg.inv(cameras["traj_c2w"][k])
        for name in names:
            tracks = np.load(folder / "bootstapir" / "video" / f"{names[k]}_{name}.npy")
            assert tracks.dtype == np.float32 and tracks.shape[1:] == (4,)
        own = np.load(folder / "bootstapir" / "video" / f"{names[k]}_{names[k]}.npy")
        shown = moving & scene.tracking.visible[frame]
        assert len(own) == shown.sum()
        assert ((1 - sigmoid(own[:, 2])) * (1 - sigmoid(own[:, 3])) > 0.5).all()
        points = scene.tracking.points_world[frame][shown].astype(np.float64)
        np.testing.assert_allclose(own[:, :2] + 0.5, source_px(scene, frame, points), atol=1e-3)
        x, y, z = camera_from_world[:3, :3] @ (points.T / unit) + camera_from_world[:3, 3:]
        np.testing.assert_allclose(np.stack([fx * x / z + cx, fy * y / z + cy], axis=1), own[:, :2], atol=1e-3)
        centre = inverse[SOURCE_SIZE[0] // 2, SOURCE_SIZE[1] // 2] / 65535
        assert centre == pytest.approx(unit / scene.reconstruction.points_world[frame][12, 8, 2], rel=0.15)
    mask = cv2.imread(str(folder / "masks" / "video" / "frame_000001.png"), cv2.IMREAD_UNCHANGED)
    assert set(np.unique(mask)) == {0, 255}
    column, row = np.floor(source_px(scene, 1, scene.tracking.points_world[1][moving].astype(np.float64))).astype(int).T
    assert (mask[row, column] == 255).all()


def test_shape_of_motion_has_at_most_the_given_number_of_tracks(tmp_path) -> None:
    folder = export(exact_scene(tmp_path), tmp_path / "som", format="shape-of-motion", max_tracks=7)
    assert 0 < len(np.load(folder / "bootstapir" / "video" / "frame_000001_frame_000001.npy")) <= 7
    with pytest.raises(UserError, match="must be at least 1, not 0"):
        export(exact_scene(tmp_path / "b"), tmp_path / "none", format="shape-of-motion", max_tracks=0)


def test_shape_of_motion_without_dynamic_points_is_refused(tmp_path) -> None:
    scene = exact_scene(tmp_path)
    scene.tracking.moving[:] = False
    with pytest.raises(UserError, match="no dynamic point"):
        export(scene, tmp_path / "som", format="shape-of-motion")
    scene.tracking.moving = None
    with pytest.raises(UserError, match="dynamic from static"):
        export(scene, tmp_path / "som", format="shape-of-motion")
