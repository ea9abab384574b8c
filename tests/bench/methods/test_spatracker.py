"""SpatialTracker's files: what is read, what is refused, and that the camera's motion is taken out of them."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from st4rtrack.bench.methods import make_method
from st4rtrack.bench.methods.spatracker import camera_motion, read_tracks
from st4rtrack.bench.predictions import Method, Prediction, write_prediction
from st4rtrack.bench.protocol import PUBLISHED
from st4rtrack.geometry.camera import project
from st4rtrack.geometry.transforms import rigid, rotation_angle, transform_points
from st4rtrack.io.worldtrack import WorldTrackSequence, read_worldtrack, tracks_in_camera
from st4rtrack.options import MethodOptions
from st4rtrack.types import UserError
from tests.conftest import Run
from tests.shared_data import shared
from tests.worldtrack_data import true_reconstruction, write_sequence

TRACKED = ("dog_skin", "fall_arc", "quadruped_track", "two_cmu_static")


def write_tracks(
    folder: Path, sequence: WorldTrackSequence, *, noise: float = 0.0, scale: float = 1.0, uvd: bool = False, **arrays: np.ndarray
) -> np.ndarray:
    """The true tracks in the camera, in another unit and with noise (a share of the median depth), as the tool's user writes them."""
    true = tracks_in_camera(sequence)
    rng = np.random.default_rng(1)
    tracks = scale * (true + noise * np.median(true[0, :, 2]) * rng.normal(size=true.shape))
    tracks[:, ~sequence.visible[0]] = np.nan  # pyright: ignore[reportOptionalSubscript]
    path = folder / f"{sequence.name}.npz"
    path.parent.mkdir(parents=True, exist_ok=True)
    if uvd:
        arrays["tracks_uvd"] = np.concatenate([project(tracks, sequence.intrinsics), tracks[..., 2:]], axis=-1)
    else:
        arrays["tracks_camera"] = tracks.astype(np.float32)
    np.savez(path, visible=arrays.pop("visible", sequence.visible), **arrays)  # pyright: ignore[reportArgumentType]
    return tracks


def method(name: str, tracks: Path | None, cameras: Path | None = None) -> Method:
    return make_method(name, MethodOptions(PUBLISHED, tracks=tracks, cameras=cameras))


def static_error(tracks_world: np.ndarray, sequence: WorldTrackSequence, scale: float = 1.0) -> np.ndarray:
    """[time] mean error of the static points, as a share of the median depth."""
    true = sequence.tracks_world
    assert true is not None and sequence.visible is not None
    counted = (np.linalg.norm(np.diff(true, axis=0), axis=-1).sum(axis=0) < 0.01) & sequence.visible[0]
    assert counted.sum() > 100
    error = np.linalg.norm(tracks_world[:, counted] / scale - true[:, counted], axis=-1)
    return error.mean(axis=1) / np.median(true[0, counted, 2])


@pytest.fixture
def sequence(tmp_path: Path) -> WorldTrackSequence:
    return write_sequence(tmp_path / "data" / "one.npz", frames=24, points=400, moving_share=0.3)


@pytest.mark.parametrize("uvd", [False, True])
def test_tracks_come_out_as_they_are(tmp_path: Path, sequence: WorldTrackSequence, uvd: bool) -> None:
    written = write_tracks(tmp_path, sequence, scale=3.0, uvd=uvd)
    prediction = method("spatracker", tmp_path)(sequence)
    assert prediction.tracks_world is not None and prediction.world_from_camera is None
    assert np.allclose(prediction.tracks_world, written, atol=1e-5, equal_nan=True)
    assert prediction.visible is not None and np.array_equal(prediction.visible, sequence.visible)  # pyright: ignore[reportArgumentType]


def test_with_a_fixed_camera_the_camera_is_the_world(tmp_path: Path) -> None:
    sequence = write_sequence(tmp_path / "data" / "one.npz", points=400, fixed_camera=True)
    write_tracks(tmp_path, sequence)
    for name in ("spatracker", "spatracker-procrustes"):
        prediction = method(name, tmp_path)(sequence)
        assert prediction.tracks_world is not None and static_error(prediction.tracks_world, sequence).max() < 1e-6


@pytest.mark.parametrize(("noise", "bound"), [(0.0, 1e-5), (0.002, 0.005)])
@pytest.mark.parametrize("scale", [1.0, 0.2])
def test_procrustes_takes_the_camera_out(
    tmp_path: Path, sequence: WorldTrackSequence, noise: float, bound: float, scale: float
) -> None:
    write_tracks(tmp_path, sequence, noise=noise, scale=scale, uvd=True)
    prediction = method("spatracker-procrustes", tmp_path)(sequence)
    assert prediction.tracks_world is not None and prediction.world_from_camera is not None
    untouched = method("spatracker", tmp_path)(sequence).tracks_world
    assert untouched is not None and static_error(untouched, sequence, scale)[-1] > 0.1
    assert static_error(prediction.tracks_world, sequence, scale).max() < bound
    assert np.array_equal(prediction.world_from_camera[0], np.eye(4))
    offset = prediction.world_from_camera[:, :3, 3] / scale - sequence.world_from_camera[:, :3, 3]
    assert np.linalg.norm(offset, axis=-1).max() < 2.0 * bound  # of the depth, which is 2
    turn = np.swapaxes(prediction.world_from_camera, 1, 2)[:, :3, :3] @ sequence.world_from_camera[:, :3, :3]
    assert rotation_angle(turn).max() < bound


@pytest.mark.parametrize("name", TRACKED)
def test_procrustes_takes_the_camera_out_of_other_engines_tracks(tmp_path: Path, name: str) -> None:
    sequence = read_worldtrack(shared(f"sequences/{name}.npz"))
    for noise, bound in ((0.0, 1e-4), (0.002, 0.005)):  # the first frames' motion is next to nothing: not told from none
        write_tracks(tmp_path, sequence, noise=noise)
        tracks_world = method("spatracker-procrustes", tmp_path)(sequence).tracks_world
        assert tracks_world is not None and static_error(tracks_world, sequence).max() < bound


def test_the_camera_before_stands_in_where_nothing_is_seen(
    tmp_path: Path, sequence: WorldTrackSequence, caplog: pytest.LogCaptureFixture
) -> None:
    assert sequence.visible is not None
    visible = sequence.visible.copy()
    visible[5:7] = False
    visible[9, 9:] = False
    write_tracks(tmp_path, sequence, visible=visible)
    world_from_camera, solved = camera_motion(read_tracks(tmp_path, sequence))
    assert np.flatnonzero(~solved).tolist() == [5, 6, 9]
    for t in (5, 6, 9):
        assert np.array_equal(world_from_camera[t], world_from_camera[t - 1])
    assert np.allclose(world_from_camera[solved], sequence.world_from_camera[solved], atol=1e-5)
    method("spatracker-procrustes", tmp_path)(sequence)
    assert "one: pose estimation failed for 3 of 24 frames" in caplog.text


def test_tracks_without_visibility(tmp_path: Path, sequence: WorldTrackSequence) -> None:
    tracks = write_tracks(tmp_path, sequence)
    np.savez(tmp_path / "one.npz", tracks_camera=tracks)
    prediction = method("spatracker-procrustes", tmp_path)(sequence)
    assert prediction.visible is None and prediction.tracks_world is not None
    assert static_error(prediction.tracks_world, sequence).max() < 1e-5


def test_cameras_of_another_method_in_another_unit_and_world(tmp_path: Path, sequence: WorldTrackSequence) -> None:
    assert sequence.visible is not None
    only_first = np.zeros_like(sequence.visible)
    only_first[0] = sequence.visible[0]  # the depth maps of these files fit their tracks in frame 0
    write_tracks(tmp_path / "tracks", sequence, scale=2.5, uvd=True, visible=only_first)
    write_cameras(tmp_path / "cameras", sequence, scale=0.4)
    prediction = method("spatracker-monst3r", tmp_path / "tracks", tmp_path / "cameras")(sequence)
    assert prediction.tracks_world is not None and prediction.world_from_camera is not None
    assert np.allclose(prediction.world_from_camera[0], np.eye(4), atol=1e-12)
    assert static_error(prediction.tracks_world, sequence, 2.5).max() < 0.005


@pytest.mark.parametrize("name", TRACKED)
def test_the_unit_of_cameras_from_other_engines_depth(tmp_path: Path, name: str) -> None:
    sequence = read_worldtrack(shared(f"sequences/{name}.npz"))
    write_tracks(tmp_path / "tracks", sequence, scale=2.5, noise=0.002)
    write_cameras(tmp_path / "cameras", sequence, scale=0.4)
    tracks_world = method("spatracker-monst3r", tmp_path / "tracks", tmp_path / "cameras")(sequence).tracks_world
    assert tracks_world is not None and static_error(tracks_world, sequence, 2.5).max() < 0.005


def write_cameras(folder: Path, sequence: WorldTrackSequence, *, scale: float) -> Prediction:
    """True cameras and points in another unit, and in a world that is not the camera of frame 0; some points are wrong."""
    cos, sin = np.cos(0.7), np.sin(0.7)
    other_world = rigid(np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]), np.array([1.0, 2.0, -3.0]))
    cameras = sequence.world_from_camera.copy()
    cameras[:, :3, 3] *= scale
    points = scale * true_reconstruction(sequence)
    points[:, ::8] *= 4
    points[:, 4::8] /= 4
    prediction = Prediction(
        reconstruction_world=transform_points(other_world, points.reshape(-1, 3)).reshape(points.shape),
        world_from_camera=other_world @ cameras,
    )
    write_prediction(folder / f"{sequence.name}.npz", prediction)
    return prediction


def test_intrinsics_of_the_file_come_first(
    tmp_path: Path, sequence: WorldTrackSequence, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "st4rtrack")
    write_tracks(tmp_path, sequence, uvd=True)
    own = read_tracks(tmp_path, sequence)
    assert "un-projected with the sequences' true intrinsics" in caplog.text
    wider = sequence.intrinsics * np.array([[0.5], [0.5], [1.0]])
    wider[:2, 2] = sequence.intrinsics[:2, 2]
    write_tracks(tmp_path, sequence, uvd=True, intrinsics=wider)
    given = read_tracks(tmp_path, sequence)
    assert np.allclose(given.points_camera, own.points_camera * (2, 2, 1), equal_nan=True)


def test_points_that_are_not_finite_are_unknown(tmp_path: Path, sequence: WorldTrackSequence) -> None:
    tracks = write_tracks(tmp_path, sequence)
    tracks[3, 0, 2], tracks[4, 1] = np.inf, (0.0, 0.0, -1.0)
    np.savez(tmp_path / "one.npz", tracks_camera=tracks)
    read = read_tracks(tmp_path, sequence)
    assert np.isnan(read.points_camera[3, 0]).all() and not read.usable[3, 0] and not read.usable[4, 1]
    assert np.allclose(camera_motion(read)[0], sequence.world_from_camera, atol=1e-5)


def test_nothing_is_said_of_a_sequence_without_tracks(tmp_path: Path, sequence: WorldTrackSequence) -> None:
    (tmp_path / "cameras").mkdir()
    for name in ("spatracker", "spatracker-procrustes", "spatracker-monst3r"):
        without = replace(sequence, tracks_world=None, visible=None)
        assert method(name, tmp_path, tmp_path / "cameras")(without) == Prediction()


def test_wrong_files_are_refused_by_name(tmp_path: Path, sequence: WorldTrackSequence) -> None:
    tracks = write_tracks(tmp_path, sequence)
    uvd = np.concatenate([project(tracks, sequence.intrinsics), tracks[..., 2:]], axis=-1)
    visible = np.ones(tracks.shape[:2], bool)
    order = np.random.default_rng(0).permutation(400)
    for arrays, expected in (
        ({"tracks": tracks}, "neither tracks_uvd nor tracks_camera"),
        ({"tracks_camera": tracks[:23]}, r"\[24, 400, 3\], all tracks of the sequence's file; got \[23, 400, 3\]"),
        ({"tracks_camera": tracks[:, :399]}, r"got \[24, 399, 3\]"),
        ({"tracks_camera": tracks.astype(str)}, "must hold numbers"),
        ({"tracks_camera": tracks, "visible": visible.T}, r"visible must have the shape \[24, 400\]"),
        ({"tracks_camera": tracks, "visible": visible.astype(float)}, "visible must hold bool"),
        ({"tracks_camera": -tracks}, "no finite, visible track in front of the camera"),
        ({"tracks_camera": tracks, "visible": ~visible}, "no finite, visible track in front of the camera"),
        ({"tracks_uvd": uvd[:, order]}, "pixels from the queries"),
        ({"tracks_uvd": uvd * (2.0, 2.0, 1.0)}, "its images, which are 64x48"),
        ({"tracks_uvd": uvd, "intrinsics": np.eye(4)}, "intrinsics must be"),
        ({"tracks_uvd": uvd, "intrinsics": np.zeros((3, 3))}, "intrinsics must be"),
    ):
        np.savez(tmp_path / "one.npz", **arrays)  # pyright: ignore[reportArgumentType]
        with pytest.raises(UserError, match=f"one: .*{expected}"):
            method("spatracker", tmp_path)(sequence)
    (tmp_path / "one.npz").unlink()
    with pytest.raises(UserError, match=r"one: there are no tracks; expected .*one\.npz"):
        method("spatracker-procrustes", tmp_path)(sequence)


def test_wrong_cameras_are_refused_by_name(tmp_path: Path, sequence: WorldTrackSequence) -> None:
    write_tracks(tmp_path / "tracks", sequence)
    good = write_cameras(tmp_path / "cameras", sequence, scale=1.0)
    cameras, points = good.world_from_camera, good.reconstruction_world
    assert cameras is not None and points is not None
    predict = method("spatracker-monst3r", tmp_path / "tracks", tmp_path / "cameras")
    for prediction, expected in (
        (Prediction(reconstruction_world=points), "has no world_from_camera"),
        (Prediction(tracks_world=sequence.tracks_world, world_from_camera=cameras), "has no reconstruction_world"),
        (Prediction(reconstruction_world=points, world_from_camera=2 * cameras), "not rigid transforms"),
        (Prediction(reconstruction_world=points, world_from_camera=np.full_like(cameras, np.nan)), "not rigid transforms"),
        (Prediction(reconstruction_world=np.full_like(points, np.nan), world_from_camera=cameras), "no track is visible where"),
    ):
        write_prediction(tmp_path / "cameras" / "one.npz", prediction)
        with pytest.raises(UserError, match=f"one: .*{expected}"):
            predict(sequence)
    (tmp_path / "cameras" / "one.npz").unlink()
    with pytest.raises(UserError, match="one: there is no prediction"):
        predict(sequence)


def test_what_is_needed_is_said(tmp_path: Path) -> None:
    for name, tracks, cameras, expected in (
        ("spatracker", None, None, "--tracks DIR"),
        ("spatracker-procrustes", tmp_path / "absent", None, "absent is not a folder with tracks"),
        ("spatracker-monst3r", tmp_path, None, "--cameras DIR"),
        ("spatracker-monst3r", tmp_path, tmp_path / "absent", "absent is not a folder with predictions"),
    ):
        with pytest.raises(UserError, match=expected):
            method(name, tracks, cameras)


def test_the_example_that_writes_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a stand-in that tracks as the tool does: pixels counted from 0 at the first centre, at 512x384."""
    monkeypatch.chdir(tmp_path)
    sequence = write_sequence(tmp_path / "DIR" / "adt_mini" / "one.npz")
    assert sequence.visible is not None
    seen = sequence.visible[0]
    tracks = tracks_in_camera(sequence)[:, seen]
    tool_px = project(tracks, sequence.intrinsics) - (0.5 * 64 / 512, 0.5 * 48 / 384)

    def model(video: torch.Tensor, queries: torch.Tensor, **_: object) -> tuple[torch.Tensor, torch.Tensor, None]:
        assert video.shape == (1, 8, 3, 48, 64) and video.max() > 1
        assert np.allclose(queries[0], np.column_stack([np.zeros(seen.sum()), tool_px[0]]), atol=1e-4)
        uvd = np.concatenate([tool_px, tracks[..., 2:]], axis=-1)
        return torch.from_numpy(uvd)[None], torch.from_numpy(sequence.visible[:, seen])[None], None  # pyright: ignore[reportOptionalSubscript]

    page = (Path(__file__).parents[3] / "docs" / "spatracker.md").read_text()
    example = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert example is not None
    names = {"np": np, "torch": torch, "Path": Path, "model": model, "depth": None}
    exec(compile(example[1].replace(".cuda()", ""), "spatracker.md", "exec"), names)
    read = read_tracks(Path("TRACKS"), read_worldtrack(sequence.path, name="adt_mini/one"))
    assert np.allclose(read.points_camera[:, seen], tracks, atol=1e-6) and np.isnan(read.points_camera[:, ~seen]).all()
    assert read.visible is not None and np.array_equal(read.visible[:, seen], sequence.visible[:, seen])


def test_from_the_command_line(run: Run, tmp_path: Path) -> None:
    sequence = write_sequence(tmp_path / "data" / "adt_mini" / "one.npz", points=300, moving_share=0.3)
    named = read_worldtrack(sequence.path, name="adt_mini/one")
    write_tracks(tmp_path / "tracks", named, noise=0.002, uvd=True)
    error = {}
    for name in ("spatracker", "spatracker-procrustes"):
        code, said = run("bench", "predict", "--data", "data", "-o", name, "--method", name, "--tracks", "tracks")
        assert code == 0, said
        error[name] = static_error(np.load(f"{name}/adt_mini/one.npz")["tracks_world"], sequence).mean()
    assert error["spatracker-procrustes"] < 0.005 < 0.1 < error["spatracker"]
