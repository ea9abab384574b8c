"""Dynamic Replica's raw files in our conventions: PyTorch3D's cameras, halves in PNG, trajectories per frame."""

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from st4rtrack.data.dynamic_replica import DynamicReplica
from st4rtrack.types import UserError
from tests.model.test_checkpoint import Evil
from tests.raw_data import World, write_dynamic_replica

WORLD = World(frames=5, points=60)
NAME = "009850-3_obj"
FOLDER = f"{NAME}_source_left"


@pytest.mark.parametrize("isotropic", [True, False])
@pytest.mark.parametrize("indices", [True, False])
def test_facts_of_a_sequence(tmp_path: Path, isotropic: bool, indices: bool) -> None:
    write_dynamic_replica(tmp_path, {NAME: WORLD}, isotropic=isotropic, indices=indices)
    dataset = DynamicReplica(tmp_path)
    assert dataset.names == [FOLDER] == DynamicReplica(tmp_path / "test").names
    sequence = dataset.open(FOLDER)
    assert len(sequence) == 5 and sequence.read_depth and sequence.read_tracks and sequence.world_from_camera is not None
    np.testing.assert_allclose(sequence.world_from_camera, WORLD.world_from_camera, atol=1e-9)
    np.testing.assert_allclose(sequence.intrinsics, np.tile(WORLD.intrinsics, (5, 1, 1)), atol=1e-9)
    np.testing.assert_allclose(sequence.read_depth(3), WORLD.depth(3), rtol=2**-11)
    np.testing.assert_array_equal(sequence.read_rgb(3), WORLD.rgb(3))
    points, visible = sequence.read_tracks(1, 4)
    np.testing.assert_allclose(points, WORLD.points_world[1:4], atol=1e-6)
    np.testing.assert_array_equal(visible, WORLD.stored_visible[1:4])


@pytest.mark.parametrize("isotropic", [True, False])
def test_cameras_project_as_pytorch3d_does(tmp_path: Path, isotropic: bool) -> None:
    """x_view = x_world R + T; x left, y up; device coordinates f x / z + p, positive to the left and up, 1 at half the size."""
    frame = write_dynamic_replica(tmp_path, {NAME: WORLD}, isotropic=isotropic)[2]
    viewpoint, half = frame["viewpoint"], np.array([WORLD.width, WORLD.height]) / 2
    view = WORLD.points_world[2] @ np.array(viewpoint["R"]) + np.array(viewpoint["T"])
    device = np.array(viewpoint["focal_length"]) * view[:, :2] / view[:, 2:] + np.array(viewpoint["principal_point"])
    expected_px = half - device * (half.min() if isotropic else half)

    sequence = DynamicReplica(tmp_path).open(FOLDER)
    assert sequence.world_from_camera is not None
    camera_from_world = np.linalg.inv(sequence.world_from_camera[2])
    points_camera = WORLD.points_world[2] @ camera_from_world[:3, :3].T + camera_from_world[:3, 3]
    rays = points_camera @ sequence.intrinsics[2].T
    np.testing.assert_allclose(rays[:, :2] / rays[:, 2:], expected_px, atol=1e-6)
    assert (points_camera[:, 2] > 0).mean() > 0.9


def test_unknown_depth_is_zero(tmp_path: Path) -> None:
    class Holes(World):
        def depth(self, t: int) -> np.ndarray:
            depth = super().depth(t)
            depth[0, :3] = np.inf, np.nan, 1e9
            return depth

    with np.errstate(over="ignore"):
        write_dynamic_replica(tmp_path, {NAME: Holes(frames=1, points=3)})
    read_depth = DynamicReplica(tmp_path).open(FOLDER).read_depth
    assert read_depth is not None
    assert (read_depth(0)[0, :3] == 0).all() and (read_depth(0)[1:] > 0).all()


def rewrite_list(root: Path, change) -> None:
    path = root / "test" / "frame_annotations_test.jgz"
    frames = json.loads(gzip.decompress(path.read_bytes()))
    path.write_bytes(gzip.compress(json.dumps(change(frames)).encode()))


def test_frames_that_lack_a_part_are_left_out(tmp_path: Path) -> None:
    write_dynamic_replica(tmp_path, {NAME: WORLD})
    rewrite_list(tmp_path, lambda frames: [{**frames[0], "depth": None}, *frames[1:]])
    sequence = DynamicReplica(tmp_path).open(FOLDER)
    assert len(sequence) == 4
    np.testing.assert_array_equal(sequence.read_rgb(0), WORLD.rgb(1))


@pytest.mark.parametrize(
    "change",
    [
        lambda frames: {"frames": frames},
        lambda frames: ["not a frame"],
        lambda frames: [],
        lambda frames: [{**frames[0], "sequence_name": "../outside"}],
        lambda frames: [{key: frames[0][key] for key in frames[0] if key != "viewpoint"}],
        lambda frames: [{**frames[0], "viewpoint": {**frames[0]["viewpoint"], "intrinsics_format": "pixels"}}],
        lambda frames: [{**frames[0], "viewpoint": {**frames[0]["viewpoint"], "R": [[1, 0], [0, 1]]}}],
        lambda frames: [{**frames[0], "viewpoint": {**frames[0]["viewpoint"], "R": [[2, 0, 0], [0, 2, 0], [0, 0, 2]]}}],
    ],
)
def test_a_list_that_is_not_as_expected_is_refused(tmp_path: Path, change) -> None:
    write_dynamic_replica(tmp_path, {NAME: WORLD})
    rewrite_list(tmp_path, change)
    with pytest.raises(UserError, match=r"frame_annotations_test\.jgz"):
        DynamicReplica(tmp_path).open(FOLDER)


@pytest.mark.parametrize(
    "stored",
    [
        {"traj_3d_world": torch.zeros(4, 3), "verts_inds_vis": torch.ones(4, dtype=torch.bool)},  # other frames have 60
        {"traj_3d_world": torch.zeros(60, 2), "verts_inds_vis": torch.ones(60, dtype=torch.bool)},
        {"traj_3d_world": torch.zeros(60, 3), "verts_inds_vis": torch.ones(60)},
        {"traj_3d_world": torch.zeros(60, 3), "verts_inds_vis": torch.tensor([60])},
        {"traj_3d_world": torch.zeros(60, 3)},
        Evil(),
    ],
)
def test_trajectories_that_do_not_fit_are_refused_and_never_run(tmp_path: Path, stored: object) -> None:
    write_dynamic_replica(tmp_path, {NAME: WORLD})
    torch.save(stored, tmp_path / "test" / FOLDER / "trajectories" / "000002.pth")
    read_tracks = DynamicReplica(tmp_path).open(FOLDER).read_tracks
    assert read_tracks is not None
    with pytest.raises(UserError, match=r"000002\.pth"):
        read_tracks(0, 5)
