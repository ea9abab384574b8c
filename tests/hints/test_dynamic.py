"""Dynamic pixels of a frame."""

import numpy as np

from st4rtrack.hints.dynamic import OtherFrame, dynamic_pixels

SIZE = (96, 128)
SHIFT = 6
OBJECT = (slice(30, 60), slice(40, 80))


def moved_square(hole: bool) -> tuple[np.ndarray, OtherFrame]:
    """A textured square that moves to the right before a fixed camera, and its frame after; flow in its middle may be missed."""
    rng = np.random.default_rng(0)
    grey = rng.integers(0, 255, SIZE, np.uint8)
    other = grey.copy()
    other[30:60, 40 + SHIFT : 80 + SHIFT] = grey[OBJECT]
    forward, backward = np.zeros((*SIZE, 2), np.float32), np.zeros((*SIZE, 2), np.float32)
    forward[OBJECT] = (SHIFT, 0)
    backward[30:60, 40 + SHIFT : 80 + SHIFT] = (-SHIFT, 0)
    if hole:
        forward[40:50, 55:65] = backward[40:50, 55 + SHIFT : 65 + SHIFT] = 0
    return grey, OtherFrame(other, (forward, backward), np.eye(4))


def found(hole: bool, measured: bool) -> np.ndarray:
    grey, other = moved_square(hole)
    return dynamic_pixels(grey, np.full(SIZE, 3, np.float32), np.full(SIZE, measured), [other] * 3, 100.0)


def test_dynamic_pixels_of_moved_square_are_its_pixels() -> None:
    mask = found(hole=False, measured=False)
    inner = np.zeros(SIZE, bool)
    inner[35:55, 45:75] = True
    assert mask[inner].all()
    assert mask.sum() < 1.3 * 30 * 40


def test_dynamic_pixels_with_lost_flow_inside_are_filled() -> None:
    assert found(hole=True, measured=False)[45, 60]


def test_dynamic_pixels_with_a_measured_depth_are_found_where_they_move() -> None:
    assert found(hole=False, measured=True)[45, 60]


def test_dynamic_pixels_of_static_scene_are_none() -> None:
    grey, _ = moved_square(hole=False)
    zero = np.zeros((*SIZE, 2), np.float32)
    other = OtherFrame(grey, (zero, zero), np.eye(4))
    assert not dynamic_pixels(grey, np.full(SIZE, 3, np.float32), np.zeros(SIZE, bool), [other] * 3, 100.0).any()
