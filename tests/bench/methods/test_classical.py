"""The classical baseline on the rendered walk."""

import logging
from pathlib import Path

import numpy as np
import pytest

from st4rtrack.bench.methods import classical
from st4rtrack.bench.methods.classical import predict_sequence
from st4rtrack.bench.protocol import CORRECTED
from st4rtrack.bench.score import score_sequence
from st4rtrack.classical.structure_from_motion import SparseScene
from st4rtrack.geometry.camera import intrinsics_from_focal, unproject
from st4rtrack.geometry.transforms import invert_rigid, transform_points
from st4rtrack.io.worldtrack import WorldTrackSequence, encode_jpeg, read_worldtrack, write_worldtrack
from tests.classical.test_classical import QUERIES
from tests.moving_camera import HEIGHT, INTRINSICS, WIDTH, points_on_walls, walk

pytest.importorskip("pycolmap")


def written(path: Path, *, moves: bool) -> WorldTrackSequence:
    clip = walk(16, moves=moves)
    camera_from_world = invert_rigid(clip.world_from_camera)
    tracks = transform_points(camera_from_world, np.broadcast_to(points_on_walls(QUERIES), (16, len(QUERIES), 3)))
    write_worldtrack(
        path,
        images_jpeg=[encode_jpeg(image) for image in clip.rgb],
        fx_fy_cx_cy=np.array([INTRINSICS[0, 0], INTRINSICS[1, 1], INTRINSICS[0, 2], INTRINSICS[1, 2]]),
        camera_from_world=camera_from_world,
        visibility=np.arange(len(QUERIES)) % 7 > 0 * np.ones((16, 1)),
        tracks_camera=tracks,
    )
    return read_worldtrack(path)


def test_a_static_world_is_known(tmp_path: Path) -> None:
    sequence = written(tmp_path / "walk.npz", moves=True)
    assert sequence.visible is not None
    prediction = predict_sequence(sequence)
    assert prediction.tracks_world is not None and prediction.reconstruction_world is not None
    assert np.isfinite(prediction.tracks_world).all(axis=(0, 2)).tolist() == sequence.visible[0].tolist()
    row = score_sequence(sequence, prediction, CORRECTED)
    # two parallel walls say little about the focal length, which bends the world: a similarity forgives most of that
    assert row["tracking"]["all"]["sim3"]["apd"] > 90 and row["tracking"]["all"]["median"]["epe"] < 0.5
    assert row["cameras"]["ate"] < 0.03 and row["cameras"]["rpe_rotation"] < 0.3
    assert prediction.reconstruction_world.shape[0] == 16 and np.isfinite(prediction.reconstruction_world).all()


def test_a_fixed_camera_is_said_and_a_plane_stands_in(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sequence = written(tmp_path / "still.npz", moves=False)
    with caplog.at_level(logging.WARNING):
        prediction = predict_sequence(sequence)
    assert "still" in caplog.text and "parallax" in caplog.text and "plane" in caplog.text
    assert prediction.tracks_world is not None and sequence.visible is not None
    guess = intrinsics_from_focal(0.9 * WIDTH, HEIGHT, WIDTH)
    seen = sequence.visible[0]
    plane = unproject(sequence.query_px[seen], np.ones(seen.sum()), guess)
    np.testing.assert_allclose(prediction.tracks_world[9, seen], plane, atol=1e-6)


def test_cameras_without_static_points_are_said_and_a_plane_stands_in(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    sequence = written(tmp_path / "no_parallax.npz", moves=True)
    same_place = SparseScene(np.tile(np.eye(4), (16, 1, 1)), INTRINSICS, np.zeros((0, 3)))
    monkeypatch.setattr(classical, "find_cameras", lambda *_: same_place)
    with caplog.at_level(logging.WARNING):
        prediction = predict_sequence(sequence)
    assert "no_parallax" in caplog.text and "static points" in caplog.text and "plane" in caplog.text
    assert prediction.tracks_world is not None and sequence.visible is not None
    assert (prediction.tracks_world[:, sequence.visible[0], 2] == 1).all()
