"""A drift among points of which some moved: found where the points tell it, left alone where they do not."""

import cv2
import numpy as np
import pytest

from st4rtrack.geometry.agreement import drift
from st4rtrack.geometry.align import Sim3
from st4rtrack.geometry.transforms import rotation_angle
from tests.seeds import SEED

POINTS = 1500


def scene(seed: int) -> tuple[np.ndarray, np.random.Generator]:
    """Points before a camera, from one to six away."""
    rng = np.random.default_rng(seed + SEED)
    rays = np.concatenate([rng.uniform(-0.6, 0.6, (POINTS, 2)), np.ones((POINTS, 1))], axis=1)
    return rays * rng.uniform(1, 6, (POINTS, 1)), rng


def drifted(points: np.ndarray, motion: Sim3) -> np.ndarray:
    """What the motion brings to the points."""
    return (points - motion.translation) @ motion.rotation / motion.scale


@pytest.mark.parametrize("scale", [0.9, 1.002, 1.15])
def test_a_drift_is_found_although_a_third_of_the_points_moved(scale: float) -> None:
    points, rng = scene(0)
    true = Sim3(scale, cv2.Rodrigues(np.array([0.01, -0.02, 0.005]))[0], np.array([0.03, 0.0, -0.05]))
    source = drifted(points, true)
    source += 0.005 * np.linalg.norm(source, axis=1, keepdims=True) * rng.standard_normal(source.shape)
    moved = rng.random(POINTS) < 1 / 3
    source[moved] += rng.uniform(0.3, 1.0, 3)
    found = drift(source, points)
    assert found.scale == pytest.approx(true.scale, rel=1e-3)
    assert np.rad2deg(rotation_angle(found.rotation.T @ true.rotation)) < 0.1
    np.testing.assert_allclose(found(source[~moved]).mean(axis=0), points[~moved].mean(axis=0), atol=0.005)


def test_noise_alone_is_not_taken_for_a_drift() -> None:
    kept = []
    for seed in range(20):
        points, rng = scene(seed)
        noise = 0.02 * np.linalg.norm(points, axis=1, keepdims=True) * rng.standard_normal((POINTS, 3))
        plain, shrunk = (drift(points + noise, points, points_per_sample=share)(points) - points for share in (1e-9, 1.0))
        kept.append(np.linalg.norm(shrunk) / np.linalg.norm(plain))
    assert np.mean(kept) < 0.35
    assert np.mean(np.array(kept) == 0) > 0.4


def test_points_that_share_their_error_are_fewer_samples() -> None:
    points, rng = scene(1)
    patches = 0.02 * np.repeat(rng.standard_normal((POINTS // 15, 3)), 15, axis=0)
    source = points + np.linalg.norm(points, axis=1, keepdims=True) * patches
    moved = [np.linalg.norm(drift(source, points, points_per_sample=share)(points) - points) for share in (1.0, 15.0)]
    assert moved[1] < 0.5 * moved[0]


def test_too_few_or_useless_points_change_nothing() -> None:
    points, _ = scene(2)
    for source, target in ((points[:5], 2 * points[:5]), (points * np.nan, points), (points * 0, points * 0)):
        found = drift(source, target)
        assert found.scale == 1 and not found.translation.any() and (found.rotation == np.eye(3)).all()
    with pytest.raises(ValueError, match="points must be"):
        drift(points, points[1:])


def test_weights_say_whom_to_believe() -> None:
    points, _ = scene(3)
    believed = np.arange(POINTS) % 2 == 0
    source = np.where(believed[:, None], points / 1.1, points)
    assert drift(source, points, weights=believed.astype(float)).scale == pytest.approx(1.1, rel=1e-6)
    assert drift(source, points, weights=(~believed).astype(float)).scale == pytest.approx(1.0, rel=1e-6)
