"""Point clouds, read by a reader of the test's own; sequences by trimesh as well."""

from pathlib import Path

import numpy as np
import pytest

from st4rtrack.formats import export
from st4rtrack.io.formats.ply import write_ply, write_ply_sequence
from st4rtrack.scene import Scene
from st4rtrack.types import Pointmap, UserError
from tests.synthetic_scene import synthetic_scene


def solved_scene(*size: int) -> Scene:
    """A made-up scene whose frames are all solved."""
    scene = synthetic_scene(*size)
    scene.cameras.solved = np.ones(len(scene), bool)
    return scene


def read_ply(path: Path) -> dict[str, np.ndarray]:
    """A reader that shares nothing with the writer: one vertex after the other, by what the header says."""
    with path.open("rb") as file:
        assert file.readline() == b"ply\n"
        assert file.readline() == b"format binary_little_endian 1.0\n"
        names, kinds, count = [], [], -1
        while (line := file.readline().decode("ascii").split()) != ["end_header"]:
            if line[:2] == ["element", "vertex"]:
                count = int(line[2])
            elif line[0] == "property":
                kinds.append({"float": "<f4", "uchar": "u1"}[line[1]])
                names.append(line[2])
            else:
                assert line[0] == "comment"
        body = file.read()
    size = sum(np.dtype(kind).itemsize for kind in kinds)
    assert len(body) == count * size
    columns: dict[str, list] = {name: [] for name in names}
    for start in range(0, len(body), size):
        for name, kind in zip(names, kinds):
            columns[name].append(np.frombuffer(body, kind, 1, start)[0])
            start += np.dtype(kind).itemsize
    return {name: np.array(column) for name, column in columns.items()}


def xyz(ply: dict[str, np.ndarray]) -> np.ndarray:
    return np.stack([ply["x"], ply["y"], ply["z"]], axis=1)


def test_one_frame_whole(tmp_path) -> None:
    scene = solved_scene()
    write_ply(scene, tmp_path / "a.ply", frame=2, drop_least_sure=0)
    ply = read_ply(tmp_path / "a.ply")
    assert list(ply) == ["x", "y", "z", "red", "green", "blue", "confidence"]
    np.testing.assert_array_equal(xyz(ply), scene.reconstruction.points_world[2].reshape(-1, 3))
    np.testing.assert_array_equal(np.stack([ply["red"], ply["green"], ply["blue"]], 1), scene.rgb[2].reshape(-1, 3))
    np.testing.assert_array_equal(ply["confidence"], scene.reconstruction.confidence[2].reshape(-1))


def test_all_frames_lie_over_each_other(tmp_path) -> None:
    scene = solved_scene()
    write_ply(scene, tmp_path / "a.ply", drop_least_sure=0)
    np.testing.assert_array_equal(xyz(read_ply(tmp_path / "a.ply")), scene.reconstruction.points_world.reshape(-1, 3))
    write_ply(scene, tmp_path / "b.ply", drop_least_sure=0, max_frames=2)
    np.testing.assert_array_equal(xyz(read_ply(tmp_path / "b.ply")), scene.reconstruction.points_world[[0, 3]].reshape(-1, 3))


@pytest.mark.parametrize("max_points", [1, 3, 50, 191])
def test_the_cap_holds_and_the_choice_is_repeatable(tmp_path, max_points) -> None:
    scene = solved_scene()
    for name in ("a.ply", "b.ply"):
        write_ply(scene, tmp_path / name, max_points=max_points, drop_least_sure=0)
    ply = read_ply(tmp_path / "a.ply")
    assert max_points - 4 < len(ply["x"]) <= max_points
    assert (tmp_path / "a.ply").read_bytes() == (tmp_path / "b.ply").read_bytes()


def test_unsure_and_non_finite_points_are_left_out(tmp_path) -> None:
    scene = solved_scene()
    scene.reconstruction.points_world[0, 0, 0, 1] = np.nan
    scene.reconstruction.points_world[0, 0, 1] = np.inf
    scene.reconstruction.confidence[0, 0, 2] = np.nan
    write_ply(scene, tmp_path / "a.ply", frame=0, drop_least_sure=0.5)
    ply = read_ply(tmp_path / "a.ply")
    sure = np.sort(scene.reconstruction.confidence[0].reshape(-1)[3:])
    assert np.isfinite(xyz(ply)).all()
    np.testing.assert_array_equal(np.sort(ply["confidence"]), sure[-len(ply["x"]) :])
    assert len(ply["x"]) == 23  # of 45


def test_truth_has_no_confidence_but_a_mask(tmp_path) -> None:
    scene = solved_scene()
    valid = np.zeros(scene.rgb.shape[:3], bool)
    valid[:, 1, 2] = True
    scene.reconstruction = Pointmap(scene.reconstruction.points_world, valid=valid)
    write_ply(scene, tmp_path / "a.ply")
    ply = read_ply(tmp_path / "a.ply")
    assert "confidence" not in ply
    np.testing.assert_array_equal(xyz(ply), scene.reconstruction.points_world[:, 1, 2])


@pytest.mark.parametrize("options", [{"frame": 4}, {"frame": -1}, {"max_points": 0}, {"max_frames": 0}, {"drop_least_sure": 1.0}])
def test_wrong_options(tmp_path, options) -> None:
    with pytest.raises(UserError):
        write_ply(solved_scene(), tmp_path / "a.ply", **options)
    assert not list(tmp_path.iterdir())


def test_nothing_to_write(tmp_path) -> None:
    scene = solved_scene()
    scene.reconstruction.points_world[:] = np.nan
    with pytest.raises(UserError, match="no point"):
        export(scene, tmp_path / "a.ply")
    assert not list(tmp_path.iterdir())


def test_a_sequence_has_a_file_for_each_frame(tmp_path) -> None:
    scene = solved_scene()
    write_ply_sequence(scene, tmp_path, drop_least_sure=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"frame_{t:06d}.ply" for t in range(4)]
    for t in range(4):
        ply = read_ply(tmp_path / f"frame_{t:06d}.ply")
        np.testing.assert_array_equal(xyz(ply), scene.reconstruction.points_world[t].reshape(-1, 3))
        np.testing.assert_array_equal(ply["confidence"], scene.reconstruction.confidence[t].reshape(-1))
    write_ply_sequence(scene, tmp_path, max_points=10)
    assert len(read_ply(tmp_path / "frame_000003.ply")["x"]) == 10


def test_a_sequence_of_the_tracking_keeps_its_vertices(tmp_path) -> None:
    scene = solved_scene()
    write_ply_sequence(scene, tmp_path, branch="tracking", drop_least_sure=0)
    files = [read_ply(tmp_path / f"frame_{t:06d}.ply") for t in range(4)]
    np.testing.assert_array_equal(np.stack([xyz(f) for f in files]), scene.tracking.points_world.reshape(4, -1, 3))
    for file in files:
        colours = np.stack([file["red"], file["green"], file["blue"]], 1)
        np.testing.assert_array_equal(colours, scene.rgb[scene.anchor_index].reshape(-1, 3))


def test_trimesh_opens_both(tmp_path) -> None:
    trimesh = pytest.importorskip("trimesh")
    scene = solved_scene()
    write_ply(scene, tmp_path / "a.ply", frame=2, drop_least_sure=0)
    write_ply_sequence(scene, tmp_path, drop_least_sure=0)
    for path in (tmp_path / "a.ply", tmp_path / "frame_000002.ply"):
        cloud = trimesh.load(path)
        np.testing.assert_array_equal(cloud.vertices, scene.reconstruction.points_world[2].reshape(-1, 3))
        np.testing.assert_array_equal(cloud.colors[:, :3], scene.rgb[2].reshape(-1, 3))


@pytest.mark.parametrize("options", [{"branch": "both"}, {"max_points": 0}, {"drop_least_sure": -0.1}])
def test_wrong_options_of_a_sequence(tmp_path, options) -> None:
    with pytest.raises(UserError):
        write_ply_sequence(solved_scene(), tmp_path, **options)
    assert not list(tmp_path.iterdir())
