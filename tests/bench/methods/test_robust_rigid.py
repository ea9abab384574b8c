"""Robust alignment: motions are recovered from points of which only some fit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from st4rtrack.bench.methods.spatracker import robust_rigid
from st4rtrack.geometry.transforms import rigid, transform_points
from tests.seeds import SEED


def random_motion(rng: np.random.Generator) -> np.ndarray:
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return rigid(q * np.sign(np.linalg.det(q)), rng.normal(size=3))


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), count=st.integers(4, 60), flat=st.booleans())
def test_robust_rigid_exact_motion_is_recovered(seed: int, count: int, flat: bool) -> None:
    rng = np.random.default_rng(seed + SEED)
    source = rng.normal(size=(count, 3)) * (1, 0.5, 0 if flat else 2) + (3, -1, 8)
    motion = random_motion(rng)
    found = robust_rigid(source, transform_points(motion, source), threshold=0.05)
    assert found is not None and found[1].all()
    np.testing.assert_allclose(found[0], motion, atol=1e-8)


@pytest.mark.parametrize("wrong_share", [0.3, 0.6])
def test_robust_rigid_outliers_and_noise_do_little(wrong_share: float) -> None:
    rng = np.random.default_rng(2 + SEED)
    source, noise, motion = rng.uniform(-1, 1, (600, 3)), 0.004, random_motion(rng)
    wrong = rng.random(600) < wrong_share
    true = transform_points(motion, source)
    target = true + rng.normal(0, noise, (600, 3))
    target[wrong] += rng.normal(0, 0.5, (wrong.sum(), 3))
    found = robust_rigid(source, target, threshold=0.1)
    assert found is not None
    assert np.linalg.norm(transform_points(found[0], source) - true, axis=1).max() < noise
    assert (found[1] & wrong).sum() < 0.02 * wrong.sum() and found[1][~wrong].mean() > 0.97


def test_robust_rigid_second_motion_within_the_threshold_does_not_pull() -> None:
    rng = np.random.default_rng(3 + SEED)
    source = rng.uniform(-1, 1, (500, 3))
    slow = rng.random(500) < 0.3
    target = source + rng.normal(0, 0.001, (500, 3)) + slow[:, None] * (0.03, 0, 0)
    found = robust_rigid(source, target, threshold=0.05)
    assert found is not None and not (found[1] & slow).any()
    assert np.linalg.norm(transform_points(found[0], source) - source, axis=1).max() < 0.001


def test_robust_rigid_repeated_call_gives_the_same_bits() -> None:
    rng = np.random.default_rng(4 + SEED)
    source = rng.uniform(-1, 1, (300, 3))
    target = transform_points(random_motion(rng), source) + rng.normal(0, 0.003, (300, 3))
    target[:100] = rng.uniform(-1, 1, (100, 3))
    first, same = (robust_rigid(source, target, threshold=0.05) for _ in range(2))
    assert first is not None and same is not None
    assert np.array_equal(first[0], same[0]) and np.array_equal(first[1], same[1])


@pytest.mark.parametrize("noise", [0.0, 0.002])
def test_robust_rigid_points_that_leave_the_rotation_open_are_refused(noise: float) -> None:
    rng = np.random.default_rng(8 + SEED)
    points = rng.uniform(-1, 1, (80, 3))
    line = rng.uniform(-1, 1, (80, 1)) * (1.0, 2.0, -0.5) + rng.normal(0, noise, (80, 3))
    spot = np.ones((80, 3)) + rng.normal(0, noise, (80, 3))
    assert robust_rigid(points[:2], points[:2], threshold=0.05) is None
    assert robust_rigid(np.zeros((0, 3)), np.zeros((0, 3)), threshold=0.05) is None
    for degenerate in (line, spot):
        assert robust_rigid(degenerate, degenerate + rng.normal(0, noise, (80, 3)), threshold=0.05) is None


def test_robust_rigid_all_of_many_points_count() -> None:
    rng = np.random.default_rng(9 + SEED)
    source, motion = rng.uniform(-1, 1, (50_000, 3)), random_motion(rng)
    true = transform_points(motion, source)
    target = true + rng.normal(0, 0.01, source.shape)
    target[:20_000] = rng.uniform(-1, 1, (20_000, 3))
    found = robust_rigid(source, target, threshold=0.1)
    assert found is not None and found[1][20_000:].mean() > 0.98
    # what 2000 points leave of the noise, 0.01 / sqrt(2000) = 2.2e-4, is more than all of them do
    assert np.linalg.norm(transform_points(found[0], source) - true, axis=1).mean() < 2e-4
