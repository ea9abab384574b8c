"""The `.npz`, read back by the benchmark."""

import json

import numpy as np

from st4rtrack.io.formats.tracks import write_tapvid3d
from st4rtrack.io.scene import save_scene
from st4rtrack.io.worldtrack import read_worldtrack
from tests.conftest import Run
from tests.io.formats.exact_scene import SOURCE_SIZE, exact_scene, source_px


def test_the_reader_of_the_benchmark_gets_the_scene(tmp_path) -> None:
    scene = exact_scene(tmp_path)
    write_tapvid3d(scene, tmp_path / "a.npz", max_tracks=100)
    sequence = read_worldtrack(tmp_path / "a.npz")
    assert len(sequence) == len(scene) and (sequence.video.height, sequence.video.width) == SOURCE_SIZE
    # its world is the camera of its first frame
    world_from_theirs = np.asarray(scene.cameras.world_from_camera[0])
    cameras = world_from_theirs @ sequence.world_from_camera
    np.testing.assert_allclose(cameras, scene.cameras.world_from_camera, atol=1e-9)
    tracks = sequence.tracks_world @ world_from_theirs[:3, :3].T + world_from_theirs[:3, 3]
    anchor_source_px = source_px(scene, scene.anchor_index, tracks[scene.anchor_index])
    anchor_px = scene.pixel_map.network_from_source(anchor_source_px)
    assert 30 < tracks.shape[1] <= 100
    column, row = np.floor(anchor_px).astype(int).T
    np.testing.assert_allclose(anchor_px, np.stack([column, row], axis=1) + 0.5, atol=1e-4)
    np.testing.assert_allclose(tracks, scene.tracking.points_world[:, row, column], atol=1e-5)
    queries = np.load(tmp_path / "a.npz")["queries_xyt"]
    np.testing.assert_allclose(queries[:, :2], anchor_source_px, atol=1e-3)
    np.testing.assert_array_equal(queries[:, 2], scene.anchor_index)
    np.testing.assert_array_equal(sequence.visible, scene.tracking.visible[:, row, column])


def test_the_benchmark_predicts_and_scores_it(tmp_path, run: Run) -> None:
    save_scene(exact_scene(tmp_path, anchor_index=0), "scene")
    assert run("export", "scene", "tapvid3d", "-o", "data/one.npz")[0] == 0
    assert run("bench", "predict", "--data", "data", "-o", "p", "--method", "plane")[0] == 0
    code, said = run("bench", "score", "--data", "data", "--predictions", "p", "-o", "s.json")
    assert code == 0, said
    with open("s.json") as file:  # noqa: PTH123
        assert json.load(file)["sequences"]["one"]["tracking"]["all"]["median"]["apd"] > 0
