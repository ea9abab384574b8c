"""Alignment of a depth prior with measured depth, and their fusion."""

import numpy as np
import pytest
import torch

from st4rtrack.hints.depth_prior import Kind, PriorDepth
from st4rtrack.hints.fusion import MIN_MEASURED, Alignment, align, fill_in, fuse, without_contradictions
from st4rtrack.types import DepthSource
from tests.seeds import SEED

SIZE = (24, 32)
NEAR, FAR = np.s_[6:18, 10:20], 4.0


def scene_depth() -> np.ndarray:
    """A wall, and an object in front of it."""
    depth = np.full(SIZE, FAR) + np.linspace(0, 0.5, SIZE[1])
    depth[NEAR] = 2.0
    return depth


def prior_of(values: np.ndarray, kind: Kind = "depth") -> PriorDepth:
    return PriorDepth(kind, values.astype(np.float32), np.full(SIZE, 0.2, np.float32))


def error_of(measured: np.ndarray, error: float = 0.01) -> np.ndarray:
    return np.where(measured > 0, error, np.inf).astype(np.float32)


def test_align_depth_with_outliers_gives_scale() -> None:
    depth = scene_depth()
    measured = depth.copy()
    measured[::4] *= 3  # a quarter is wrong
    found = align(prior_of(depth / 7), measured, error_of(measured))
    assert found is not None and found.shift == 0
    assert found.scale == pytest.approx(7, rel=1e-3)


def test_align_inverse_depth_gives_scale_and_shift() -> None:
    depth = scene_depth()
    prior = prior_of((1 / depth - 0.05) / 0.3, "inverse_depth")
    measured = np.where(np.random.default_rng(0).random(SIZE) < 0.8, depth, 0)
    found = align(prior, measured, error_of(measured))
    assert found is not None
    error = np.abs(np.log(found.depth(prior, 100.0) / depth))
    assert error.max() < 0.06  # the shift is expected to be small
    without_shift = Alignment(float(np.median(1 / depth / prior.values))).depth(prior, 100.0)
    assert error.max() < 0.5 * np.abs(np.log(without_shift / depth)).max()


def test_align_inverse_depth_that_contradicts_the_measurement_keeps_a_positive_scale() -> None:
    prior = prior_of(scene_depth(), "inverse_depth")  # large where far: a fit would have a negative scale
    found = align(prior, scene_depth(), error_of(scene_depth()))
    assert found is not None and found.scale > 0


def test_align_too_few_measurements_gives_none() -> None:
    measured = np.zeros(SIZE)
    measured.flat[: MIN_MEASURED - 1] = 2.0
    assert align(prior_of(scene_depth()), measured, error_of(measured)) is None
    measured.flat[MIN_MEASURED - 1] = 2.0
    assert align(prior_of(scene_depth()), measured, error_of(measured)) is not None


def test_fuse_agrees_with_accurate_measurement_and_keeps_edge_of_prior() -> None:
    depth = scene_depth()
    prior = prior_of(depth * np.linspace(0.8, 1.2, SIZE[1]))  # right up to a smooth error
    measured = np.where(np.arange(SIZE[1]) % 4 == 0, depth, 0)  # every fourth column
    measured[NEAR] = 0  # nothing of the object
    fused = fuse(prior, Alignment(1.0), measured, error_of(measured))
    known = measured > 0
    np.testing.assert_allclose(fused.depth[known], depth[known], rtol=1e-3)
    assert (fused.source == np.where(known, DepthSource.MEASURED, DepthSource.PRIOR)).all()
    np.testing.assert_allclose(fused.log_error[known], 0.01)
    np.testing.assert_allclose(fused.log_error[~known], 0.2)
    assert np.abs(np.log(fused.depth[~known] / depth[~known])).max() < 0.11  # 0.22 before the correction
    ratio = fused.depth[12, 9] / fused.depth[12, 10]
    assert ratio == pytest.approx(prior.values[12, 9] / prior.values[12, 10], rel=0.05)


def test_fuse_one_wrong_measurement_changes_only_its_surroundings_a_little() -> None:
    depth = scene_depth()
    measured = np.zeros(SIZE)
    measured[:, :6] = depth[:, :6]
    measured[20, 28] = 3 * depth[20, 28]
    error = np.where(measured > 0, 0.02, np.inf).astype(np.float32)
    error[20, 28] = 0.1
    fused = fuse(prior_of(depth), Alignment(1.0), measured, error)
    change = np.abs(np.log(fused.depth / depth)) / np.log(3)
    assert change.max() < 0.3 and (change > 0.1).sum() < 10


def test_fuse_dynamic_pixels_take_no_correction_and_no_measurement() -> None:
    depth = scene_depth()
    dynamic = np.zeros(SIZE, bool)
    dynamic[NEAR] = True
    measured = depth * 1.5  # and the flow of the object is taken for static depth
    fused = fuse(prior_of(depth), Alignment(1.0), measured, error_of(measured), dynamic)
    np.testing.assert_allclose(fused.depth[dynamic], depth[dynamic], rtol=1e-6)
    np.testing.assert_allclose(fused.depth[~dynamic], 1.5 * depth[~dynamic], rtol=1e-6)


def test_without_contradictions_drops_an_object_at_the_depth_of_the_horizon_but_not_a_wall_that_the_prior_misjudges() -> None:
    depth = scene_depth()
    for found, kept in ((30.0, 0.0), (6.0, 6.0)):
        measured = depth.copy()
        measured[NEAR] = found  # the prior says 2
        assert (without_contradictions(prior_of(depth), Alignment(1.0), measured)[NEAR] == kept).all()


def test_fuse_without_measurement_is_the_aligned_prior() -> None:
    nothing = np.zeros(SIZE)
    fused = fuse(prior_of(scene_depth()), Alignment(0.5), nothing, error_of(nothing))
    np.testing.assert_allclose(fused.depth, 0.5 * scene_depth(), rtol=1e-6)
    assert (fused.source == DepthSource.PRIOR).all()


def test_fill_in_keeps_known_values_and_stays_between_them() -> None:
    values = torch.rand(2, 13, 18, generator=torch.Generator().manual_seed(SEED))
    known = torch.rand(2, 13, 18, generator=torch.Generator().manual_seed(1 + SEED)) < 0.2
    known[1] = False
    whole = fill_in(values, known)
    torch.testing.assert_close(whole[known], values[known])
    assert whole[0].min() >= values[0][known[0]].min() - 1e-6 and whole[0].max() <= values[0][known[0]].max() + 1e-6
    assert (whole[0] != 0).all() and (whole[1] == 0).all()
    torch.testing.assert_close(fill_in(torch.full((1, 7, 9), 3.0), known[:1, :7, :9]), torch.full((1, 7, 9), 3.0))
