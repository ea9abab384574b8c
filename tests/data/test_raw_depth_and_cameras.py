"""7-Scenes, Bonn and KITTI: raw files with depth and cameras in our conventions, and the sequences that are built from them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from st4rtrack.bench.build import build_worldtrack
from st4rtrack.bench.recipes import RECIPES
from st4rtrack.data.kitti import Kitti
from st4rtrack.data.raw import RawSequence
from st4rtrack.data.seven_scenes import INTRINSICS, SevenScenes
from st4rtrack.data.tum import BONN, TumRgbd
from st4rtrack.geometry.transforms import invert_rigid
from st4rtrack.io.worldtrack import read_worldtrack
from st4rtrack.types import UserError
from tests.raw_data import World, write_kitti, write_seven_scenes, write_tum

DRIVE = "2011_09_26_drive_0002_sync"
WORLD = World(frames=12, points=0, intrinsics=INTRINSICS)


def assert_same(sequence: RawSequence, world: World, frames: range, quantum_m: float) -> None:
    """The sequence has the images, depth and relative cameras of the world."""
    assert len(sequence) == len(frames) and sequence.read_depth is not None and sequence.world_from_camera is not None
    found, true = sequence.world_from_camera, world.world_from_camera[list(frames)]
    np.testing.assert_allclose(invert_rigid(found[0]) @ found, invert_rigid(true[0]) @ true, atol=1e-6)
    for index in (0, len(frames) - 1):
        np.testing.assert_array_equal(sequence.read_rgb(index), world.rgb(frames[index]))
        depth, expected = sequence.read_depth(index), world.depth(frames[index])
        np.testing.assert_allclose(depth[1:], expected[1:], atol=0.51 * quantum_m)


def test_seven_scenes_reader_agrees_with_the_world(tmp_path: Path) -> None:
    write_seven_scenes(tmp_path, "chess", WORLD)
    dataset = SevenScenes(tmp_path)
    assert dataset.names == ["chess_seq-03"]
    sequence = dataset.open("chess_seq-03")
    assert_same(sequence, WORLD, range(12), 1e-3)
    assert sequence.read_depth is not None and sequence.read_depth(0)[0, 0] == 0  # stored as 65535
    np.testing.assert_array_equal(sequence.intrinsics[3], INTRINSICS)
    (tmp_path / "chess/TestSplit.txt").unlink()
    assert SevenScenes(tmp_path).names == ["chess_seq-01", "chess_seq-03"]


def test_bonn_poses_of_the_markers_become_poses_of_the_camera(tmp_path: Path) -> None:
    class Markers(World):
        """The world as recorded: poses of the markers, and depth that is too small."""

        @property
        def world_from_camera(self) -> np.ndarray:  # pyright: ignore[reportIncompatibleVariableOverride]
            return WORLD.world_from_camera @ invert_rigid(BONN.body_from_camera)

        def depth(self, t: int) -> np.ndarray:
            return WORLD.depth(t) * BONN.depth_per_m / 5000

    write_tum(tmp_path, "rgbd_bonn_crowd", Markers(frames=12, points=0))
    assert np.linalg.det(BONN.body_from_camera[:3, :3]) == pytest.approx(1, abs=1e-3)
    assert 5000 / BONN.depth_per_m == pytest.approx(1.059, abs=1e-3)
    sequence = TumRgbd(tmp_path, BONN).open("rgbd_bonn_crowd")
    assert_same(sequence, WORLD, range(12), 1 / BONN.depth_per_m)
    assert sequence.intrinsics[0, 0, 0] == 542.822841


def test_kitti_reader_agrees_with_the_world(tmp_path: Path) -> None:
    write_kitti(tmp_path, DRIVE, WORLD)
    dataset = Kitti(tmp_path)
    assert dataset.names == [DRIVE]
    sequence = dataset.open(DRIVE)
    assert_same(sequence, WORLD, range(5, 12), 1 / 256)
    np.testing.assert_allclose(sequence.intrinsics[0], WORLD.intrinsics)


@pytest.mark.parametrize(
    ("dataset", "write", "frames"),
    [
        ("7scenes", lambda root, world: write_seven_scenes(root, "chess", world), range(0, 12, 2)),
        ("bonn", lambda root, world: write_tum(root, "rgbd_bonn_crowd", world), range(3, 12)),
        ("kitti", lambda root, world: write_kitti(root, DRIVE, world), range(5, 12)),
    ],
)
def test_built_sequences_have_depth_and_cameras(
    tmp_path: Path, dataset: str, write: Callable[[Path, World], Path], frames: range
) -> None:
    write(tmp_path / "raw", WORLD)
    recipe = replace(RECIPES[dataset], min_frames=4, first_frame=3 if dataset == "bonn" else 0)
    (path,) = build_worldtrack(recipe, tmp_path / "raw", tmp_path / "out")
    sequence = read_worldtrack(path)
    assert path.parent.name == dataset and len(sequence) == len(frames) and sequence.tracks_world is None
    assert sequence.has_depth and sequence.read_depth().shape == (len(frames), 36, 48)
    assert np.abs(sequence.video.frame(1).astype(float) - WORLD.rgb(frames[1])).mean() < 4


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("calib_cam_to_cam.txt", "P_rect_02: 1 2 3\n"),
        ("calib_velo_to_cam.txt", "R: 1\n"),
        (f"{DRIVE}/oxts/data/0000000007.txt", "49.0 8.4\n"),
    ],
)
def test_kitti_damaged_files_are_named(tmp_path: Path, file: str, text: str) -> None:
    (write_kitti(tmp_path, DRIVE, replace(WORLD, frames=9)) / file).write_text(text)
    with pytest.raises(UserError, match=Path(file).name.replace(".", r"\.")):
        Kitti(tmp_path).open(DRIVE)


def test_seven_scenes_damaged_pose_is_named(tmp_path: Path) -> None:
    folder = write_seven_scenes(tmp_path, "chess", replace(WORLD, frames=3))
    (folder / "frame-000001.pose.txt").write_text("1 0 0\n")
    with pytest.raises(UserError, match=r"frame-000001\.pose\.txt"):
        SevenScenes(tmp_path).open("chess_seq-03")
