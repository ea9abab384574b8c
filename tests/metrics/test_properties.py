"""Figures of merit where there is one point, none, or nothing finite, in any unit, in any order."""

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from st4rtrack.geometry.transforms import rigid
from st4rtrack.metrics.cameras import camera_errors
from st4rtrack.metrics.depth import DepthScores, RelativeDepth
from st4rtrack.metrics.points import (
    aligned_errors,
    average_points_within_distance,
    end_point_error,
    global_alignments,
)
from st4rtrack.metrics.tapvid3d import tapvid3d_scores
from tests.properties import CLOUDS, DEGENERATE, SCALES, SEEDS, cloud, is_rotation, rotation
from tests.seeds import SEED

SPOIL = st.sampled_from([np.nan, np.inf, -np.inf])


def scored(predicted: np.ndarray, true: np.ndarray, *, cut: int | None = None) -> dict[str, tuple[float, float, int]]:
    """EPE, APD and how many points were not finite under each alignment, the points in two pieces."""

    def pieces() -> Iterator[tuple[np.ndarray, np.ndarray]]:
        yield predicted[:cut], true[:cut]
        yield predicted[len(predicted) if cut is None else cut :], true[len(true) if cut is None else cut :]

    totals = aligned_errors(pieces, global_alignments(pieces))
    return {name: (each.epe, each.apd, each.non_finite) for name, each in totals.items()}


@settings(max_examples=30)
@given(seed=SEEDS, unit=SCALES, kind=st.sampled_from(["volume", "a plane", "a line"]), cut=st.integers(0, 40))
def test_alignment_takes_away_the_unit_and_a_similarity(seed: int, unit: float, kind: str, cut: int) -> None:
    true = cloud(kind, seed)
    assert scored(unit * true, true, cut=cut)["median"] == (pytest.approx(0, abs=1e-9), 100.0, 0)
    moved = unit * (true @ rotation(seed).T + np.random.default_rng(seed + SEED).normal(size=3))
    assert scored(moved, true, cut=cut)["sim3"] == (pytest.approx(0, abs=1e-6), 100.0, 0)
    order = np.random.default_rng(seed + SEED).permutation(len(true))
    noisy = true + np.random.default_rng(seed + SEED).normal(0, 0.3, true.shape)
    expected, found = scored(noisy, true), scored(unit * noisy[order], true[order], cut=cut)
    for name in ("median", "sim3"):
        assert found[name] == pytest.approx(expected[name], rel=1e-6)


@settings(max_examples=30)
@given(seed=SEEDS, kind=CLOUDS, spoil=SPOIL, points=st.integers(0, 6), spoiled=st.integers(0, 6))
def test_few_points_and_none_have_figures_too(seed: int, kind: str, spoil: float, points: int, spoiled: int) -> None:
    predicted, true = cloud(kind, seed, points=max(points, 1))[:points], cloud("volume", seed + 1, points=max(points, 1))[:points]
    predicted = np.where(np.arange(points)[:, None] < spoiled, spoil, predicted)
    found = scored(predicted, true)
    assert set(found) == {"median", "sim3"}
    for epe, apd, lost in found.values():
        assert lost == min(points, spoiled)
        assert np.isfinite(epe) == (points > spoiled) and np.isfinite(apd) == (points > 0)
        assert not points or apd <= 100 * (points - lost) / points


@settings(max_examples=10)
@given(seed=SEEDS, spoil=SPOIL)
def test_a_point_that_is_not_finite_is_left_out_of_the_alignment_alone(seed: int, spoil: float) -> None:
    predicted, true = cloud("volume", seed), cloud("volume", seed + 1)
    expected = global_alignments(lambda: [(predicted[1:], true[1:])])
    holed = predicted.copy()
    holed[0, 1] = spoil
    found = global_alignments(lambda: [(holed, true)])
    for name in ("median", "sim3"):
        np.testing.assert_allclose(found[name](true), expected[name](true), atol=1e-9)


@settings(max_examples=20)
@given(seed=SEEDS, kind=st.sampled_from(DEGENERATE))
def test_an_alignment_is_a_rotation_however_little_is_known(seed: int, kind: str) -> None:
    for points in (1, 2, 40):
        both = cloud(kind, seed, points), cloud("volume", seed + 1, points)
        for found in global_alignments(lambda both=both: [both]).values():
            assert is_rotation(found.rotation) and np.isfinite(found.scale) and np.isfinite(found.translation).all()


@settings(max_examples=20)
@given(st.lists(st.floats(0, 1e300), min_size=1, max_size=20), st.floats(0, 1))
def test_more_error_is_never_more_apd(errors: list[float], more: float) -> None:
    values = np.array(errors)
    assert 0 <= average_points_within_distance(values + more) <= average_points_within_distance(values) <= 100
    assert end_point_error(np.array([[more, 0, 0]]), np.zeros((1, 3)))[0] == pytest.approx(more)


def depth_scores(predicted: np.ndarray, true: np.ndarray) -> DepthScores:
    depth = RelativeDepth()
    depth.add(predicted, true)
    return depth.result()


@settings(max_examples=30)
@given(seed=SEEDS, unit=SCALES, spoil=st.sampled_from([np.nan, np.inf, 0.0, -1.0]), pixels=st.integers(1, 30))
def test_relative_depth_knows_no_unit_no_order_and_no_missing_truth(seed: int, unit: float, spoil: float, pixels: int) -> None:
    rng = np.random.default_rng(seed + SEED)
    predicted, true = rng.uniform(1, 3, (2, 1, pixels))
    expected = depth_scores(predicted, true)
    order = rng.permutation(pixels)
    more = [np.concatenate(each, axis=1) for each in ([predicted[:, order] * unit, [[1.0]]], [true[:, order], [[spoil]]])]
    found = depth_scores(more[0], more[1])
    assert found.points == expected.points == pixels and found.non_finite == 0
    assert found.abs_rel == pytest.approx(expected.abs_rel, rel=1e-4, abs=1e-6)
    assert found.delta_1_25 == pytest.approx(
        expected.delta_1_25, abs=100 / pixels + 1e-9
    )  # rounding may move one over the factor
    lost = depth_scores(np.full_like(true, spoil), true)
    assert lost.delta_1_25 == 0 and lost.non_finite == pixels and np.isnan(lost.abs_rel)


def trajectory(seed: int, kind: str, frames: int) -> np.ndarray:
    return rigid(np.stack([rotation(seed + k) for k in range(frames)]), cloud(kind, seed, frames))


@settings(max_examples=30)
@given(seed=SEEDS, scale=st.sampled_from([1e-3, 1.0, 1e3, 1e12]), kind=st.sampled_from(["volume", "a plane", "a line"]))
def test_camera_errors_know_no_similarity(seed: int, scale: float, kind: str) -> None:
    true, turn = trajectory(seed, kind, 9), rotation(seed + 1)
    moved = rigid(turn @ true[:, :3, :3], scale * (true[:, :3, 3] @ turn.T + np.random.default_rng(seed + SEED).normal(size=3)))
    errors = camera_errors(moved, true)
    assert errors.frames == 9 and errors.ate_m == pytest.approx(0, abs=1e-6)
    if kind != "a line":  # about which a turn is open
        assert errors.rpe_rotation_deg == pytest.approx(0, abs=1e-4)
        assert errors.rpe_translation_m == pytest.approx(0, abs=1e-5)


@settings(max_examples=10)
@given(seed=SEEDS, scale=st.floats(0.1, 10))
def test_a_camera_that_stands_still_away_from_the_origin_is_still(seed: int, scale: float) -> None:
    true = trajectory(seed, "volume", 6)
    standing = true.copy()
    standing[:, :3, 3] = (1.0, 2.0, 3.0)
    expected = np.sqrt((((scale * np.array([1.0, 2.0, 3.0])) - true[:, :3, 3]) ** 2).sum(axis=1).mean())
    assert camera_errors(standing, true, scale=scale).ate_m == pytest.approx(expected)


@settings(max_examples=30)
@given(seed=SEEDS, frames=st.integers(0, 5), kind=CLOUDS, lost=st.integers(0, 5), spoil=SPOIL)
def test_few_cameras_have_figures_or_none(seed: int, frames: int, kind: str, lost: int, spoil: float) -> None:
    true = trajectory(seed, "volume", 5)[:frames]
    predicted = trajectory(seed + 1, kind, 5)[:frames]
    predicted[:lost, 0, 0] = spoil
    errors = camera_errors(predicted, true)
    known = max(frames - lost, 0)
    assert errors.frames == known and np.isfinite(errors.ate_m) == (known > 0)
    for figure in (errors.rpe_translation_m, errors.rpe_rotation_deg):
        assert np.isfinite(figure) == (known > 1)


@settings(max_examples=30)
@given(seed=SEEDS, unit=SCALES, spoil=SPOIL, points=st.integers(1, 8), share=st.floats(0, 1))
def test_tracks_are_scored_in_any_unit_and_order_and_bounds_hold(
    seed: int, unit: float, spoil: float, points: int, share: float
) -> None:
    rng = np.random.default_rng(seed + SEED)
    true = rng.uniform((-1, -1, 2), (1, 1, 4), (3, points, 3))
    case: dict[str, Any] = {
        "predicted": true + rng.normal(0, 0.02, true.shape),
        "predicted_visible": rng.random((3, points)) < 0.7,
        "true": true,
        "true_visible": rng.random((3, points)) < share,
        "true_depth_m": true[..., 2],
    }
    expected = dataclasses.astuple(tapvid3d_scores(**case, focal_px=(256.0, 256.0)))
    order = rng.permutation(points)
    shuffled = {name: value[:, order] for name, value in case.items()}
    assert dataclasses.astuple(tapvid3d_scores(**shuffled, focal_px=(256.0, 256.0))) == pytest.approx(expected, nan_ok=True)
    other = case | {"predicted": unit * case["predicted"]}
    found = tapvid3d_scores(**other, focal_px=(256.0, 256.0))
    assert dataclasses.astuple(found)[:3] == pytest.approx(expected[:3], nan_ok=True)
    spoilt: dict[str, Any] = case | {"predicted": np.full_like(true, spoil)}
    nothing = tapvid3d_scores(**spoilt, focal_px=(256.0, 256.0))
    assert nothing.oa == found.oa and np.isnan(nothing.scale) and (nothing.apd == 0 or not case["true_visible"].any())
