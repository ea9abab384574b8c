import numpy as np
import pytest

from st4rtrack.geometry.transforms import rigid
from st4rtrack.metrics.cameras import camera_errors
from tests.seeds import SEED


def rotation(axis: np.ndarray, angle: float) -> np.ndarray:
    """Rodrigues' formula."""
    x, y, z = axis / np.linalg.norm(axis)
    skew = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + np.sin(angle) * skew + (1 - np.cos(angle)) * skew @ skew


def trajectory(seed: int, frames: int = 12) -> np.ndarray:
    rng = np.random.default_rng(seed + SEED)
    turns = [rotation(rng.normal(size=3), 0.1 * t) for t in range(frames)]
    return rigid(np.stack(turns), np.cumsum(rng.normal(0, 0.2, (frames, 3)), axis=0))


def test_a_similarity_is_aligned_away() -> None:
    true = trajectory(0)
    turn = rotation(np.array([1.0, 2, 3]), 0.7)
    moved = rigid(turn @ true[:, :3, :3], 3.0 * true[:, :3, 3] @ turn.T + (1, 2, 3))
    errors = camera_errors(moved, true)
    assert errors.ate_m == pytest.approx(0, abs=1e-9)
    assert errors.rpe_translation_m == pytest.approx(0, abs=1e-9) and errors.rpe_rotation_deg == pytest.approx(0, abs=1e-6)
    assert errors.frames == 12


def test_noise_of_known_size_is_found() -> None:
    rng = np.random.default_rng(1 + SEED)
    true = trajectory(1, frames=4000)
    noisy = true.copy()
    noisy[:, :3, 3] += rng.normal(0, 0.05, (4000, 3))
    assert camera_errors(noisy, true).ate_m == pytest.approx(0.05 * np.sqrt(3), rel=0.03)
    assert camera_errors(noisy, true).rpe_translation_m == pytest.approx(0.05 * np.sqrt(6), rel=0.03)


def test_rotation_error_is_between_frames() -> None:
    true = trajectory(2)
    axis = np.array([0.0, 0, 1])
    true[:, :3, :3] = [rotation(axis, 0.1 * t) for t in range(len(true))]
    drifting, constant = true.copy(), true.copy()
    drifting[:, :3, :3] = [rotation(axis, (0.1 + np.radians(2.0)) * t) for t in range(len(true))]
    constant[:, :3, :3] = true[:, :3, :3] @ rotation(axis, 0.3)
    assert camera_errors(drifting, true).rpe_rotation_deg == pytest.approx(2.0)
    assert camera_errors(constant, true).rpe_rotation_deg == pytest.approx(0, abs=1e-6)


def test_a_fixed_camera_uses_the_scale_of_the_points() -> None:
    still = np.tile(np.eye(4), (5, 1, 1))
    shaky = still.copy()
    shaky[:, 0, 3] = (0, 0.1, -0.1, 0.1, -0.1)
    assert camera_errors(shaky, still, scale=2.0).ate_m == pytest.approx(0.2 * np.sqrt(4 / 5))
    assert camera_errors(still, still).ate_m == 0
    moving = trajectory(3)
    still = np.tile(np.eye(4), (12, 1, 1))
    assert camera_errors(still, moving).ate_m == pytest.approx(np.sqrt((moving[:, :3, 3] ** 2).sum(-1).mean()))
    still[:, :3, 3] = (5, 0, 1)  # away from the origin it is as still
    assert camera_errors(still, moving).ate_m == pytest.approx(np.sqrt(((moving[:, :3, 3] - (5, 0, 1)) ** 2).sum(-1).mean()))


def test_unknown_cameras_are_left_out_and_counted() -> None:
    true = trajectory(4)
    holed = true.copy()
    holed[5] = np.nan
    errors = camera_errors(holed, true)
    assert errors.frames == 11 and errors.ate_m == pytest.approx(0, abs=1e-9) and errors.rpe_translation_m < 1e-9
    none = camera_errors(np.full_like(true, np.nan), true)
    assert none.frames == 0 and np.isnan(none.ate_m)


def test_a_gap_is_no_step() -> None:
    true = trajectory(5)
    axis = np.array([0.0, 0, 1])
    true[:, :3, :3] = np.eye(3)
    drifting = true.copy()
    drifting[:, :3, :3] = [rotation(axis, np.radians(2.0) * t) for t in range(len(true))]
    drifting[[4, 7]] = np.nan
    errors = camera_errors(drifting, true)
    assert errors.frames == 10 and errors.rpe_rotation_deg == pytest.approx(2.0)  # over a gap it would be 4
