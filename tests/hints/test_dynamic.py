"""Dynamic pixels of a frame."""

import numpy as np

from st4rtrack.hints.dynamic import ObjectDepth, OtherFrame, dynamic_pixels
from tests.seeds import SEED

SIZE = (96, 128)
SHIFT = 6
GROUND_SIZE = (48, 64)
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
    return grey, OtherFrame(other, (forward, backward), np.eye(4), 100.0)


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
    other = OtherFrame(grey, (zero, zero), np.eye(4), 100.0)
    assert not dynamic_pixels(grey, np.full(SIZE, 3, np.float32), np.zeros(SIZE, bool), [other] * 3, 100.0).any()


def test_object_depth_standing_object_is_no_farther_than_where_it_touches_the_ground() -> None:
    ground = np.repeat(np.linspace(8.0, 2.0, GROUND_SIZE[0])[:, None], GROUND_SIZE[1], axis=1).astype(np.float32)
    dynamic = np.zeros(GROUND_SIZE, bool)
    dynamic[10:30, 20:28] = True
    depth = ground.copy()
    feet = ground[30, 0]
    depth[dynamic] = np.repeat(np.linspace(5.0, feet, 20), 8)  # the head bends back towards the background
    placed = ObjectDepth().next(depth, dynamic, np.zeros((*GROUND_SIZE, 2), np.float32), None)
    assert placed[dynamic].max() <= ground[29, 0]
    assert placed[dynamic].min() >= feet * 0.9
    np.testing.assert_array_equal(placed[~dynamic], depth[~dynamic])


def test_object_depth_region_that_does_not_stand_out_keeps_its_depth() -> None:
    depth = np.full(GROUND_SIZE, 5.0, np.float32)
    depth[34:] = 4.8
    dynamic = np.zeros(GROUND_SIZE, bool)
    dynamic[14:34, 20:28] = True
    np.testing.assert_array_equal(ObjectDepth().next(depth, dynamic, np.zeros((*GROUND_SIZE, 2), np.float32), None), depth)


def test_dynamic_pixels_of_a_region_that_hardly_differs_from_the_static_point_are_none() -> None:
    rng = np.random.default_rng(SEED)
    forward = np.zeros((*SIZE, 2), np.float32)
    forward[20:40, 20:40] = (4.0, 0.0)
    for low, found in ((90, False), (30, True)):  # little texture: the target of the flow hardly looks better
        grey = rng.integers(low, 98, SIZE).astype(np.uint8)
        other = OtherFrame(np.roll(grey, 4, axis=1), (forward, np.roll(-forward, 4, axis=1)), np.eye(4), 100.0)
        depth = np.full(SIZE, 3, np.float32)
        assert dynamic_pixels(grey, depth, np.zeros(SIZE, bool), [other] * 3, 100.0)[25:35, 25:35].all() == found


def test_dynamic_pixels_of_a_region_with_noisy_flow_around_it_are_none() -> None:
    grey = np.random.default_rng(SEED).integers(30, 98, SIZE).astype(np.uint8)
    for around, found in ((0.0, True), (3.0, False)):
        forward = np.zeros((*SIZE, 2), np.float32)
        forward[10:50, 10:50, 1] = around
        forward[20:40, 20:40] = (4.0, 0.0)
        other = OtherFrame(np.roll(grey, 4, axis=1), (forward, np.roll(-forward, 4, axis=1)), np.eye(4), 100.0)
        depth = np.full(SIZE, 3, np.float32)
        assert dynamic_pixels(grey, depth, np.zeros(SIZE, bool), [other] * 3, 100.0)[25:35, 25:35].any() == found
