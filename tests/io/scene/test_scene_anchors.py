import json
from pathlib import Path

import numpy as np
import pytest
import zarr

from st4rtrack.io.scene import SceneHeader, SceneWriter, load_scene, save_scene
from st4rtrack.io.scene.anchors import AnchorStore
from st4rtrack.scene import Scene
from st4rtrack.types import TrackingOverTime, UserError
from tests.synthetic_scene import synthetic_scene

ANCHOR, FIRST, LAST = 3, 2, 3


def scene_with_anchor() -> Scene:
    """A scene whose frame 3 is an anchor too, followed in frames 2 and 3."""
    scene = synthetic_scene()
    rng = np.random.default_rng(1)
    shape = scene.tracking.confidence.shape
    points = np.full((*shape, 3), np.nan, np.float32)
    points[FIRST : LAST + 1] = rng.normal(0, 1, points[FIRST : LAST + 1].shape)
    valid = np.isfinite(points[..., 0]) & (rng.random(shape[1:]) < 0.5)
    likely = np.where(valid, rng.random(shape), 0).astype(np.float16)
    scene.anchors[ANCHOR] = TrackingOverTime(
        points, np.where(valid, 2.0, 0.0).astype(np.float32), valid, visible=likely > 0.5, visibility=likely
    )
    return scene


def assert_same_anchors(a: Scene, b: Scene) -> None:
    assert list(a.anchors) == list(b.anchors)
    for frame, maps in a.anchors.items():
        for name in ("points_world", "confidence", "valid", "visible", "visibility"):
            np.testing.assert_array_equal(np.asarray(getattr(maps, name)), np.asarray(getattr(b.anchors[frame], name)))


def test_anchors_come_back_from_a_folder_and_from_a_copy_of_it(tmp_path: Path) -> None:
    scene = scene_with_anchor()
    save_scene(scene, tmp_path / "a")
    save_scene(load_scene(tmp_path / "a"), tmp_path / "b")
    for folder in "ab":
        assert_same_anchors(load_scene(tmp_path / folder), scene)
    stored = tmp_path / "a" / "scene.zarr" / "anchors" / f"{ANCHOR:06d}" / "points" / "c"
    assert sorted(path.name for path in stored.iterdir()) == [str(FIRST), str(LAST)]  # only what is followed costs anything


def test_anchors_of_earlier_versions_have_no_probability(tmp_path: Path) -> None:
    scene = scene_with_anchor()
    scene.anchors[ANCHOR].visibility = None
    save_scene(scene, tmp_path / "scene")
    loaded = load_scene(tmp_path / "scene")
    assert loaded.anchors[ANCHOR].visibility is None
    pixel = np.argwhere(np.asarray(scene.anchors[ANCHOR].visible[ANCHOR]))[0][::-1] + 0.5
    query_px = scene.pixel_map.source_from_network(pixel[None])
    assert loaded.tracks(query_px, frame=ANCHOR).points_world.shape == (len(scene), 1, 3)


def test_a_scene_without_anchors_says_nothing_of_them(tmp_path: Path) -> None:
    save_scene(synthetic_scene(), tmp_path / "scene")
    assert "anchors" not in json.loads((tmp_path / "scene" / "scene.json").read_text())
    assert load_scene(tmp_path / "scene").anchors == {}


def test_a_missing_array_of_an_anchor_is_named(tmp_path: Path) -> None:
    save_scene(scene_with_anchor(), tmp_path / "scene")
    (tmp_path / "scene" / "scene.zarr" / "anchors" / f"{ANCHOR:06d}" / "valid" / "zarr.json").unlink()
    with pytest.raises(UserError, match=r"anchors/000003/valid"):
        load_scene(tmp_path / "scene")


def test_what_is_replaced_leaves_no_anchor_behind(tmp_path: Path) -> None:
    save_scene(scene_with_anchor(), tmp_path / "scene")
    save_scene(synthetic_scene(), tmp_path / "scene", overwrite=True)
    assert load_scene(tmp_path / "scene").anchors == {}
    assert not (tmp_path / "scene" / "scene.zarr" / "anchors").exists()


def test_anchors_that_are_whole_survive_a_kill_in_the_middle_of_a_record(tmp_path: Path) -> None:
    header = SceneHeader(4, 6, 8)
    group = zarr.open_group(store=tmp_path / "scene.zarr", mode="w", zarr_format=3)
    store = AnchorStore(group, header, tmp_path)
    ones = np.ones((6, 8), bool)
    for anchor in (1, 3):
        store.write(anchor, anchor, points=np.full((6, 8, 3), anchor), confidence=ones, visible=ones, valid=ones)
    store.close(1, {"pairs": 7})
    with (tmp_path / "anchors.journal").open("a") as journal:
        journal.write('{"frame": 3, "pa')
    again = AnchorStore(group, header, tmp_path, resume=True)
    assert again.records == [{"frame": 1, "pairs": 7}]
    again.close(2, {})
    assert (tmp_path / "anchors.journal").read_text().count("\n") == 2
    assert list(again.maps(1).points_world[1][0, 0]) == [1, 1, 1]


def test_a_finished_writer_loads_its_anchors(tmp_path: Path) -> None:
    scene = synthetic_scene()
    save_scene(scene_with_anchor(), tmp_path / "scene")
    found = json.loads((tmp_path / "scene" / "scene.json").read_text())
    assert found["anchors"] == [ANCHOR]
    header = SceneHeader(4, 6, 8, scene.anchor_index, scene.pixel_map, scene.source_size, scene.info)
    writer = SceneWriter.create(tmp_path / "scene", header)
    assert writer.complete and list(writer.finish().anchors) == [ANCHOR]
