"""Prediction files: what is written is read, and what is not the sequence's is refused by name."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from st4rtrack.bench.methods.bounds import plane_prediction
from st4rtrack.bench.predictions import Prediction, read_prediction, write_prediction
from st4rtrack.geometry.camera import unproject
from st4rtrack.io.worldtrack import WorldTrackSequence
from st4rtrack.types import UserError
from tests.worldtrack_data import write_sequence


@pytest.fixture(scope="module")
def sequence(tmp_path_factory: pytest.TempPathFactory) -> WorldTrackSequence:
    return replace(write_sequence(tmp_path_factory.mktemp("data") / "one.npz", points=300), name="set/one")


def written(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)  # pyright: ignore[reportArgumentType]
    return path


def test_round_trip(tmp_path: Path, sequence: WorldTrackSequence) -> None:
    prediction = plane_prediction(sequence, sequence.intrinsics)
    write_prediction(tmp_path / "a" / "one.npz", prediction)
    read = read_prediction(tmp_path / "a" / "one.npz", sequence)
    given = [field for field in fields(Prediction) if getattr(prediction, field.name) is not None]
    assert len(given) == 5 and all(getattr(read, field.name) is None for field in fields(Prediction) if field not in given)
    for field in given:
        np.testing.assert_allclose(getattr(read, field.name), getattr(prediction, field.name), rtol=1e-6)
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["one.npz"]


def test_read_prediction_takes_visibility_under_its_former_name(tmp_path: Path, sequence: WorldTrackSequence) -> None:
    assert sequence.tracks_world is not None
    likely = np.full(sequence.tracks_world.shape[:2], 0.25)
    path = written(tmp_path / "p.npz", tracks_world=sequence.tracks_world, visible_probability=likely)
    np.testing.assert_array_equal(read_prediction(path, sequence).visibility, likely)


def test_more_frames_than_are_evaluated_are_cut(tmp_path: Path, sequence: WorldTrackSequence) -> None:
    assert sequence.tracks_world is not None
    longer = np.concatenate([sequence.tracks_world, sequence.tracks_world])
    read = read_prediction(written(tmp_path / "p.npz", tracks_world=longer), sequence)
    np.testing.assert_array_equal(read.tracks_world, sequence.tracks_world)


def rotation(seed: int) -> np.ndarray:
    turn = np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0]
    return turn * np.sign(np.linalg.det(turn))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda tracks: {"tracks_world": tracks[:-1]}, r"\[8, 300, 3\].*\[7, 300, 3\]"),
        (lambda tracks: {"tracks_world": tracks[:, :-1]}, r"\[8, 300, 3\].*\[8, 299, 3\]"),
        (lambda tracks: {"tracks_world": tracks.swapaxes(0, 1)}, r"\[8, 300, 3\].*\[300, 8, 3\]"),
        (lambda tracks: {"tracks_world": tracks.astype(str)}, "numbers"),
        (lambda tracks: {"tracks": tracks}, "neither tracks_world nor reconstruction_world"),
        (lambda tracks: {"reconstruction_world": tracks}, r"\[8, any, any, 3\]"),
        (lambda tracks: {"tracks_world": tracks, "visible": np.ones((8, 2))}, r"visible.*\[8, 300\]"),
        (lambda tracks: {"tracks_world": tracks, "visibility": np.full((8, 300), 1.5)}, "visibility must be in 0"),
        (lambda tracks: {"tracks_world": tracks, "world_from_camera": np.eye(4)[None]}, r"world_from_camera.*\[8, 4, 4\]"),
    ],
)
def test_wrong_shapes_are_refused(tmp_path: Path, sequence: WorldTrackSequence, change, expected: str) -> None:
    path = written(tmp_path / "p.npz", **change(sequence.tracks_world))
    with pytest.raises(UserError, match=f"^set/one: .*{expected}"):
        read_prediction(path, sequence)


def test_no_file_and_no_npz(tmp_path: Path, sequence: WorldTrackSequence) -> None:
    with pytest.raises(UserError, match=r"^set/one: there is no prediction; expected"):
        read_prediction(tmp_path / "p.npz", sequence)
    (tmp_path / "p.npz").write_bytes(b"PK\x03\x04 but no more")
    with pytest.raises(UserError, match=r"p\.npz is not an \.npz file, or is damaged"):
        read_prediction(tmp_path / "p.npz", sequence)


def test_another_order_of_the_points_is_refused(tmp_path: Path, sequence: WorldTrackSequence) -> None:
    tracks, seen = sequence.tracks_world, sequence.visible
    assert tracks is not None and seen is not None
    rng = np.random.default_rng(0)
    order = rng.permutation(tracks.shape[1])
    with pytest.raises(UserError, match=r"^set/one: query_px .* order"):  # said by the pixels
        read_prediction(written(tmp_path / "a.npz", tracks_world=tracks, query_px=sequence.query_px[order]), sequence)
    only_seen = np.where(seen[0][:, None], tracks, np.nan)
    with pytest.raises(UserError, match=r"^set/one: .*finite for other points"):  # said by what is finite
        read_prediction(written(tmp_path / "b.npz", tracks_world=only_seen[:, order]), sequence)
    scaled = 3.7 * tracks[:, order] + rng.normal(0, 0.01, tracks.shape)
    plane = np.tile(unproject(sequence.query_px, np.ones(tracks.shape[1]), sequence.intrinsics), (len(tracks), 1, 1))
    turned = tracks[:, order] @ rotation(seed=0).T + 5.0
    for k, shuffled in enumerate((scaled, plane[:, order], turned)):  # said by the points of frame 0
        with pytest.raises(UserError, match=r"^set/one: .*another order"):
            read_prediction(written(tmp_path / f"{k}.npz", tracks_world=shuffled), sequence)


@pytest.mark.parametrize("seed", range(5))
def test_wrong_predictions_in_the_right_order_are_not_refused(tmp_path: Path, sequence: WorldTrackSequence, seed: int) -> None:
    tracks = sequence.tracks_world
    assert tracks is not None
    rng = np.random.default_rng(seed)
    for k, wrong in enumerate(
        [
            rng.normal(size=tracks.shape),
            np.abs(rng.normal(size=tracks.shape)) + 1,
            np.zeros_like(tracks),
            np.full_like(tracks, np.nan),
            tracks * (1, 1, 0.1) + rng.normal(0, 0.3, tracks.shape),
            np.broadcast_to(tracks[:, :1], tracks.shape),
            tracks @ np.array([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]]),  # turned by a quarter
            tracks @ rotation(seed) + rng.normal(size=3),
        ]
    ):
        read_prediction(written(tmp_path / f"{k}.npz", tracks_world=np.asarray(wrong)), sequence)
