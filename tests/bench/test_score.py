"""Scores of predictions whose figures are known."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from st4rtrack.bench.methods.bounds import plane_prediction, static_prediction
from st4rtrack.bench.predictions import Prediction, read_prediction
from st4rtrack.bench.protocol import CORRECTED, PROTOCOLS, PUBLISHED, TAPVID3D, Protocol
from st4rtrack.bench.score import Row, mean_row, score_sequence, score_tracking
from st4rtrack.io.worldtrack import WorldTrackSequence, find_worldtrack, read_worldtrack, tracks_in_camera
from st4rtrack.metrics.tapvid3d import SCALINGS
from tests.shared_data import shared
from tests.worldtrack_data import true_reconstruction, write_sequence

WORLDTRACK = (PUBLISHED, CORRECTED)


@pytest.fixture(scope="module")
def sequence(tmp_path_factory: pytest.TempPathFactory) -> WorldTrackSequence:
    return write_sequence(tmp_path_factory.mktemp("data") / "one.npz")


def perfect(sequence: WorldTrackSequence, protocol: Protocol = CORRECTED) -> Prediction:
    return Prediction(
        tracks_world=sequence.tracks_world,
        reconstruction_world=true_reconstruction(sequence, protocol.first_pixel_centre),
        visible=sequence.visible,
        visibility=np.asarray(sequence.visible, np.float32),
        world_from_camera=sequence.world_from_camera,
        intrinsics=np.tile(sequence.intrinsics, (len(sequence), 1, 1)),
    )


def as_sequence(gt: np.ndarray, like: WorldTrackSequence) -> WorldTrackSequence:
    """The oracle's case as a sequence of which every point is seen in frame 0."""
    cameras = np.tile(np.eye(4), (len(gt), 1, 1))
    return replace(like, tracks_world=gt, visible=np.ones(gt.shape[:2], bool), world_from_camera=cameras)


@pytest.mark.parametrize("case", ["a", "b"])
def test_published_protocol_equals_the_published_evaluator(case: str, sequence: WorldTrackSequence) -> None:
    oracle = np.load(shared("oracle/metrics.npz"))
    tracking, _ = score_tracking(oracle[f"{case}/pred"], as_sequence(oracle[f"{case}/gt"], sequence), PUBLISHED)
    for subset in ("all", "dynamic"):
        for alignment in ("median", "sim3"):
            for figure in ("apd", "epe", "scale"):
                expected = float(oracle[f"{case}/{subset}/{alignment}/{figure}"])
                assert tracking[subset][alignment][figure] == pytest.approx(expected, rel=1e-6)
    assert tracking["dynamic"]["points"] == 12 * int(oracle[f"{case}/dynamic"].sum())


@pytest.mark.parametrize("protocol", WORLDTRACK, ids=lambda p: p.name)
def test_a_perfect_prediction_scores_100_and_0(sequence: WorldTrackSequence, protocol: Protocol) -> None:
    row = score_sequence(sequence, perfect(sequence, protocol), protocol)
    for part in (row["tracking"]["all"], row["tracking"]["dynamic"], row["reconstruction"]):
        for alignment in ("median", "sim3"):
            assert part[alignment]["apd"] == 100
            assert part[alignment]["epe"] == pytest.approx(0, abs=1e-5)
            assert part[alignment]["scale"] == pytest.approx(1, abs=1e-5)
        assert part["non_finite"] == 0
    assert row["tapvid3d"]["calibration_error"] == 0
    assert row["tapvid3d"]["aj"] == row["tapvid3d"]["apd"] == row["tapvid3d"]["oa"] == 100
    for scaling in SCALINGS:
        assert row["tapvid3d_camera"][scaling] == {"aj": 100, "apd": 100, "oa": 100}
    assert row["cameras"]["ate"] == pytest.approx(0, abs=1e-6) and row["cameras"]["focal_error"] == 0
    assert row["depth"]["abs_rel"] == pytest.approx(0, abs=1e-5) and row["depth"]["delta_1_25"] == 100
    assert row["depth"]["scale_drift"] == pytest.approx(0, abs=1e-5)


def test_depth_is_scored_by_foreground_and_measured_pixels_where_given(tmp_path: Path) -> None:
    sequence = write_sequence(tmp_path / "one.npz")
    foreground = np.zeros((8, 48, 64), bool)
    foreground[:, 20:28, 30:40] = True  # few: they hardly change the scale
    with np.load(tmp_path / "one.npz") as arrays:
        np.savez(tmp_path / "one.npz", foreground_mask=foreground, **arrays)
    prediction = perfect(sequence)
    assert prediction.reconstruction_world is not None
    prediction.reconstruction_world = prediction.reconstruction_world.copy()
    prediction.reconstruction_world[0, 20:28, 30:40] *= 1.1  # the camera of frame 0 is the world
    prediction.measured = ~foreground[:, ::2, ::2]
    depth = score_sequence(sequence, prediction, CORRECTED)["depth"]
    assert depth["foreground"]["abs_rel"] == pytest.approx(0.1 / 8, abs=1e-3)
    assert depth["foreground"]["delta_1_03"] == pytest.approx(100 * 7 / 8) and depth["foreground"]["delta_1_25"] == 100
    for group in ("background", "measured"):
        assert depth[group]["abs_rel"] == pytest.approx(0, abs=1e-3) and depth[group]["delta_1_03"] == 100
    assert depth["foreground"]["points"] + depth["background"]["points"] == depth["points"]


def test_focal_error_is_relative_and_the_median_over_the_frames(sequence: WorldTrackSequence) -> None:
    prediction = perfect(sequence)
    assert prediction.intrinsics is not None
    prediction.intrinsics[:, 0, 0] *= 1.2
    prediction.intrinsics[0, 0, 0] *= 5
    assert score_sequence(sequence, prediction, CORRECTED)["cameras"]["focal_error"] == pytest.approx(20)


def test_tapvid3d_protocol_counts_every_track_from_its_query_frame(tmp_path: Path) -> None:
    write_sequence(tmp_path / "one.npz", frames=70)
    queries = np.zeros((120, 3))
    queries[:, 2] = np.random.default_rng(0).integers(0, 70, 120)
    with np.load(tmp_path / "one.npz") as arrays:
        np.savez(tmp_path / "one.npz", queries_xyt=queries, **arrays)
    sequence = read_worldtrack(tmp_path / "one.npz", num_frames=TAPVID3D.num_frames)
    true = tracks_in_camera(sequence)
    assert sequence.visible is not None
    scale = np.random.default_rng(1).uniform(0.5, 2, 120)
    scale[true[queries[:, 2].astype(int), np.arange(120), 2] <= 0] = 1  # the query needs a depth
    np.savez(tmp_path / "p.npz", tracks_XYZ=true * scale[:, None], visibility=sequence.visible)  # as TAPVid-3D's evaluator reads
    row = score_sequence(sequence, read_prediction(tmp_path / "p.npz", sequence), TAPVID3D)
    assert row.keys() == {"points", "tapvid3d_camera"} and row["points"] == 120
    assert row["tapvid3d_camera"]["points"] == 120 * 70
    assert row["tapvid3d_camera"]["per_trajectory"] == pytest.approx({"aj": 100, "apd": 100, "oa": 100})
    assert row["tapvid3d_camera"]["median"]["apd"] < 50 and row["tapvid3d_camera"]["median"]["oa"] == 100


def test_camera_frame_metrics_move_world_tracks_by_the_predicted_cameras(sequence: WorldTrackSequence) -> None:
    wrong = perfect(sequence)
    wrong.world_from_camera = np.tile(np.eye(4), (len(sequence), 1, 1))
    row = score_sequence(sequence, wrong, CORRECTED)
    assert row["tapvid3d"]["apd"] == 100 and row["tapvid3d_camera"]["median"]["apd"] < 60


def test_the_other_protocols_pixel_grid_is_half_a_pixel_off(sequence: WorldTrackSequence) -> None:
    row = score_sequence(sequence, perfect(sequence, CORRECTED), PUBLISHED)
    half_pixel_m = 0.5 * np.hypot(1 / 60, 1 / 58) * 2
    assert row["reconstruction"]["median"]["epe"] == pytest.approx(half_pixel_m, rel=0.3)


@settings(max_examples=20, deadline=None)
@given(scale=st.floats(0.01, 100), seed=st.integers(0, 99), name=st.sampled_from(("published", "corrected")))
def test_a_figure_does_not_change_under_what_it_aligns_away(
    sequence: WorldTrackSequence, scale: float, seed: int, name: str
) -> None:
    rng = np.random.default_rng(seed)
    assert sequence.tracks_world is not None
    noisy = sequence.tracks_world + rng.normal(0, 0.2, sequence.tracks_world.shape)
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    rotation *= np.sign(np.linalg.det(rotation))
    before, _ = score_tracking(noisy, sequence, PROTOCOLS[name])
    scaled, _ = score_tracking(scale * noisy, sequence, PROTOCOLS[name])
    moved, _ = score_tracking(scale * noisy @ rotation.T + rng.normal(size=3), sequence, PROTOCOLS[name])
    for subset in ("all", "dynamic"):
        assert scaled[subset]["median"]["epe"] == pytest.approx(before[subset]["median"]["epe"], rel=1e-9)
        for other in (scaled, moved):
            assert other[subset]["sim3"]["epe"] == pytest.approx(before[subset]["sim3"]["epe"], rel=1e-7)
            assert other[subset]["sim3"]["apd"] == pytest.approx(before[subset]["sim3"]["apd"], abs=0.2)
    assert moved["all"]["median"]["epe"] > 1.01 * before["all"]["median"]["epe"]


def test_the_order_of_points_does_not_matter(sequence: WorldTrackSequence) -> None:
    assert sequence.tracks_world is not None and sequence.visible is not None
    rng = np.random.default_rng(3)
    noisy = sequence.tracks_world + rng.normal(0, 0.3, sequence.tracks_world.shape)
    order = rng.permutation(noisy.shape[1])
    shuffled = replace(sequence, tracks_world=sequence.tracks_world[:, order], visible=sequence.visible[:, order])
    for protocol in WORLDTRACK:
        one, _ = score_tracking(noisy, sequence, protocol)
        other, _ = score_tracking(noisy[:, order], shuffled, protocol)
        assert_close(one, other)


def test_hidden_points_count_but_not_those_unseen_in_frame_0(sequence: WorldTrackSequence) -> None:
    assert sequence.tracks_world is not None and sequence.visible is not None
    predicted = sequence.tracks_world.copy()
    predicted[:, ~sequence.visible[0]] = np.nan
    hidden = sequence.visible[0] & ~sequence.visible[-1]
    predicted[-1, hidden] += 100
    tracking, _ = score_tracking(predicted, sequence, PUBLISHED)
    counted = len(predicted) * int(sequence.visible[0].sum())
    assert tracking["all"]["points"] == counted
    assert tracking["all"]["median"]["apd"] == pytest.approx(100 * (1 - hidden.sum() / counted))


@pytest.mark.parametrize("protocol", WORLDTRACK, ids=lambda p: p.name)
def test_a_prediction_that_is_not_finite_is_a_miss_and_is_reported(sequence: WorldTrackSequence, protocol: Protocol) -> None:
    prediction = perfect(sequence, protocol)
    assert sequence.visible is not None and prediction.tracks_world is not None and prediction.reconstruction_world is not None
    prediction.tracks_world = prediction.tracks_world.copy()
    first = np.flatnonzero(sequence.visible[0])[0]
    prediction.tracks_world[2:5, first, 1] = np.inf
    prediction.reconstruction_world[1, 20:22, 20:23] = np.nan
    row = score_sequence(sequence, prediction, protocol)
    for part, lost in ((row["tracking"]["all"], 3), (row["reconstruction"], 6)):
        assert part["non_finite"] == lost
        assert part["median"]["apd"] == pytest.approx(100 * (1 - lost / part["points"]))
        assert part["sim3"]["epe"] == pytest.approx(0, abs=1e-5)


def test_missing_truth_is_a_miss_as_published_and_left_out_when_corrected(sequence: WorldTrackSequence) -> None:
    assert sequence.tracks_world is not None and sequence.visible is not None
    gap = sequence.tracks_world.copy()
    seen = np.flatnonzero(sequence.visible[0])
    gap[3, seen[:5]] = np.nan
    holed = replace(sequence, tracks_world=gap)
    published, _ = score_tracking(sequence.tracks_world, holed, PUBLISHED)
    corrected, curves = score_tracking(sequence.tracks_world, holed, CORRECTED)
    counted = len(gap) * len(seen)
    assert published["all"]["points"] == counted and corrected["all"]["points"] == counted - 5
    assert published["all"]["median"]["apd"] == pytest.approx(100 * (1 - 5 / counted))
    assert corrected["all"]["median"]["apd"] == 100
    assert sum(curves["distance"]["points"]) == sum(curves["motion"]["points"]) == counted - 5


def test_dynamic_points_keep_the_alignment_of_all_when_corrected(sequence: WorldTrackSequence) -> None:
    assert sequence.tracks_world is not None
    steps = np.linalg.norm(np.diff(sequence.tracks_world, axis=0), axis=-1).sum(axis=0)
    twice = np.where((steps > 0.01)[:, None], 2.0, 1.0) * sequence.tracks_world  # the moving ones at twice their distance
    published, _ = score_tracking(twice, sequence, PUBLISHED)
    corrected, _ = score_tracking(twice, sequence, CORRECTED)
    assert published["all"] == corrected["all"]
    assert published["dynamic"]["median"]["epe"] == pytest.approx(0, abs=1e-9)  # its own scale hides the error
    assert corrected["dynamic"]["median"]["scale"] == corrected["all"]["median"]["scale"]
    assert corrected["dynamic"]["median"]["epe"] > 0.3


def test_depth_that_counts(sequence: WorldTrackSequence) -> None:
    depth = sequence.read_depth()
    prediction = Prediction(reconstruction_world=true_reconstruction(sequence))
    corrected = score_sequence(sequence, prediction, CORRECTED)["reconstruction"]
    assert corrected["points"] == (depth > 0).sum()
    near = replace(PUBLISHED, depth_range_m=(0.1, 2.2))
    published = score_sequence(sequence, prediction, near)["reconstruction"]
    assert published["points"] == ((depth > 0.1) & (depth < 2.2)).sum() < corrected["points"]


def test_pointmaps_of_another_size_are_resized_between_pixel_centres(sequence: WorldTrackSequence) -> None:
    wall = plane_prediction(sequence, sequence.intrinsics)
    assert wall.reconstruction_world is not None
    small = replace_map(wall, wall.reconstruction_world[:, 1::3, 1::3])  # centres of 3x3 blocks
    full = score_sequence(sequence, wall, CORRECTED)["reconstruction"]["median"]
    third = score_sequence(sequence, small, CORRECTED)["reconstruction"]["median"]
    assert third["epe"] == pytest.approx(full["epe"], rel=0.02)  # all but the border is a plane, which bilinear keeps


def replace_map(prediction: Prediction, reconstruction_world: np.ndarray) -> Prediction:
    return replace(prediction, reconstruction_world=reconstruction_world)


def test_nothing_to_align_is_not_an_error(sequence: WorldTrackSequence) -> None:
    assert sequence.tracks_world is not None and sequence.visible is not None
    nowhere = np.full_like(sequence.tracks_world, np.nan)
    tracking, _ = score_tracking(nowhere, sequence, CORRECTED)
    assert tracking["all"]["median"] == {"apd": 0.0, "epe": None, "scale": 1.0}
    one_place, _ = score_tracking(np.ones_like(nowhere), sequence, CORRECTED)
    true = sequence.tracks_world[:, sequence.visible[0]]
    spread = np.linalg.norm(true - true.mean(axis=(0, 1)), axis=-1).mean()
    assert one_place["all"]["sim3"]["epe"] == pytest.approx(spread)


def test_means(tmp_path: Path) -> None:
    still = write_sequence(tmp_path / "still.npz", moving_share=0.0)
    moves = write_sequence(tmp_path / "moves.npz", moving_share=1.0, frames=6, seed=5)
    rows = []
    for sequence in (still, moves):
        assert sequence.tracks_world is not None
        noise = np.random.default_rng(0).normal(0, 0.3, sequence.tracks_world.shape)
        rows.append(score_sequence(sequence, Prediction(tracks_world=sequence.tracks_world + noise), CORRECTED))
    assert "dynamic" not in rows[0]["tracking"]
    corrected, published = mean_row(rows, CORRECTED), mean_row(rows, PUBLISHED)
    epe = [row["tracking"]["all"]["median"]["epe"] for row in rows]
    assert corrected["tracking"]["all"]["median"]["epe"] == pytest.approx(np.mean(epe))
    assert corrected["points"] == sum(row["points"] for row in rows) and corrected["sequences"] == 2
    alone = rows[1]["tracking"]["dynamic"]["median"]
    assert corrected["tracking"]["dynamic"]["median"]["epe"] == pytest.approx(alone["epe"])
    # the published evaluator divides by the number of all sequences, for EPE only
    assert published["tracking"]["dynamic"]["median"]["epe"] == pytest.approx(alone["epe"] / 2)
    assert published["tracking"]["dynamic"]["median"]["apd"] == pytest.approx(alone["apd"])
    assert_close(corrected, mean_row(rows[::-1], CORRECTED))
    for curve in corrected["curves"].values():
        assert sum(curve["points"]) == sum(row["tracking"]["all"]["points"] for row in rows)
    pooled = corrected["curves"]["motion"]
    total = sum(e * n for e, n in zip(pooled["epe"], pooled["points"], strict=True) if e is not None)
    assert total == pytest.approx(sum(row["tracking"]["all"]["median"]["epe"] * row["tracking"]["all"]["points"] for row in rows))


def test_bounds_of_the_shared_sequences() -> None:
    """The two lower bounds come out as the makers of the sequences state them."""
    rows: dict[str, list[Row]] = {"plane": [], "static": []}
    for name, path in find_worldtrack(shared("sequences")):
        sequence = read_worldtrack(path, name=name)
        if sequence.tracks_world is None:
            continue
        for method, prediction in (
            ("plane", plane_prediction(sequence, sequence.intrinsics)),
            ("static", static_prediction(sequence)),
        ):
            rows[method].append(score_sequence(sequence, Prediction(tracks_world=prediction.tracks_world), PUBLISHED))
    stated = {"plane": ((13.4, 1.691), (25.3, 0.947)), "static": ((71.6, 0.298), (28.9, 0.859))}
    for method, (of_all, of_dynamic) in stated.items():
        tracking = mean_row(rows[method], PUBLISHED)["tracking"]
        for subset, (apd, epe) in (("all", of_all), ("dynamic", of_dynamic)):
            assert round(tracking[subset]["median"]["apd"], 1) == apd
            assert round(tracking[subset]["median"]["epe"], 3) == epe


def assert_close(one: Any, other: Any) -> None:
    """Equal but for rounding, through dictionaries and lists."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_close(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_close(a, b)
    elif isinstance(one, float):
        assert one == pytest.approx(other, rel=1e-9)
    else:
        assert one == other
