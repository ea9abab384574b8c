"""Figures of a sequence whose errors are planted."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from st4rtrack.types import Pointmap, TwoPointmaps

sys.path.append(str(Path(__file__).parents[2] / "performance"))

from temporal_measure import Sequence, figures_of

TIME, HEIGHT, WIDTH = 8, 48, 64


def planted(noise_m: float, unit_m: float = 1.0) -> Sequence:
    """A still world four metres away, its left half moving sideways at 0.1 m per frame; prediction with noise along x, in a unit."""
    rng = np.random.default_rng(0)
    still = rng.uniform(-1, 1, (1, HEIGHT, WIDTH, 3)) + [0, 0, 4]
    tracks = np.repeat(still, TIME, axis=0)
    tracks[:, :, : WIDTH // 2, 0] += 0.1 * np.arange(TIME)[:, None, None]
    moving = np.zeros((TIME, HEIGHT, WIDTH), bool)
    moving[1:, :, : WIDTH // 2] = True
    valid = torch.ones(TIME, HEIGHT, WIDTH, dtype=torch.bool)
    truth = TwoPointmaps(Pointmap(torch.from_numpy(tracks), valid=valid), Pointmap(torch.from_numpy(tracks), valid=valid))
    found = tracks.copy()
    found[..., 0] += noise_m * rng.choice([-1, 1], tracks.shape[:3])
    return Sequence(found / unit_m, tracks / unit_m, truth, moving)


def test_what_is_right_up_to_its_unit_has_no_error() -> None:
    figures = figures_of(planted(0.0, unit_m=3.0))
    for name in ("tracking_m", "tracking_moving_m", "reconstruction_m", "jitter_mm"):
        assert figures[name] == pytest.approx(0, abs=1e-6), name


def test_noise_is_found_as_error_and_as_jitter() -> None:
    figures = figures_of(planted(0.02))
    assert figures["tracking_m"] == pytest.approx(0.02, rel=0.1)
    assert figures["tracking_moving_m"] == pytest.approx(0.02, rel=0.1)
    # |a - 2 b + c| of signs at random is 0, 2, 2 or 4 with equal probability
    assert figures["jitter_mm"] == pytest.approx(40, rel=0.1)
    assert figures["smoothed_jitter_mm"] < 0.6 * figures["jitter_mm"]


def test_an_error_that_stays_is_told_from_one_that_varies() -> None:
    sequence = planted(0.02)
    varies = figures_of(sequence)
    assert varies["constant_m"] < 0.6 * varies["tracking_m"]  # noise that averages out
    sequence.tracking[..., 1] += 0.3
    stays = figures_of(sequence)
    assert stays["tracking_m"] > 0.25
    assert stays["constant_m"] == pytest.approx(stays["tracking_m"], rel=0.02)
    assert stays["constant_moving_m"] == pytest.approx(stays["tracking_moving_m"], rel=0.02)


def test_unlabelled_pixels_and_the_anchor_itself_do_not_count() -> None:
    clean, spoilt = planted(0.01), planted(0.01)
    for sequence in (clean, spoilt):
        assert sequence.truth.tracking.valid is not None
        sequence.truth.tracking.valid[:, 0] = False
    spoilt.tracking[:, 0] += 100
    assert figures_of(spoilt) == figures_of(clean)
    spoilt.tracking[0, 1:, : WIDTH // 2] += 1e-3
    assert figures_of(spoilt)["tracking_m"] == pytest.approx(figures_of(clean)["tracking_m"], rel=1e-3)


def test_without_motion_its_error_is_unknown() -> None:
    sequence = planted(0.01)
    sequence.moving[:] = False
    assert np.isnan(figures_of(sequence)["tracking_moving_m"])
