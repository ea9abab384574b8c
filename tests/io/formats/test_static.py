"""Static points that several frames agree on, and their Gaussians."""

import numpy as np
import pytest

from st4rtrack.geometry.camera import pixel_grid, project_world, unproject
from st4rtrack.geometry.transforms import rotation_from_quaternion, transform_maps
from st4rtrack.io.formats.ply import write_splat
from st4rtrack.io.formats.static import MAX_ERROR_PX, static_points
from st4rtrack.scene import Scene
from st4rtrack.types import UserError
from tests.io.formats.exact_scene import WALL_DEPTH, exact_scene

BOX = (slice(8, 16), slice(4, 12))


def with_box(scene: Scene, depths: list[float]) -> Scene:
    """The scene with a box in front of the wall in the same pixels of every frame, at the depth of each frame."""
    grid = pixel_grid(*scene.rgb.shape[1:3])[BOX]
    for frame, depth in enumerate(depths):
        points = unproject(grid, np.full(grid.shape[:2], depth), scene.cameras.intrinsics[frame])
        scene.reconstruction.points_world[frame][BOX] = transform_maps(scene.cameras.world_from_camera[frame], points)
    return scene


def test_static_points_of_a_wall_cover_it_once(tmp_path) -> None:
    scene = exact_scene(tmp_path)
    points = static_points(scene)
    np.testing.assert_allclose(points.points_world[:, 2], WALL_DEPTH, atol=4e-3)
    assert 250 < len(points) < 2 * 16 * 24
    for frame in range(len(scene)):
        own = points.frame == frame
        camera, intrinsics = scene.cameras.world_from_camera[frame], scene.cameras.intrinsics[frame]
        seen, _ = project_world(points.points_world[points.point[own]], camera, intrinsics)
        np.testing.assert_allclose(seen, points.pixels_px[own], atol=0.03)
    assert np.bincount(points.point).min() >= 3


@pytest.mark.parametrize("masked", [True, False])
def test_static_points_leave_out_a_moving_box(tmp_path, masked) -> None:
    scene = with_box(exact_scene(tmp_path), [1.2, 1.5, 1.8, 2.1, 2.5, 2.9] if not masked else [2.0] * 6)
    if masked:
        scene.reconstruction.moving = np.zeros(scene.rgb.shape[:3], bool)
        scene.reconstruction.moving[(slice(None), *BOX)] = True
    assert static_points(scene).points_world[:, 2].min() > WALL_DEPTH - 0.3
    if masked:
        scene.reconstruction.moving = scene.tracking.moving = None
        assert static_points(scene).points_world[:, 2].min() < 2.3


def test_static_points_average_the_noise_of_frames(tmp_path) -> None:
    scene = exact_scene(tmp_path)
    for frame, factor in enumerate(np.random.default_rng(0).uniform(0.97, 1.03, len(scene))):
        centre = scene.cameras.world_from_camera[frame, :3, 3]
        scene.reconstruction.points_world[frame] = centre + factor * (scene.reconstruction.points_world[frame] - centre)
    points = static_points(scene)
    error = np.abs(points.points_world[:, 2] / WALL_DEPTH - 1)
    single = np.abs(scene.reconstruction.points_world[scene.anchor_index, ..., 2] / WALL_DEPTH - 1)
    assert np.median(error) < 0.6 * np.median(single)
    camera, intrinsics = scene.cameras.world_from_camera[0], scene.cameras.intrinsics[0]
    own = points.frame == 0
    seen, _ = project_world(points.points_world[points.point[own]], camera, intrinsics)
    assert 1e-4 < np.linalg.norm(seen - points.pixels_px[own], axis=1).max() <= MAX_ERROR_PX


def test_thinned_points_are_wider_and_keep_observations_evenly(tmp_path) -> None:
    points = static_points(exact_scene(tmp_path))
    few = points.thinned(100, 250)
    assert len(few) == 100 and len(few.point) <= 250
    assert set(np.bincount(few.point, minlength=100)) == {2}
    assert np.median(few.spacing) == pytest.approx(np.median(points.spacing) * np.sqrt(len(points) / 100), rel=0.01)


def test_splat_file_has_the_layout_of_3d_gaussian_splatting(tmp_path) -> None:
    scene = exact_scene(tmp_path)
    write_splat(scene, tmp_path / "a.ply")
    header, _, data = (tmp_path / "a.ply").read_bytes().partition(b"end_header\n")
    names = [line.split()[-1] for line in header.decode().splitlines() if line.startswith("property float")]
    expected = "x y z nx ny nz f_dc_0 f_dc_1 f_dc_2 opacity scale_0 scale_1 scale_2 rot_0 rot_1 rot_2 rot_3"
    assert names == expected.split()
    values = dict(zip(names, np.frombuffer(data, "<f4").reshape(-1, len(names)).T, strict=True))
    points = static_points(scene)
    xyz = np.stack([values[name] for name in "xyz"], axis=1)
    np.testing.assert_allclose(xyz, points.points_world, atol=1e-5)
    colours = np.stack([values[f"f_dc_{k}"] for k in range(3)], axis=1) * 0.28209479177387814 + 0.5
    np.testing.assert_allclose(colours * 255, points.colours, atol=1e-2)
    axes = rotation_from_quaternion(np.stack([values[f"rot_{k}"] for k in range(4)], axis=1).astype(np.float64))
    deviation = np.exp(np.stack([values[f"scale_{k}"] for k in range(3)], axis=1))
    np.testing.assert_allclose(axes[:, :, 2], np.tile([0, 0, -1.0], (len(xyz), 1)), atol=1e-2)  # the wall faces the camera
    assert (deviation[:, 2] < 0.2 * deviation[:, 1]).all() and (deviation[:, 0] >= deviation[:, 1] * 0.999).all()
    assert np.median(deviation[:, 1]) == pytest.approx(0.75 * WALL_DEPTH / np.sqrt(20 * 21), rel=0.1)
    assert (1 / (1 + np.exp(-values["opacity"])) > 0.9).all()


def test_splat_without_static_points_is_refused(tmp_path) -> None:
    scene = exact_scene(tmp_path)
    scene.reconstruction.points_world[:] = np.nan
    with pytest.raises(UserError, match="no static points"):
        write_splat(scene, tmp_path / "a.ply")
    with pytest.raises(UserError, match="at least 1"):
        write_splat(scene, tmp_path / "a.ply", max_points=0)
