import dataclasses
from pathlib import Path

import numpy as np
import pytest

from st4rtrack.io import export as export_module
from st4rtrack.io.export import Format, export
from st4rtrack.io.ply import write_ply
from st4rtrack.io.scene import load_scene, save_scene
from st4rtrack.types import Pointmap, UserError
from tests.synthetic_scene import synthetic_scene


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
    scene = synthetic_scene()
    write_ply(scene, tmp_path / "a.ply", frame=2, drop_least_sure=0)
    ply = read_ply(tmp_path / "a.ply")
    assert list(ply) == ["x", "y", "z", "red", "green", "blue", "confidence"]
    np.testing.assert_array_equal(xyz(ply), scene.reconstruction.points_world[2].reshape(-1, 3))
    np.testing.assert_array_equal(np.stack([ply["red"], ply["green"], ply["blue"]], 1), scene.rgb[2].reshape(-1, 3))
    np.testing.assert_array_equal(ply["confidence"], scene.reconstruction.confidence[2].reshape(-1))


def test_all_frames_lie_over_each_other(tmp_path) -> None:
    scene = synthetic_scene()
    write_ply(scene, tmp_path / "a.ply", drop_least_sure=0)
    np.testing.assert_array_equal(xyz(read_ply(tmp_path / "a.ply")), scene.reconstruction.points_world.reshape(-1, 3))
    write_ply(scene, tmp_path / "b.ply", drop_least_sure=0, max_frames=2)
    np.testing.assert_array_equal(xyz(read_ply(tmp_path / "b.ply")), scene.reconstruction.points_world[[0, 3]].reshape(-1, 3))


@pytest.mark.parametrize("max_points", [1, 3, 50, 191])
def test_the_cap_holds_and_the_choice_is_repeatable(tmp_path, max_points) -> None:
    scene = synthetic_scene()
    for name in ("a.ply", "b.ply"):
        write_ply(scene, tmp_path / name, max_points=max_points, drop_least_sure=0)
    ply = read_ply(tmp_path / "a.ply")
    assert max_points - 4 < len(ply["x"]) <= max_points
    assert (tmp_path / "a.ply").read_bytes() == (tmp_path / "b.ply").read_bytes()


def test_unsure_and_non_finite_points_are_left_out(tmp_path) -> None:
    scene = synthetic_scene()
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
    scene = synthetic_scene()
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
        write_ply(synthetic_scene(), tmp_path / "a.ply", **options)
    assert not list(tmp_path.iterdir())


def test_nothing_to_write(tmp_path) -> None:
    scene = synthetic_scene()
    scene.reconstruction.points_world[:] = np.nan
    with pytest.raises(UserError, match="no point"):
        export(scene, tmp_path / "a.ply")
    assert not list(tmp_path.iterdir())


def test_export_by_ending_by_format_and_beside_the_scene(tmp_path) -> None:
    scene = synthetic_scene()
    folder = save_scene(scene, tmp_path / "cat.v1_st4rtrack")
    assert export(scene, tmp_path / "new" / "folder" / "A.PLY") == tmp_path / "new" / "folder" / "A.PLY"
    assert export(folder, format="ply") == tmp_path / "cat.v1_st4rtrack.ply"
    assert export(folder / "scene.json", str(tmp_path / "b.ply"), format="ply", frame=1) == tmp_path / "b.ply"
    export(load_scene(folder), tmp_path / "c.ply")
    assert (tmp_path / "c.ply").read_bytes() == (tmp_path / "cat.v1_st4rtrack.ply").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "b.ply",
        "c.ply",
        "cat.v1_st4rtrack",
        "cat.v1_st4rtrack.ply",
        "new",
    ]


def test_export_refuses_with_a_sentence(tmp_path) -> None:
    scene = synthetic_scene()
    file, folder = tmp_path / "a.ply", tmp_path / "folder.ply"
    file.write_text("mine")
    folder.mkdir()
    for arguments, message in [
        ((scene, tmp_path / "a.xyz"), r"a\.xyz names no format; there are: ply \(\.ply\)"),
        ((scene, tmp_path / "a"), "names no format"),
        ((scene,), "a path or a format"),
        ((scene, file), "exists already"),
        ((scene, folder), "is a folder"),
        ((scene, file / "b.ply"), "cannot be made"),
        ((tmp_path / "nothing", tmp_path / "b.ply"), "there is no scene"),
    ]:
        with pytest.raises(UserError, match=message):
            export(*arguments)
    for path, format, message in [
        (None, "ply", "in memory has no folder"),
        (file, "obj", "no format 'obj'"),
        (tmp_path / "a.txt", "ply", r"end in \.ply"),
    ]:
        with pytest.raises(UserError, match=message):
            export(scene, path, format=format)
    assert file.read_text() == "mine"
    export(scene, file, overwrite=True)
    assert len(read_ply(file)["x"])


def test_a_failing_writer_leaves_the_old_file(tmp_path, monkeypatch) -> None:
    def broken(scene, path) -> None:
        path.write_text("half")
        raise OSError("no space left")

    (tmp_path / "a.ply").write_text("old")
    monkeypatch.setitem(export_module.FORMATS, "ply", dataclasses.replace(export_module.FORMATS["ply"], write=broken))
    with pytest.raises(OSError, match="no space"):
        export(synthetic_scene(), tmp_path / "a.ply", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["a.ply"] and (tmp_path / "a.ply").read_text() == "old"


def test_a_format_may_be_a_folder(tmp_path, monkeypatch) -> None:
    def write(scene, path) -> None:
        (path / "images.txt").write_text(str(len(scene)))

    monkeypatch.setitem(export_module.FORMATS, "colmap", Format(("_colmap",), write, folder=True))
    scene = save_scene(synthetic_scene(), tmp_path / "cat")
    assert export(scene, format="colmap") == tmp_path / "cat_colmap"
    with pytest.raises(UserError, match="exists already"):
        export(scene, format="colmap")
    (tmp_path / "cat_colmap" / "mine.txt").write_text("mine")
    export(scene, format="colmap", overwrite=True)
    assert {path.name for path in (tmp_path / "cat_colmap").iterdir()} == {"images.txt", "mine.txt"}
    assert export(scene, tmp_path / "anything", format="colmap") == tmp_path / "anything"
    with pytest.raises(UserError, match="anything"):
        export(scene, tmp_path / "anything", format="ply")
