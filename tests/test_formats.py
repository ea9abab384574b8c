"""Exporting as a whole: which format, where to, what is refused, and that nothing is lost or left half done."""

import dataclasses
import html
import os
import re
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from st4rtrack import formats
from st4rtrack.cli.main import main
from st4rtrack.formats import FORMATS, Format, export, options_of
from st4rtrack.io.formats.common import METRES, NOT_METRES, OPTIONAL, lengths
from st4rtrack.io.scene import load_scene, save_scene
from st4rtrack.io.video import open_video
from st4rtrack.pipeline.reconstruct import reconstruct
from st4rtrack.scene import Scene
from st4rtrack.types import UserError
from tests.conftest import Run
from tests.io.formats.exact_scene import exact_scene, write_video_frames
from tests.io.formats.test_compositing import read_chan
from tests.io.formats.test_ply import read_ply
from tests.shared_data import shared
from tests.synthetic_scene import synthetic_scene

PLAIN = [name for name in FORMATS if name not in ("html", "video", "figure", "splat", "shape-of-motion")]
"""Formats that neither draw anything nor refuse scenes of noise; the others have tests beside their writers."""


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
        ((scene, tmp_path / "a.xyz"), r"no format has the suffix of .*a\.xyz; choose one of: ply \(\.ply\), "),
        ((scene, tmp_path / "a"), "no format has the suffix"),
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
    monkeypatch.setitem(formats.FORMATS, "ply", dataclasses.replace(formats.FORMATS["ply"], writer=broken))
    with pytest.raises(OSError, match="no space"):
        export(synthetic_scene(), tmp_path / "a.ply", overwrite=True)
    assert [path.name for path in tmp_path.iterdir()] == ["a.ply"] and (tmp_path / "a.ply").read_text() == "old"


def test_interrupted_export_leaves_nothing(tmp_path, monkeypatch) -> None:
    def stopped(scene, path) -> None:
        path.write_text("half")
        raise KeyboardInterrupt

    folder = save_scene(synthetic_scene(), tmp_path / "cat")
    monkeypatch.setitem(formats.FORMATS, "ply", dataclasses.replace(formats.FORMATS["ply"], writer=stopped))
    with pytest.raises(SystemExit) as ended:
        main(["export", str(folder), "ply"])
    assert ended.value.code == 1
    assert [path.name for path in tmp_path.iterdir()] == ["cat"]


def test_a_format_may_be_a_folder(tmp_path, monkeypatch) -> None:
    def write(scene, path) -> None:
        (path / "images.txt").write_text(str(len(scene)))
        if len(scene) > 2:
            (path / "long.bin").touch()

    monkeypatch.setitem(formats.FORMATS, "colmap", Format(write, "", ("_colmap",), ("*.bin",)))
    scene = save_scene(synthetic_scene(), tmp_path / "cat")
    assert export(scene, format="colmap") == tmp_path / "cat_colmap"
    with pytest.raises(UserError, match="exists already"):
        export(scene, format="colmap")
    (tmp_path / "cat_colmap" / "mine.txt").write_text("mine")
    export(scene, format="colmap", overwrite=True)
    assert {path.name for path in (tmp_path / "cat_colmap").iterdir()} == {"images.txt", "long.bin", "mine.txt"}
    export(scene, format="colmap", overwrite=True, stride=3)  # what a longer export left is gone, what is the user's is not
    assert {path.name for path in (tmp_path / "cat_colmap").iterdir()} == {"images.txt", "mine.txt"}
    assert export(scene, tmp_path / "anything", format="colmap") == tmp_path / "anything"
    with pytest.raises(UserError, match="anything"):
        export(scene, tmp_path / "anything", format="ply")


@pytest.mark.parametrize("name", PLAIN)
def test_every_format_of_every_kind_of_scene(tmp_path, name) -> None:
    exact = exact_scene(tmp_path)
    bare = synthetic_scene(3)
    bare.tracking.visible = bare.tracking.confidence = bare.tracking.moving = bare.reconstruction.confidence = None
    bare.cameras.solved = None
    bare.source_size = (15, 16)
    scenes = {
        "exact": exact,
        "all fields": synthetic_scene(),
        "bare": bare,
        "one": synthetic_scene(1),
        "odd": synthetic_scene(3, 7, 5),
    }
    for kind, scene in scenes.items():
        path = export(scene, tmp_path / kind / f"a{FORMATS[name].endings[0]}", format=name)
        assert path.stat().st_size
        assert not [left for left in path.parent.iterdir() if left.name.startswith(".")]


def test_a_companion_is_kept_and_replaced_with_its_file(tmp_path) -> None:
    scene = exact_scene(tmp_path)
    path = export(scene, tmp_path / "nerf" / "transforms.json")
    files = tmp_path / "nerf" / "transforms_files"
    (files / "images" / "mine.jpg").touch()
    path.unlink()
    with pytest.raises(UserError, match="transforms_files exists already"):
        export(scene, path)
    export(scene, path, overwrite=True, stride=3)
    assert sorted(image.name for image in (files / "images").iterdir()) == ["frame_000000.jpg", "frame_000001.jpg", "mine.jpg"]


@pytest.mark.parametrize("name", [name for name, entry in FORMATS.items() if entry.folder])
def test_overwriting_export_leaves_no_old_frame_and_keeps_other_files(tmp_path: Path, name: str) -> None:
    scene = exact_scene(tmp_path / "source")
    folder, short = tmp_path / "long", export(scene, tmp_path / "short", format=name, stride=2)
    export(scene, folder, format=name)
    mine = (
        "results.npz",
        "frame_0001.exr",
        "rgb/frame_000001.png",
        "a/video/frame_000001.npy",
        "images/frame_left.jpg",
        "track_a.txt",
    )
    for file in mine:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text("mine")
    export(scene, folder, format=name, stride=2, overwrite=True)
    files = [{str(path.relative_to(at)) for path in at.rglob("*") if path.is_file()} for at in (folder, short)]
    assert files[0] == files[1] | set(mine)


@pytest.mark.parametrize(("name", "option"), [("colmap", "max_points"), ("blender", "max_frame_points"), ("png", "first_frame")])
def test_negative_number_is_refused(tmp_path: Path, name: str, option: str) -> None:
    options: dict[str, Any] = {option: -3}
    with pytest.raises(UserError, match=f"{option} must be at least 0, got -3"):
        export(exact_scene(tmp_path / "source"), tmp_path / "out", format=name, **options)


def test_the_scene_itself_is_never_written_over(tmp_path) -> None:
    folder = save_scene(synthetic_scene(), tmp_path / "scene")
    before = (folder / "scene.json").read_bytes()
    for path, format in ((folder / "scene.json", "transforms"), (folder, "colmap")):
        with pytest.raises(UserError, match="belongs to the scene"):
            export(folder, path, format=format, overwrite=True)
    assert (folder / "scene.json").read_bytes() == before and len(load_scene(folder)) == 4
    assert export(folder, format="transforms").name == "scene_transforms.json"


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch) -> None:
    def denied(**_: object) -> str:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(formats.tempfile, "mkdtemp", denied)  # whoever runs the tests may be allowed everything
    with pytest.raises(UserError, match=r"written \(Permission denied\); choose another path"):
        export(synthetic_scene(), tmp_path / "a.ply")


def test_a_scene_half_written_and_one_without_cameras(tmp_path) -> None:
    folder = save_scene(synthetic_scene(), tmp_path / "scene")
    scene = load_scene(folder)
    text = (folder / "scene.json").read_text()
    (folder / "scene.json").write_text(text.replace('"complete"', '"incomplete"'))
    with pytest.raises(UserError, match="is incomplete"):
        export(folder, format="glb")
    scene.cameras.solved[:] = False
    for name in ("glb", "colmap", "tum", "transforms", "tapvid3d", "usd", "rerun", "blender", "chan", "csv", "nuke"):
        with pytest.raises(UserError, match="no cameras"):
            export(scene, tmp_path / f"a{FORMATS[name].endings[0]}", format=name)
    assert [path.name for path in tmp_path.iterdir()] == ["scene"]


@pytest.mark.parametrize(("name", "module"), [("glb", "trimesh"), ("usd", "pxr.Usd"), ("rerun", "rerun"), ("exr", "OpenEXR")])
def test_a_package_that_is_not_installed(tmp_path, monkeypatch, name, module) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=rf'pip install .*".*\[{name}\]"'):
        export(synthetic_scene(), tmp_path / f"a{FORMATS[name].endings[0]}", format=name)
    assert not list(tmp_path.iterdir())


def test_options_are_those_of_the_writer(tmp_path) -> None:
    assert options_of("ply") == ["frame", "max_points", "max_frames", "drop_least_sure"] and options_of("tum") == []
    with pytest.raises(UserError, match="tum has no option max_points; it has stride"):
        export(synthetic_scene(), tmp_path / "a.txt", max_points=3)
    export(synthetic_scene(5), tmp_path / "a.ply", stride=2, drop_least_sure=0)
    assert len(read_ply(tmp_path / "a.ply")["x"]) == 2 * 48


def test_from_the_command_line(run: Run, tmp_path) -> None:
    save_scene(exact_scene(tmp_path / "source"), "scene")
    code, said = run("export", "scene", "ply", "--max-points", 100, "--stride", 2, "-o", "a.ply")
    assert code == 0 and said == f"wrote a.ply\n{NOT_METRES}\n" and len(read_ply(tmp_path / "a.ply")["x"]) <= 100
    code, said = run("export", "scene", "ply-sequence", "--branch", "tracking")
    assert code == 0 and len(list((tmp_path / "scene_ply").iterdir())) == 6
    code, said = run("export", "scene", "tum", "--max-tracks", 4)
    assert code == 2 and "unknown option --max-tracks of st4rtrack export SCENE tum" in said
    code, said = run("export", "scene", "usd", "--max-tracks", 0, "-o", "a.usda")
    assert code == 0 and "tracks" not in (tmp_path / "a.usda").read_text()
    code, said = run("export", "--help")
    assert all(name in said for name in FORMATS)


def test_the_table_names_writers_that_exist() -> None:
    for name, entry in FORMATS.items():
        assert callable(entry.write), name
        assert set(options_of(name)).isdisjoint({"scene", "path", "overwrite"}), name
    assert len({entry.endings[0] for entry in FORMATS.values()}) == len(FORMATS), "two formats would write to one place"


def test_a_run_exports_files_and_folders(run: Run, tmp_path) -> None:
    video = write_video_frames(tmp_path / "video", 3)
    code, said = run("run", video, "-o", "scene", "--size", 64, "--device", "cpu", "--export", "ply,colmap,transforms")
    assert code == 0 and "scene_colmap" in said, said
    assert (tmp_path / "scene" / "scene_colmap" / "sparse" / "0" / "cameras.bin").is_file()
    assert (tmp_path / "scene" / "scene_transforms.json").is_file() and len(load_scene("scene")) == 3


@pytest.mark.slow
@pytest.mark.parametrize("source", ["clips/apple.mp4", "clips/feng.mp4", "clips/sheep.mp4", "sequences"])
def test_every_format_of_real_scenes(tmp_path, source) -> None:
    path = shared(source)
    for video in sorted(path.glob("*.npz")) if path.is_dir() else [path]:
        scene = reconstruct(video, stop=4, size=96, output=tmp_path / video.stem)
        for name in PLAIN:
            open_in_its_tool(scene, name, export(tmp_path / video.stem, format=name))
        film = export(tmp_path / video.stem, format="video", width=480, hold_s=0.0)
        assert len(open_video(film)) == len(scene)
        figure = export(tmp_path / video.stem, format="figure", rows=1, dpi=60)
        assert cv2.imread(str(figure)).std() > 10  # pyright: ignore[reportOptionalMemberAccess]
        page = export(tmp_path / video.stem, format="html", max_points=2000)
        assert page.read_text().count('id="frame-') == len(scene)


def open_in_its_tool(scene: Scene, name: str, path) -> None:
    """Reads an export with what it is meant for and compares its cameras, or its points where it has no cameras."""
    cameras = np.asarray(scene.cameras.world_from_camera)[np.asarray(scene.cameras.solved)]
    upright = np.diag([1.0, -1.0, -1.0, 1.0])
    found = None
    if name in ("colmap", "colmap-text"):
        import pycolmap

        images = sorted(pycolmap.Reconstruction(path / "sparse" / "0").images.values(), key=lambda image: image.name)
        found = [np.linalg.inv(np.vstack([image.cam_from_world().matrix(), [0, 0, 0, 1]])) for image in images]
    elif name == "tum":
        from evo.tools import file_interface

        found = file_interface.read_tum_trajectory_file(str(path)).poses_se3
    elif name == "transforms":
        import json

        found = [np.array(frame["transform_matrix"]) @ upright for frame in json.loads(path.read_text())["frames"]]
    elif name == "blender":
        import json

        found = json.loads((path / "scene.json").read_text())["world_from_camera"]
    elif name == "chan":
        found = [pose for pose, _ in read_chan(path).values()]
    elif name in (
        "exr",
        "png",
        "csv",
        "after-effects",
        "nuke",
        "3de",
    ):  # without cameras or points; test_compositing.py reads them
        assert len(list(path.rglob("*.*"))) > 1 if path.is_dir() else path.stat().st_size > 1000
    elif name == "tapvid3d":
        from st4rtrack.io.worldtrack import read_worldtrack

        found, cameras = read_worldtrack(path).world_from_camera, np.asarray(scene.cameras.world_from_camera)
    elif name == "usd":
        from pxr import Usd, UsdGeom

        stage = Usd.Stage.Open(str(path))
        camera = UsdGeom.Camera(stage.GetPrimAtPath("/World/camera"))
        found = [upright @ np.array(camera.GetCamera(t).transform).T @ upright for t in range(len(scene))]
        cameras = np.asarray(scene.cameras.world_from_camera)
    elif name == "rerun":
        from tests.io.formats.test_rerun import rows

        camera = rows(path)["/world/camera"]
        assert camera["frame"] == list(range(len(scene)))
        positions = np.reshape(camera["Transform3D:translation"], (-1, 3))
        np.testing.assert_allclose(positions, np.asarray(scene.cameras.world_from_camera)[:, :3, 3], atol=1e-6)
    else:
        import trimesh

        loaded = trimesh.load(sorted(path.glob("*.ply"))[-1] if path.is_dir() else path)
        vertices = loaded.geometry["reconstruction"].vertices * [1, -1, -1] if name == "glb" else loaded.vertices
        points = np.asarray(scene.reconstruction.points_world[len(scene) - 1]).reshape(-1, 3)
        for vertex in vertices[-5:]:
            assert np.abs(points - vertex).sum(axis=1).min() < 1e-6 * (1 + np.abs(vertex).sum())
    if found is not None:
        np.testing.assert_allclose(np.stack(list(found)), cameras, atol=1e-6)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems allow no such name")
@pytest.mark.parametrize("name", FORMATS)
def test_export_to_a_folder_whose_name_is_not_utf8_works(tmp_path: Path, name: str) -> None:
    options: dict[str, Any] = {"video": {"width": 480}, "figure": {"dpi": 50}}.get(name, {})
    scene = exact_scene(tmp_path)
    scene.info["source"] = {"name": os.fsdecode(b"cl\xffip"), "video": "array"}
    folder = tmp_path / os.fsdecode(b"o\xffut")
    path = export(scene, folder / f"a{FORMATS[name].endings[0]}", format=name, **options)
    assert path.exists() and folder in path.parents


@pytest.mark.parametrize("name", [name for name, entry in FORMATS.items() if entry.module])
def test_format_without_its_package_is_refused_before_the_run(run: Run, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = FORMATS[name].module or ""
    monkeypatch.setitem(sys.modules, module, None)
    expected = f"the format {name} needs {OPTIONAL[module][0]}; install it with: "
    write_video_frames(Path("video"))
    for command in (["run", "video", "-o", "out"], ["batch", "video", "-o", "out"]):
        code, said = run(*command, "--export", f"ply,{name}", "--device", "cpu")
        assert code == 2 and expected in said, said
    assert not Path("out").exists()


def test_every_optional_package_of_a_writer_is_in_the_table() -> None:
    needed = {}
    for path in Path(formats.__file__).parent.rglob("*.py"):
        needed |= {name: module for module, name in re.findall(r'\bneed\(f?"(\w+)[^"]*", "([\w-]+)"', path.read_text())}
    assert needed == {name: entry.module for name, entry in FORMATS.items() if entry.module} and set(needed.values()) == set(
        OPTIONAL
    )


def test_exports_name_the_unit_of_lengths(tmp_path: Path) -> None:
    scene = exact_scene(tmp_path)
    assert lengths(scene.info) == NOT_METRES and "not metres" in NOT_METRES and "--metres-per-unit" in NOT_METRES
    assert lengths({"known": {"metres_per_unit": 2.0}}) == lengths({"known": {"known_distance": "1,1,2,2=3"}}) == METRES
    written = {
        "a.ply": "ply",
        "a.txt": "tum",
        "a_transforms.json": "transforms",
        "a.glb": "glb",
        "a.usda": "usd",
        "a.html": "html",
    }
    for name, format in written.items():
        content = export(scene, tmp_path / name, format=format).read_bytes().decode("latin-1")
        assert html.unescape(content).count(NOT_METRES) == 1, name


def test_export_command_names_the_unit_of_lengths(run: Run, tmp_path: Path) -> None:
    folder = save_scene(synthetic_scene(), tmp_path / "scene")
    code, said = run("export", folder, "tapvid3d")
    assert code == 0 and NOT_METRES in said.splitlines()


def test_a_folder_format_with_the_name_of_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is the name of a file, but this format writes a folder"):
        export(synthetic_scene(), tmp_path / "depth.png", format="png")
    export(synthetic_scene(), tmp_path / "take.v2", format="png")
    assert (tmp_path / "take.v2").is_dir()
