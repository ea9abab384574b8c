"""Anchors added to a walk whose truth is known, by a network that errs; no network is run but in the last test."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from st4rtrack.geometry.sampling import nearest_pixel, sample_map
from st4rtrack.io.scene import SceneSink, SceneWriter, load_scene
from st4rtrack.model.checkpoint import load_model
from st4rtrack.pipeline.anchors import add_anchors
from st4rtrack.pipeline.reconstruct import reconstruct
from st4rtrack.scene import Scene
from st4rtrack.types import TwoPointmaps
from tests.pipeline.walk import HEIGHT, WIDTH, ErringNetwork, Walk, first_pass, header

QUIET = {"noise": 0.002, "outliers": 0.0}


@pytest.fixture(scope="module")
def walked() -> tuple[Walk, Scene]:
    walk = Walk(40, speed=0.1)
    network = ErringNetwork(walk, **QUIET)
    sink = first_pass(network)
    return walk, sink.finish(results=add_anchors(network, sink))


def truth_at(walk: Walk, frame: int, query_px: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """True tracks [time, points, 3] of places of a frame, and which places lie within one surface."""
    points, moving = walk.shown(frame)
    pixel = nearest_pixel(query_px, HEIGHT, WIDTH)
    start = sample_map(points, query_px)
    inside = np.linalg.norm(start - points[pixel], axis=-1) < 0.15
    return np.stack([walk.moved(start, moving[pixel], frame, t) for t in range(walk.num_frames)]), inside


@pytest.mark.parametrize("frame", [7, 20, 39])
def test_queries_of_any_frame_follow_the_truth(walked: tuple[Walk, Scene], frame: int) -> None:
    walk, scene = walked
    query_px = np.random.default_rng(frame).uniform((1, 1), (WIDTH - 1, HEIGHT - 1), (300, 2))
    tracks = scene.tracks(query_px, frame=frame)
    truth, inside = truth_at(walk, frame, query_px)
    assert tracks.tracked is not None and tracks.frame == frame
    assert (tracks.tracked.sum(axis=0) > 1).mean() >= 0.99
    error = np.linalg.norm(tracks.points_world - truth, axis=-1)[tracks.tracked & inside]
    assert np.median(error) < 0.02 and np.quantile(error, 0.9) < 0.1  # the wall is four units away
    assert tracks.visible[frame].all() and np.isfinite(tracks.points_world).all()


def test_what_moves_is_followed_from_a_frame_in_between(walked: tuple[Walk, Scene]) -> None:
    walk, scene = walked
    points, moving = walk.shown(20)
    rows, columns = np.nonzero(moving)
    query_px = np.stack([columns, rows], axis=-1) + 0.5
    tracks = scene.tracks(query_px, frame=20)
    truth = np.stack([walk.moved(points[rows, columns], np.ones(len(rows), bool), 20, t) for t in range(len(scene))])
    error = np.linalg.norm(tracks.points_world - truth, axis=-1)
    assert len(rows) > 10 and np.median(error) < 0.03
    assert np.median(np.linalg.norm(truth[0] - truth[-1], axis=-1)) > 1


def test_every_pixel_of_every_frame_belongs_to_a_track(walked: tuple[Walk, Scene]) -> None:
    _, scene = walked
    results = scene.info["results"]
    assert results["coverage"]["mean"] >= 0.99
    assert sorted(scene.anchors) == sorted(record["frame"] for record in results["anchors"])
    for record in results["anchors"]:
        assert record["drift_percent"] < 1
        maps = scene.anchors[record["frame"]]
        assert np.asarray(maps.valid[record["frame"]]).mean() == pytest.approx(record["new"])
        outside = record["first"] - 1 if record["first"] > 0 else record["last"] + 1
        if outside < len(scene):
            assert np.isnan(maps.points_world[outside]).all() and not maps.valid[outside].any()


def test_content_that_an_earlier_anchor_tracks_is_not_tracked_again(walked: tuple[Walk, Scene]) -> None:
    _, scene = walked
    first = next(iter(scene.anchors))
    known = ~np.asarray(scene.anchors[first].valid[first])
    seen = np.asarray(scene.tracking.visible[first]).mean()
    assert known.mean() > 0.5 * seen


def test_a_camera_that_stands_still_needs_no_further_anchor() -> None:
    walk = Walk(5, speed=0.0)
    walk.camera = lambda t: np.eye(4)  # type: ignore[method-assign]
    walk.disc = lambda t: np.array([0.5, 0.0])  # type: ignore[method-assign]
    network = ErringNetwork(walk, **QUIET)
    sink = first_pass(network)
    before = network.predicted
    results = add_anchors(network, sink)
    assert results["anchors"] == [] and network.predicted == before


def test_pairs_that_agree_with_nothing_end_no_run() -> None:
    walk = Walk(5, speed=0.5)
    sink = first_pass(ErringNetwork(walk, **QUIET))
    results = add_anchors(ErringNetwork(walk, noise=2.0), sink)
    scene = sink.finish(results=results)
    assert results["anchors"] and results["pairs_per_frame"] <= 5
    tracks = scene.tracks(np.array([[31.0, 12.0], [16.0, 12.0]]), frame=4)
    assert np.isfinite(tracks.points_world).all() and tracks.visible[4].all()


class Killed(Exception):
    pass


class Killing(ErringNetwork):
    """Stops the run before the last of so many pairs."""

    most = 0

    def along(self, anchor: int, step: int) -> Iterator[tuple[int, TwoPointmaps]]:
        for pair in super().along(anchor, step):
            if self.predicted >= self.most:
                raise Killed
            yield pair


def test_a_killed_run_keeps_whole_anchors_and_gives_the_same_scene(tmp_path: Path, walked: tuple[Walk, Scene]) -> None:
    walk, whole = walked

    def sink(folder: str) -> SceneSink:
        return SceneWriter.create(tmp_path / folder, header(walk.num_frames))

    killed = first_pass(ErringNetwork(walk, **QUIET), sink("scene"))
    killing = Killing(walk, **QUIET)
    killing.most = sum(record["pairs"] for record in whole.info["results"]["anchors"])
    with pytest.raises(Killed):
        add_anchors(killing, killed)
    killed.close()
    again = sink("scene")
    assert 0 < len(again.anchors.frames) < len(whole.anchors)
    network = ErringNetwork(walk, **QUIET)
    again.finish(results=add_anchors(network, again))
    scene = load_scene(tmp_path / "scene")
    assert list(scene.anchors) == list(whole.anchors)
    assert scene.info["results"] == whole.info["results"]
    for frame, maps in scene.anchors.items():
        np.testing.assert_array_equal(maps.points_world, whole.anchors[frame].points_world)
        np.testing.assert_array_equal(maps.visible, whole.anchors[frame].visible)
        np.testing.assert_array_equal(maps.visibility, whole.anchors[frame].visibility)
        assert (np.asarray(maps.visible) == (np.asarray(maps.visibility) > 0.5)).all()
    assert not (tmp_path / "scene" / "anchors.journal").exists()


def test_the_embedded_model_adds_anchors_to_a_video(tmp_path: Path) -> None:
    model = load_model(device="cpu", dtype="float32")
    rng = np.random.default_rng(0)
    wide = np.kron(rng.integers(0, 255, (16, 40, 3), dtype=np.uint8), np.ones((6, 6, 1), np.uint8))
    video = np.stack([wide[:, 8 * t : 8 * t + 128] for t in range(4)])
    scene = reconstruct(video, model=model, size=128, anchor="auto", output=tmp_path / "scene")
    assert scene.anchor_index == 0 and scene.anchors
    results = scene.info["results"]
    assert results["coverage"]["mean"] > 0.95 and results["pairs_per_frame"] > 0
    last = scene.tracks(np.array([[120.0, 40.0]]), frame=3)  # was not in sight of the first frame
    assert np.isfinite(last.points_world).all() and last.visible[3, 0]
    again = reconstruct(video, model=model, size=128, anchor="auto", output=tmp_path / "scene")
    assert list(again.anchors) == list(scene.anchors)
