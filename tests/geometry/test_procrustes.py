"""Robust alignment: motions are recovered from points of which only some fit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from st4rtrack.geometry.procrustes import robust_rigid
from st4rtrack.geometry.transforms import rotation_angle
from tests.seeds import SEED


def random_motion(rng: np.random.Generator, scale: float = 1.0) -> tuple[float, np.ndarray, np.ndarray]:
    q, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    return scale, q * np.sign(np.linalg.det(q)), rng.normal(size=3)


def moved(points: np.ndarray, motion: tuple[float, np.ndarray, np.ndarray]) -> np.ndarray:
    scale, rotation, translation = motion
    return scale * points @ rotation.T + translation


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 10**6), count=st.integers(4, 60), scale=st.sampled_from([None, 0.05, 1.0, 30.0]))
def test_an_exact_motion_is_recovered_exactly(seed: int, count: int, scale: float | None) -> None:
    rng = np.random.default_rng(seed + SEED)
    source = rng.normal(size=(count, 3)) * (1, 0.5, 2) + (3, -1, 8)
    motion = random_motion(rng, scale or 1.0)
    target = moved(source, motion)
    found = robust_rigid(source, target, threshold=0.05 * motion[0], with_scale=scale is not None)
    assert found is not None
    sim3, inliers = found
    assert inliers.all()
    assert sim3.scale == pytest.approx(motion[0], rel=1e-9)
    assert np.allclose(sim3.rotation, motion[1], atol=1e-9)
    assert np.allclose(sim3(source), target, atol=1e-9 * max(1, motion[0]))


@pytest.mark.parametrize("with_scale", [False, True])
def test_a_plane_is_no_reflection(with_scale: bool) -> None:
    rng = np.random.default_rng(1 + SEED)
    source = np.column_stack([rng.normal(size=(50, 2)), np.zeros(50)])
    motion = random_motion(rng)
    found = robust_rigid(source, moved(source, motion), threshold=0.01, with_scale=with_scale)
    assert found is not None and np.allclose(found[0].rotation, motion[1], atol=1e-9)


@pytest.mark.parametrize("wrong_share", [0.3, 0.6])
@pytest.mark.parametrize("with_scale", [False, True])
def test_wrong_pairs_and_noise_do_little(wrong_share: float, with_scale: bool) -> None:
    rng = np.random.default_rng(2 + SEED)
    source, noise = rng.uniform(-1, 1, (600, 3)), 0.004
    motion = random_motion(rng, 1.7 if with_scale else 1.0)
    wrong = rng.random(600) < wrong_share
    target = moved(source, motion) + rng.normal(0, noise, (600, 3))
    target[wrong] += rng.normal(0, 0.5, (wrong.sum(), 3))
    found = robust_rigid(source, target, threshold=0.1, with_scale=with_scale)
    assert found is not None
    sim3, inliers = found
    assert np.linalg.norm(sim3(source) - moved(source, motion), axis=1).max() < noise
    assert (inliers & wrong).sum() < 0.02 * wrong.sum() and inliers[~wrong].mean() > 0.97


def test_a_second_motion_within_the_threshold_does_not_pull() -> None:
    rng = np.random.default_rng(3 + SEED)
    source = rng.uniform(-1, 1, (500, 3))
    slow = rng.random(500) < 0.3
    target = source + rng.normal(0, 0.001, (500, 3)) + slow[:, None] * (0.03, 0, 0)
    found = robust_rigid(source, target, threshold=0.05)
    assert found is not None and not (found[1] & slow).any()
    assert np.linalg.norm(found[0](source) - source, axis=1).max() < 0.001


def test_order_and_seed_do_not_matter() -> None:
    rng = np.random.default_rng(4 + SEED)
    source, motion = rng.uniform(-1, 1, (300, 3)), random_motion(rng)
    target = moved(source, motion) + rng.normal(0, 0.003, (300, 3))
    target[:100] = rng.uniform(-1, 1, (100, 3))
    first = robust_rigid(source, target, threshold=0.05)
    assert first is not None
    for seed in (0, 1, 2):
        order = rng.permutation(300)
        again = robust_rigid(source[order], target[order], threshold=0.05, seed=seed)
        assert again is not None
        assert np.allclose(again[0](source), first[0](source), atol=2e-4)
        assert (again[1] != first[1][order]).sum() <= 3
    same = robust_rigid(source, target, threshold=0.05)
    assert same is not None and np.array_equal(same[0].rotation, first[0].rotation) and np.array_equal(same[1], first[1])


def test_moving_both_sides_moves_the_answer() -> None:
    rng = np.random.default_rng(5 + SEED)
    source = rng.uniform(-1, 1, (200, 3))
    target = moved(source, random_motion(rng)) + rng.normal(0, 0.003, (200, 3))
    target[:60] += rng.normal(0, 1, (60, 3))
    before, after = random_motion(rng), random_motion(rng)
    plain = robust_rigid(source, target, threshold=0.05)
    shifted = robust_rigid(moved(source, before), moved(target, after), threshold=0.05)
    assert plain is not None and shifted is not None
    assert np.allclose(shifted[0](moved(source, before)), moved(plain[0](source), after), atol=1e-7)
    assert np.array_equal(plain[1], shifted[1])


def test_weights_decide_between_two_motions_and_zero_leaves_out() -> None:
    rng = np.random.default_rng(6 + SEED)
    source = rng.uniform(-1, 1, (200, 3))
    first, second = random_motion(rng), random_motion(rng)
    target = moved(source, first)
    target[:120] = moved(source[:120], second)
    for favoured, motion in ((slice(120, 200), first), (slice(0, 120), second)):
        weights = np.full(200, 0.1)
        weights[favoured] = 1.0
        found = robust_rigid(source, target, threshold=0.05, weights=weights)
        assert found is not None and rotation_angle(found[0].rotation.T @ motion[1]) < 1e-6
    weights = np.ones(200)
    weights[:120] = 0.0
    found = robust_rigid(source, target, threshold=0.05, weights=weights)
    assert found is not None and not found[1][:120].any() and found[1][120:].all()


def test_pairs_that_are_not_finite_are_left_out() -> None:
    rng = np.random.default_rng(7 + SEED)
    source, motion = rng.uniform(-1, 1, (50, 3)), random_motion(rng)
    target = moved(source, motion)
    source[3, 1], target[9] = np.nan, np.inf
    found = robust_rigid(source, target, threshold=0.05)
    assert found is not None and np.allclose(found[0].rotation, motion[1])
    assert np.flatnonzero(~found[1]).tolist() == [3, 9]


@pytest.mark.parametrize("noise", [0.0, 0.002])
def test_what_leaves_the_rotation_open_is_refused(noise: float) -> None:
    rng = np.random.default_rng(8 + SEED)
    points = rng.uniform(-1, 1, (80, 3))
    line = rng.uniform(-1, 1, (80, 1)) * (1.0, 2.0, -0.5) + rng.normal(0, noise, (80, 3))
    spot = np.ones((80, 3)) + rng.normal(0, noise, (80, 3))
    assert robust_rigid(points[:2], points[:2], threshold=0.05) is None
    assert robust_rigid(np.zeros((0, 3)), np.zeros((0, 3)), threshold=0.05) is None
    for degenerate in (line, spot):
        target = degenerate + rng.normal(0, noise, (80, 3))
        for with_scale in (False, True):
            assert robust_rigid(degenerate, target, threshold=0.05, with_scale=with_scale) is None


def test_all_of_many_points_count() -> None:
    rng = np.random.default_rng(9 + SEED)
    source, motion = rng.uniform(-1, 1, (50_000, 3)), random_motion(rng, 2.0)
    target = moved(source, motion) + rng.normal(0, 0.01, source.shape)
    target[:20_000] = rng.uniform(-1, 1, (20_000, 3))
    found = robust_rigid(source, target, threshold=0.1, with_scale=True)
    assert found is not None and found[1][20_000:].mean() > 0.98
    # what 2000 points leave of the noise, 0.01 / sqrt(2000) = 2.2e-4, is more than all of them do
    assert np.linalg.norm(found[0](source) - moved(source, motion), axis=1).mean() < 2e-4


def test_wrong_arguments_are_refused() -> None:
    points = np.zeros((5, 3))
    for source, target, threshold, weights in (
        (points, points[:4], 0.1, None),
        (points[:, :2], points[:, :2], 0.1, None),
        (points, points, 0.0, None),
        (points, points, 0.1, -np.ones(5)),
        (points, points, 0.1, np.full(5, np.nan)),
        (points, points, 0.1, np.ones(4)),
    ):
        with pytest.raises(ValueError, match=r"points must be|threshold must be"):
            robust_rigid(source, target, threshold=threshold, weights=weights)
