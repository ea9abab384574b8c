"""The trajectory, read back by evo."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from st4rtrack.geometry.transforms import quaternion_from_rotation
from st4rtrack.io.formats.camera_paths import write_tum
from st4rtrack.types import UserError
from tests.io.formats.exact_scene import exact_scene


def read_with_evo(path):
    from evo.tools import file_interface

    return file_interface.read_tum_trajectory_file(str(path))


def test_evo_reads_the_cameras_of_the_scene(tmp_path) -> None:
    scene = exact_scene(tmp_path)
    write_tum(scene, tmp_path / "a.txt")
    trajectory = read_with_evo(tmp_path / "a.txt")
    np.testing.assert_allclose(trajectory.timestamps, scene.time_s, atol=1e-8)
    np.testing.assert_allclose(np.stack(trajectory.poses_se3), scene.cameras.world_from_camera, atol=1e-9)


def test_frames_without_a_camera_are_left_out(tmp_path) -> None:
    scene = exact_scene(tmp_path)
    scene.cameras.solved[[0, 4]] = False
    write_tum(scene, tmp_path / "a.txt")
    trajectory = read_with_evo(tmp_path / "a.txt")
    np.testing.assert_allclose(trajectory.timestamps, scene.time_s[[1, 2, 3, 5]], atol=1e-8)


def test_a_scene_without_cameras(tmp_path) -> None:
    scene = exact_scene(tmp_path)
    scene.cameras.solved[:] = False
    with pytest.raises(UserError, match="no cameras"):
        write_tum(scene, tmp_path / "a.txt")


@given(st.lists(st.floats(-1, 1), min_size=4, max_size=4).filter(lambda q: np.linalg.norm(q) > 0.1))
def test_quaternions_of_any_rotation(q) -> None:
    x, y, z, w = q / np.linalg.norm(q)
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )
    found = quaternion_from_rotation(rotation[None])[0, [1, 2, 3, 0]]
    assert abs(found @ [x, y, z, w]) == pytest.approx(1, abs=1e-12) and found[3] >= 0
