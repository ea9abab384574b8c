"""Rotations and focal length of a camera without translation, from matches that are known exactly."""

import numpy as np
import pytest

from st4rtrack.classical.anchor import Matches
from st4rtrack.classical.registration import camera_rotation, rotation_focal
from st4rtrack.classical.solver.evidence import PRIOR_FOCAL
from st4rtrack.classical.two_view import pixel_rays
from st4rtrack.geometry.camera import pixel_grid
from st4rtrack.geometry.sampling import inside_image
from st4rtrack.geometry.transforms import rotation_angle
from tests.cases.world import pose

SIZE, FOCAL = (96, 128), 150.0


def turned(yaw_deg: float, pitch_deg: float = 0.0) -> np.ndarray:
    """Rotation [3, 3] of rays of the first image into the second."""
    return pose(yaw_deg=yaw_deg, pitch_deg=pitch_deg)[:3, :3].T


def seen_after(rotation: np.ndarray, pixels: np.ndarray, noise_px: float = 0.0) -> np.ndarray:
    rays = pixel_rays(pixels, FOCAL, SIZE) @ rotation.T
    exact = rays[:, :2] / rays[:, 2:] * FOCAL + (SIZE[1] / 2, SIZE[0] / 2)
    return exact + np.random.default_rng(0).normal(0, noise_px, exact.shape)


def pan(yaw_deg: float, noise_px: float = 0.0, outliers: float = 0.0) -> Matches:
    """Matches of all pixels with four frames of a pan; a share of them, the left of the image, moves by itself."""
    grid = pixel_grid(*SIZE).reshape(-1, 2)
    frames = np.stack([seen_after(turned(yaw_deg * s, 2 * s), grid, noise_px) for s in (0.25, 0.5, 0.75, 1)])
    frames[:, grid[:, 0] < outliers * SIZE[1]] += (3.0, -6.0)
    return Matches(grid, frames, inside_image(frames, *SIZE), SIZE)


@pytest.mark.parametrize(("noise_px", "tolerance_deg"), [(0.0, 1e-4), (0.5, 0.05)])
def test_camera_rotation_of_matches_recovers_the_rotation(noise_px: float, tolerance_deg: float) -> None:
    grid, rotation = pixel_grid(*SIZE).reshape(-1, 2), turned(7, -3)
    found, agreeing = camera_rotation(grid, seen_after(rotation, grid, noise_px), FOCAL, SIZE)
    assert np.rad2deg(rotation_angle(found.T @ rotation)) < tolerance_deg
    assert agreeing > 0.95


def test_camera_rotation_of_unrelated_matches_has_few_inliers() -> None:
    grid = pixel_grid(*SIZE).reshape(-1, 2)
    _, agreeing = camera_rotation(grid, np.random.default_rng(1).permutation(grid), FOCAL, SIZE)
    assert agreeing < 0.1


@pytest.mark.parametrize(("noise_px", "outliers", "tolerance"), [(0.0, 0.0, 0.01), (0.3, 0.0, 0.03), (0.3, 0.15, 0.05)])
def test_rotation_focal_of_a_pan_recovers_the_focal_length(noise_px: float, outliers: float, tolerance: float) -> None:
    found = rotation_focal(pan(25, noise_px, outliers))
    assert found.decided
    assert found.focal_px == pytest.approx(FOCAL, rel=tolerance)


def test_rotation_focal_of_a_tiny_rotation_is_the_assumed_one() -> None:
    found = rotation_focal(pan(0.5, 0.3))
    assert not found.decided
    assert found.focal_px == PRIOR_FOCAL * max(SIZE)
