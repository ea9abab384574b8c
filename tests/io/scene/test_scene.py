import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from st4rtrack.io.lazy import LazyArray
from st4rtrack.io.scene import (
    FORMAT_VERSION,
    SceneBuffer,
    SceneHeader,
    SceneSink,
    SceneWriter,
    arrays,
    load_scene,
    prepare_folder,
    save_scene,
)
from st4rtrack.io.scene.table import ARRAYS
from st4rtrack.scene import Scene
from st4rtrack.types import Cameras, Pointmap, TrackingOverTime, UserError
from tests.synthetic_scene import synthetic_scene


def header_of(scene: Scene, **changes: Any) -> SceneHeader:
    num_frames, height, width = scene.rgb.shape[:3]
    header = SceneHeader(num_frames, height, width, scene.anchor_index, scene.pixel_map, scene.source_size, scene.info)
    return dataclasses.replace(header, **changes)


def frame_of(scene: Scene, t: int) -> dict[str, Any]:
    return {
        "rgb": scene.rgb[t],
        "time_s": scene.time_s[t],
        "tracking_points": scene.tracking.points_world[t],
        "tracking_confidence": scene.tracking.confidence[t],
        "visible": scene.tracking.visible[t],
        "visibility": scene.tracking.visibility[t],
        "reconstruction_points": scene.reconstruction.points_world[t],
        "reconstruction_confidence": scene.reconstruction.confidence[t],
        "world_from_camera": scene.cameras.world_from_camera[t],
        "intrinsics": scene.cameras.intrinsics[t],
        "solved": scene.cameras.solved[t],
    }


def write(sink: SceneSink, scene: Scene, frames: Any) -> None:
    for t in frames:
        sink.write_frame(t, **frame_of(scene, t))


def late_of(scene: Scene) -> dict[str, Any]:
    return {"moving": scene.tracking.moving, "moving_in_frames": iter(scene.reconstruction.moving)}


def arrays_of(scene: Scene) -> dict[str, Any]:
    return {
        "rgb": scene.rgb,
        "time_s": scene.time_s,
        **{f"tracking.{name}": value for name, value in vars(scene.tracking).items()},
        **{f"reconstruction.{name}": value for name, value in vars(scene.reconstruction).items()},
        **{f"cameras.{name}": value for name, value in vars(scene.cameras).items()},
    }


def assert_same(a: Scene, b: Scene) -> None:
    for (name, left), right in zip(arrays_of(a).items(), arrays_of(b).values()):
        assert (left is None) == (right is None), name
        if left is not None:
            assert left.dtype == right.dtype and left.shape == right.shape, name
            np.testing.assert_array_equal(np.asarray(left), np.asarray(right), err_msg=name)
    for name in ("anchor_index", "pixel_map", "source_size", "info"):
        assert getattr(a, name) == getattr(b, name), name


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# Round trip


def test_memory_to_folder_to_memory(tmp_path) -> None:
    scene = synthetic_scene()
    assert save_scene(scene, tmp_path / "out") == tmp_path / "out"
    for path in (tmp_path / "out", str(tmp_path / "out"), tmp_path / "out" / "scene.json", tmp_path / "out" / "scene.zarr"):
        assert_same(load_scene(path), scene)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["scene.json", "scene.zarr"]


def test_both_sinks_give_the_same(tmp_path) -> None:
    scene = synthetic_scene()
    for sink in (SceneBuffer(header_of(scene)), SceneWriter.create(tmp_path, header_of(scene))):
        write(sink, scene, [2, 0, 3, 1])
        assert_same(sink.finish(**late_of(scene)), scene)
        assert sink.complete and sink.frames_done.all()


def test_from_folder_to_folder_and_one_frame(tmp_path) -> None:
    scene = synthetic_scene(num_frames=1, height=1, width=1)
    save_scene(scene, tmp_path / "a")
    save_scene(load_scene(tmp_path / "a"), tmp_path / "b")
    assert_same(load_scene(tmp_path / "b"), scene)


def test_tracks_of_a_scene_on_disk(tmp_path) -> None:
    scene = synthetic_scene()
    save_scene(scene, tmp_path)
    query_px = np.array([[3.0, 7.0], [8.2, 11.9]])
    wanted, got = scene.tracks(query_px), load_scene(tmp_path).tracks(query_px)
    np.testing.assert_array_equal(got.points_world, wanted.points_world)
    np.testing.assert_array_equal(got.visible, wanted.visible)
    np.testing.assert_array_equal(got.visibility, wanted.visibility)
    assert ((wanted.visibility > 0.5) == wanted.visible).all()


def test_what_is_unknown_stays_unknown_and_truth_keeps_its_mask(tmp_path) -> None:
    scene = synthetic_scene()
    valid = scene.tracking.visible
    scene.tracking = TrackingOverTime(scene.tracking.points_world, valid=valid)
    scene.reconstruction = Pointmap(scene.reconstruction.points_world, valid=~valid)
    scene.cameras = Cameras(scene.cameras.world_from_camera, scene.cameras.intrinsics)
    save_scene(scene, tmp_path)
    assert_same(load_scene(tmp_path), scene)


def test_float16_on_request(tmp_path) -> None:
    scene = synthetic_scene()
    scene.tracking.points_world[0, 0, 0] = 1e6  # beyond float16
    save_scene(scene, tmp_path / "a", points_dtype="float16")
    loaded = load_scene(tmp_path / "a")
    assert loaded.tracking.points_world.dtype == np.float16 == loaded.reconstruction.points_world.dtype
    assert loaded.tracking.confidence.dtype == np.float32
    np.testing.assert_allclose(loaded.reconstruction.points_world, scene.reconstruction.points_world, rtol=1e-3, atol=1e-4)
    assert np.isinf(loaded.tracking.points_world[0, 0, 0]).all()
    save_scene(loaded, tmp_path / "b")
    assert_same(load_scene(tmp_path / "b"), loaded)


def test_results_are_kept_beside_the_options(tmp_path) -> None:
    scene = synthetic_scene()
    for sink in (SceneBuffer(header_of(scene)), SceneWriter.create(tmp_path, header_of(scene))):
        write(sink, scene, range(4))
        done = sink.finish(results={"focal_px": np.float32(8), "scale": (1.0, np.nan), "log": Path("a")})
        assert done.info == {**scene.info, "results": {"focal_px": 8.0, "scale": [1.0, None], "log": "a"}}
        assert done.tracking.moving is None and done.reconstruction.moving is None
    assert prepare_folder(tmp_path, header_of(scene)) == "done"


# On disk


def test_layout_on_disk(tmp_path) -> None:
    scene = synthetic_scene(num_frames=3)
    save_scene(scene, tmp_path)
    group = zarr.open_group(tmp_path / "scene.zarr", mode="r", zarr_format=3)
    expected = {
        "rgb": ("uint8", (3, 6, 8, 3), (1, 6, 8, 3)),
        "time_s": ("float64", (3,), (3,)),
        "tracking/points": ("float32", (3, 6, 8, 3), (1, 6, 8, 3)),
        "tracking/confidence": ("float32", (3, 6, 8), (1, 6, 8)),
        "tracking/visible": ("bool", (3, 6, 8), (1, 6, 8)),
        "tracking/visibility": ("float16", (3, 6, 8), (1, 6, 8)),
        "tracking/moving": ("bool", (6, 8), (6, 8)),
        "reconstruction/points": ("float32", (3, 6, 8, 3), (1, 6, 8, 3)),
        "reconstruction/confidence": ("float32", (3, 6, 8), (1, 6, 8)),
        "reconstruction/moving": ("bool", (3, 6, 8), (1, 6, 8)),
        "cameras/world_from_camera": ("float64", (3, 4, 4), (3, 4, 4)),
        "cameras/intrinsics": ("float64", (3, 3, 3), (3, 3, 3)),
        "cameras/solved": ("bool", (3,), (3,)),
    }
    found = {name: member for name, member in group.members(max_depth=None) if isinstance(member, zarr.Array)}
    assert {name: (str(array.dtype), array.shape, array.chunks) for name, array in found.items()} == expected
    assert all("ZstdCodec" in str(array.compressors) for array in found.values())
    data = json.loads((tmp_path / "scene.json").read_text())
    assert data["format_version"] == FORMAT_VERSION == 1 and data["status"] == "complete" and data["st4rtrack_version"]
    assert data["pixel_map"] == {"scale": [0.5, 0.5], "offset_px": [0.0, -1.5]} and data["source_size"] == [15, 16]
    assert set(data["arrays"]) == set(expected) and data["info"] == scene.info and data["anchor_index"] == 1


def test_small_arrays_have_large_chunks(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(arrays, "SMALL_CHUNK_FRAMES", 5)
    scene = synthetic_scene(num_frames=7, height=1, width=1)
    save_scene(scene, tmp_path)
    assert zarr.open_group(tmp_path / "scene.zarr", mode="r")["cameras/intrinsics"].chunks == (5, 3, 3)
    assert_same(load_scene(tmp_path), scene)


def test_opening_reads_no_maps(tmp_path, monkeypatch) -> None:
    save_scene(synthetic_scene(), tmp_path)
    read = []
    original = zarr.storage.LocalStore.get

    async def get(self, key, *args, **kwargs):
        read.append(key)
        return await original(self, key, *args, **kwargs)

    monkeypatch.setattr(zarr.storage.LocalStore, "get", get)
    scene = load_scene(tmp_path)
    assert isinstance(scene.rgb, LazyArray) and isinstance(scene.cameras.intrinsics, np.ndarray) and len(scene) == 4
    maps = ("rgb/c", "points/c", "confidence/c", "visible/c")
    assert not [key for key in read if any(name in key for name in maps)]
    read.clear()
    scene.tracking.points_world[2]
    assert read == ["tracking/points/c/2/0/0/0"]


# Killed and continued


@pytest.mark.parametrize("first", [[], [0], [0, 1], [3, 1], [0, 1, 2, 3]])
def test_a_killed_run_goes_on(tmp_path, first) -> None:
    scene = synthetic_scene()
    header = header_of(scene)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    save_scene(scene, whole)
    with SceneWriter.create(parts, header) as writer:
        write(writer, scene, first)
    writer = SceneWriter.create(parts, header)
    np.testing.assert_array_equal(np.flatnonzero(writer.frames_done), sorted(first))
    assert writer.first_missing_frame == next(t for t in range(5) if t not in first)
    for t in first:
        np.testing.assert_array_equal(writer.read("tracking_points", t), scene.tracking.points_world[t])
        np.testing.assert_array_equal(writer.read("world_from_camera", t), scene.cameras.world_from_camera[t])
    write(writer, scene, np.flatnonzero(~writer.frames_done))
    assert_same(writer.finish(**late_of(scene)), scene)
    assert content(parts) == content(whole)


def test_killed_while_writing_a_frame(tmp_path, monkeypatch) -> None:
    scene, header = synthetic_scene(), header_of(synthetic_scene())
    writer = SceneWriter.create(tmp_path, header)
    write(writer, scene, [0, 1])

    def killed(row: np.ndarray) -> None:
        with (tmp_path / "frames.journal").open("ab") as journal:
            journal.write(row.tobytes()[:10])
        raise KeyboardInterrupt

    monkeypatch.setattr(writer, "_mark_done", killed)
    with pytest.raises(KeyboardInterrupt):
        write(writer, scene, [2])
    assert writer.first_missing_frame == 2
    writer.close()
    torn = tmp_path / "scene.zarr/rgb/c/2/0/0/0.partial"
    torn.write_bytes(b"the beginning of a chunk")
    writer = SceneWriter.create(tmp_path, header)
    assert writer.first_missing_frame == 2 and not torn.exists()
    write(writer, scene, [2])
    writer.close()
    writer = SceneWriter.create(tmp_path, header)  # the torn record is gone, the next one lines up
    assert writer.first_missing_frame == 3
    write(writer, scene, [3])
    assert_same(writer.finish(**late_of(scene)), scene)


def test_killed_while_finishing(tmp_path, monkeypatch) -> None:
    scene, header = synthetic_scene(), header_of(synthetic_scene())
    writer = SceneWriter.create(tmp_path, header)
    write(writer, scene, range(4))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "replace", _killed_at_scene_json)
        writer.finish()
    with pytest.raises(UserError, match="incomplete"):
        load_scene(tmp_path)
    writer.close()
    writer = SceneWriter.create(tmp_path, header)
    assert writer.first_missing_frame == 4 and not writer.complete
    assert_same(writer.finish(**late_of(scene)), scene)


def _killed(*args: Any) -> None:
    raise KeyboardInterrupt


def _killed_at_scene_json(path: Path, target: Path) -> Path:
    if Path(target).name == "scene.json":
        raise KeyboardInterrupt
    return path.rename(target)  # zarr's own files


def test_killed_while_the_masks_of_motion_are_written(tmp_path) -> None:
    scene = synthetic_scene()
    writer = SceneWriter.create(tmp_path, header_of(scene))
    write(writer, scene, range(4))

    def masks() -> Iterator[np.ndarray]:
        yield from scene.reconstruction.moving[:2]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        writer.finish(moving=scene.tracking.moving, moving_in_frames=masks())
    writer.close()
    again = SceneWriter.create(tmp_path, header_of(scene))
    assert again.frames_done.all() and not again.complete
    assert_same(again.finish(**late_of(scene)), scene)


def test_a_mask_of_motion_for_every_frame(tmp_path) -> None:
    scene = synthetic_scene()
    for sink in (SceneBuffer(header_of(scene)), SceneWriter.create(tmp_path, header_of(scene))):
        write(sink, scene, range(4))
        with pytest.raises(ValueError, match="shorter"):
            sink.finish(moving_in_frames=scene.reconstruction.moving[:3])
        assert not sink.complete


def test_a_scene_without_probabilities_is_read(tmp_path) -> None:
    scene = synthetic_scene()
    scene.tracking.visibility = None
    save_scene(scene, tmp_path)
    found = load_scene(tmp_path)
    assert found.tracking.visibility is None
    assert found.tracks(np.array([[3.0, 7.0]])).visibility is None


def test_load_scene_with_visibility_under_its_former_name_gives_the_same(tmp_path) -> None:
    scene = synthetic_scene()
    scene.anchors = {2: dataclasses.replace(scene.tracking, valid=np.ones(scene.rgb.shape[:3], bool))}
    save_scene(scene, tmp_path)
    for folder in (tmp_path / "scene.zarr/tracking", tmp_path / "scene.zarr/anchors/000002"):
        (folder / "visibility").rename(folder / "visible_probability")
    text = (tmp_path / "scene.json").read_text()
    (tmp_path / "scene.json").write_text(text.replace("tracking/visibility", "tracking/visible_probability"))
    loaded = load_scene(tmp_path)
    np.testing.assert_array_equal(loaded.tracking.visibility, scene.tracking.visibility)
    np.testing.assert_array_equal(loaded.anchors[2].visibility, scene.tracking.visibility)
    assert prepare_folder(tmp_path, header_of(scene)) == "done"


def test_killed_while_replacing_an_old_scene(tmp_path, monkeypatch) -> None:
    scene, header = synthetic_scene(), header_of(synthetic_scene())
    save_scene(scene, tmp_path)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shutil, "rmtree", _killed)
        prepare_folder(tmp_path, header, overwrite=True)
    with pytest.raises(UserError, match="incomplete"):
        load_scene(tmp_path)
    assert SceneWriter.create(tmp_path, header).first_missing_frame == 0


def test_scene_json_is_replaced_in_one_step(tmp_path, monkeypatch) -> None:
    scene, header = synthetic_scene(), header_of(synthetic_scene())
    writer = SceneWriter.create(tmp_path, header)
    write(writer, scene, range(4))
    before = (tmp_path / "scene.json").read_bytes()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Path, "replace", _killed_at_scene_json)
        writer.finish()
    assert (tmp_path / "scene.json").read_bytes() == before
    writer.finish()
    assert not list(tmp_path.glob(".*"))


# What may be written where


def test_a_complete_scene_is_done(tmp_path) -> None:
    scene, header = synthetic_scene(), header_of(synthetic_scene())
    save_scene(scene, tmp_path)
    before = content(tmp_path)
    assert prepare_folder(tmp_path, header) == "done"
    writer = SceneWriter.create(tmp_path, header)
    assert writer.complete and writer.first_missing_frame == 4
    np.testing.assert_array_equal(writer.read("intrinsics", 2), scene.cameras.intrinsics[2])
    assert_same(writer.finish(), scene)
    with pytest.raises(RuntimeError, match="complete"):
        write(writer, scene, [0])
    assert content(tmp_path) == before


def test_new_folders(tmp_path) -> None:
    header = header_of(synthetic_scene())
    assert prepare_folder(tmp_path / "a" / "b", header) == "new" and (tmp_path / "a" / "b").is_dir()
    for name in (".DS_Store", ".scene.json.tmp"):
        (tmp_path / "a" / "b" / name).write_text("")
        assert prepare_folder(tmp_path / "a" / "b", header) == "new"


@pytest.mark.parametrize("complete", [True, False])
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"info": {"options": {"size": 9}}},
            r"with --model tiny \(abc\), --refine, --size 8, .* has --model None \(None\), --no-refine, --size 9;",
        ),
        ({"info": {**synthetic_scene().info, "options": {"size": 9, "refine": True}}}, "with --size 8, this run has --size 9;"),
        (
            {"info": {**synthetic_scene().info, "model": {"name": "tiny", "hash": "b"}}},
            r"--model tiny \(abc\), this run has --model tiny \(b\)",
        ),
        ({"num_frames": 5}, "with 4 frames, this run has 5 frames;"),
        (
            {"anchor_index": 2, "info": {**synthetic_scene().info, "options": {"size": 9, "refine": True}}},
            "--anchor 1, --size 8,",
        ),
        ({"anchor_index": 2}, "with --anchor 1, this run has --anchor 2;"),
        ({"points_dtype": "float16"}, "--dtype-points float32"),
        ({"fields": tuple(spec.field for spec in ARRAYS)}, "arrays"),
    ],
)
def test_other_options_are_refused_by_name(tmp_path, complete, changes, message) -> None:
    scene = synthetic_scene()
    writer = SceneWriter.create(tmp_path, header_of(scene))
    write(writer, scene, range(4))
    if complete:
        writer.finish()
    before = content(tmp_path)
    with pytest.raises(UserError, match=message) as error:
        prepare_folder(tmp_path, header_of(scene, **changes))
    assert "--overwrite" in str(error.value) and content(tmp_path) == before


def test_half_a_scene_of_another_version_is_not_continued(tmp_path, monkeypatch) -> None:
    header = header_of(synthetic_scene())
    SceneWriter.create(tmp_path, header)
    monkeypatch.setattr("st4rtrack.__version__", "99.0")
    with pytest.raises(UserError, match="incomplete scene of st4rtrack"):
        prepare_folder(tmp_path, header)


def test_foreign_things_are_refused_and_never_touched(tmp_path) -> None:
    scene = synthetic_scene()
    header = header_of(scene)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "overview.png").write_text("mine too")
    with pytest.raises(UserError, match=r"notes\.txt, overview\.png"):
        prepare_folder(tmp_path, header)
    with pytest.raises(UserError, match="is a file"):
        prepare_folder(tmp_path / "notes.txt", header, overwrite=True)
    with pytest.raises(UserError, match="cannot be made"):
        prepare_folder(tmp_path / "notes.txt" / "a", header)
    before = content(tmp_path)
    assert prepare_folder(tmp_path, header, overwrite=True) == "new"
    assert content(tmp_path) == before
    save_scene(scene, tmp_path, overwrite=True)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    save_scene(scene, tmp_path, overwrite=True)  # now the folder is a scene, and its overview of it
    assert (tmp_path / "notes.txt").exists() and not (tmp_path / "overview.png").exists()


@pytest.mark.parametrize("name", ["scene.json", "scene.zarr"])
def test_what_may_be_someone_elses_is_not_overwritten(tmp_path, name) -> None:
    (tmp_path / name).write_text('{"mine": 1}')
    for overwrite in (False, True):
        with pytest.raises(UserError, match=name):
            prepare_folder(tmp_path, header_of(synthetic_scene()), overwrite=overwrite)
    assert (tmp_path / name).read_text() == '{"mine": 1}'


def test_overwrite_starts_anew(tmp_path) -> None:
    old, new = synthetic_scene(), synthetic_scene(num_frames=2, seed=1)
    save_scene(old, tmp_path)
    with pytest.raises(UserError, match="4 frames, this run has 2 frames"):
        save_scene(new, tmp_path)
    with pytest.raises(UserError, match="already holds a scene"):
        save_scene(old, tmp_path)
    assert_same(load_scene(tmp_path), old)
    save_scene(new, tmp_path, overwrite=True)
    assert_same(load_scene(tmp_path), new)
    assert SceneWriter.create(tmp_path, header_of(new), overwrite=True).first_missing_frame == 0


def test_a_scene_is_not_saved_over_the_folder_it_is_read_from(tmp_path) -> None:
    scene = synthetic_scene()
    save_scene(scene, tmp_path)
    with pytest.raises(UserError, match="read from"):
        save_scene(load_scene(tmp_path), tmp_path / "x" / "..", overwrite=True)
    assert_same(load_scene(tmp_path), scene)


# Mistakes and damage


def test_loading_what_is_no_scene(tmp_path) -> None:
    for path, message in [(tmp_path / "nothing", "there is no scene"), (tmp_path, "is not a scene")]:
        with pytest.raises(UserError, match=message):
            load_scene(path)
    video = tmp_path / "video.mp4"
    video.write_bytes(b"")
    with pytest.raises(UserError, match="is not a scene"):
        load_scene(video)


def test_loading_an_incomplete_scene_says_how_to_go_on(tmp_path) -> None:
    scene = synthetic_scene()
    write(SceneWriter.create(tmp_path, header_of(scene)), scene, [0, 2])
    with pytest.raises(UserError, match=r"incomplete \(2 of 4 frames\); repeat the st4rtrack run command that made it"):
        load_scene(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 2}, "upgrade"),
        ({"format": "other"}, "not written by st4rtrack"),
        ({"format_version": "x"}, "not written by st4rtrack"),
        ({"num_frames": None}, "damaged"),
        ({"num_frames": 0}, "damaged"),
        ({"num_frames": 5}, "damaged.*rgb"),
        ({"pixel_map": {}}, "damaged"),
        ({"arrays": []}, "damaged"),
    ],
)
def test_loading_what_scene_json_does_not_describe(tmp_path, changes, message) -> None:
    save_scene(synthetic_scene(), tmp_path)
    data = json.loads((tmp_path / "scene.json").read_text())
    (tmp_path / "scene.json").write_text(json.dumps({**data, **changes}))
    with pytest.raises(UserError, match=message):
        load_scene(tmp_path)
    if message in ("upgrade", "not written by st4rtrack"):
        with pytest.raises(UserError, match=f"{message}.*--overwrite"):
            prepare_folder(tmp_path, header_of(synthetic_scene()))


@pytest.mark.parametrize("text", ["", "{", "[]", "\x00\x00"])
def test_loading_a_corrupt_scene_json(tmp_path, text) -> None:
    save_scene(synthetic_scene(), tmp_path)
    (tmp_path / "scene.json").write_text(text)
    with pytest.raises(UserError, match=r"scene\.json"):
        load_scene(tmp_path)
    with pytest.raises(UserError, match="--overwrite"):
        prepare_folder(tmp_path, header_of(synthetic_scene()))


@pytest.mark.parametrize(
    "name", ["", "tracking/points", "tracking/moving", "reconstruction/moving", "cameras/intrinsics", "time_s"]
)
def test_loading_with_arrays_missing(tmp_path, name) -> None:
    save_scene(synthetic_scene(), tmp_path)
    (tmp_path / "scene.zarr" / name).rename(tmp_path / "elsewhere")
    with pytest.raises(UserError, match=f"damaged: .*{name}"):
        load_scene(tmp_path)


@pytest.mark.parametrize("name", ["cameras/intrinsics", "cameras/world_from_camera"])
@pytest.mark.parametrize(("value", "message"), [(0.0, "are missing"), (np.nan, "are not finite")])
def test_loading_cameras_that_are_none(tmp_path, name, value, message) -> None:
    save_scene(synthetic_scene(), tmp_path)
    zarr.open_group(tmp_path / "scene.zarr", mode="r+")[name][2] = value
    with pytest.raises(UserError, match=f"damaged: values of the array {name} {message}"):
        load_scene(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rgb": np.zeros((6, 8), np.uint8)}, r"rgb must be \[6, 8, 3\] uint8, got \[6, 8\]"),
        ({"rgb": np.zeros((6, 8, 3))}, "rgb must be .* got .* float64"),
        ({"intrinsics": np.eye(4)}, "intrinsics"),
        ({"visible": np.ones((6, 8))}, "visible"),
        ({"depth": np.ones((6, 8))}, "a frame needs"),
    ],
)
def test_wrong_frames_are_refused_before_anything_is_written(tmp_path, changes, message) -> None:
    scene = synthetic_scene()
    for sink in (SceneBuffer(header_of(scene)), SceneWriter.create(tmp_path, header_of(scene))):
        with pytest.raises(ValueError, match=message):
            sink.write_frame(0, **{**frame_of(scene, 0), **changes})
        with pytest.raises(ValueError, match="frame 4 is not one of 4"):
            sink.write_frame(4, **frame_of(scene, 0))
        with pytest.raises(ValueError, match="frame 0 of 4 is not written"):
            sink.finish()
        with pytest.raises(ValueError, match="frame 0 is not written"):
            sink.read("rgb", 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_frames": 0, "anchor_index": 0}, "needs frames with pixels, got 0 of 6 x 8"),
        ({"height": 0}, "needs frames with pixels"),
        ({"anchor_index": 4}, "anchor_index 4 is not one of 4"),
        ({"points_dtype": "int8"}, "points_dtype is float32 or float16"),
        ({"fields": ("rgb",)}, "fields must hold"),
    ],
)
def test_wrong_headers(changes, message) -> None:
    with pytest.raises(ValueError, match=message):
        header_of(synthetic_scene(), **changes)


def test_a_scene_without_confidence_says_that_it_has_no_tracks(tmp_path) -> None:
    scene = synthetic_scene()
    save_scene(dataclasses.replace(scene, tracking=dataclasses.replace(scene.tracking, confidence=None)), tmp_path)
    with pytest.raises(UserError, match="no visibility or confidence"):
        load_scene(tmp_path).tracks(np.array([[3.0, 3.0]]))
