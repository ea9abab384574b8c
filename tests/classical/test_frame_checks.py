"""Checks of frames on generated videos of 12 frames."""

import numpy as np
import pytest

from st4rtrack.classical import frame_checks
from st4rtrack.classical.frame_checks import FrameChecks
from tests.classical.scenes import Room, noisy

ROOM = Room(3)
Images = list[np.ndarray]


@pytest.fixture(scope="module")
def moving() -> Images:
    return ROOM.video(12, x=0.9, yaw_deg=-4)


@pytest.fixture(scope="module")
def other() -> Images:
    """Another part of the same room."""
    return ROOM.video(6, x=0.4, yaw_deg=lambda s: 160 + 2 * s, z=lambda s: 4.0)


def checked(images: Images, order: list[int] | None = None) -> FrameChecks:
    checks = FrameChecks()
    for index in order or range(len(images)):
        checks.add(index, images[index])
    checks.finish()
    return checks


@pytest.mark.parametrize("order", [None, [*range(4, 12), 3, 2, 1, 0], [*range(9, 12), *range(8, -1, -1)]])
def test_frame_checks_hard_cut_names_first_frame_of_second_shot(moving: Images, other: Images, order: list[int] | None) -> None:
    assert checked(moving[:6] + other, order).cuts == (6,)


def test_frame_checks_cut_with_blended_frame_found(moving: Images, other: Images) -> None:
    blend = (moving[5] // 2 + other[0] // 2).astype(np.uint8)
    assert checked([*moving[:6], blend, *other]).cuts == (7,)


def test_frame_checks_cut_after_black_frames_found(moving: Images, other: Images) -> None:
    checks = checked([*moving[:5], *[np.zeros_like(moving[0])] * 3, *other])
    assert checks.cuts == (8,)
    assert checks.frames_in("black") == (5, 6, 7)


def test_frame_checks_black_frames_in_one_shot_are_no_cut(moving: Images) -> None:
    checks = checked([*moving[:5], *[np.zeros_like(moving[0])] * 2, *moving[7:]], order=[*range(6, 12), *range(5, -1, -1)])
    assert checks.cuts == ()
    assert checks.frames_in("black") == (5, 6)


def test_frame_checks_flicker_flash_and_fade_are_no_cut(moving: Images) -> None:
    flicker = [(image * (0.55 if k % 2 else 1.0)).astype(np.uint8) for k, image in enumerate(moving)]
    assert checked(flicker).cuts == ()
    assert checked([*moving[:5], np.full_like(moving[0], 250), *moving[6:]]).cuts == ()
    assert checked([(image * min(1, (k + 1) / 8)).astype(np.uint8) for k, image in enumerate(moving)]).cuts == ()


def test_frame_checks_large_steps_and_passing_subject_are_no_cut(moving: Images, other: Images) -> None:
    assert checked(ROOM.video(5, x=1.0, yaw_deg=30)).cuts == ()
    assert checked([*moving[:5], *other[:2], *moving[7:]]).cuts == ()  # something covers the lens for two frames


def test_frame_checks_clean_video_is_usable(moving: Images) -> None:
    assert set(checked(moving).states.values()) == {"usable"}


def test_frame_checks_night_and_white_wall_are_unusable(moving: Images) -> None:
    night = checked(noisy(moving, 2.5, gain=0.03))
    assert set(night.states.values()) <= {"dark", "black"}
    wall = checked(noisy([np.full_like(moving[0], 225)] * 4, 1.5))
    assert set(wall.states.values()) == {"low_texture"}


def with_lights(images: Images, num: int) -> Images:
    """Lamps with a glow that move on their own."""
    rng = np.random.default_rng(4)
    height, width = images[0].shape[:2]
    start, step = rng.uniform(15, (width - 15, height - 15), (num, 2)), rng.uniform(-2, 2, (num, 2))
    lit = []
    for k, image in enumerate(images):
        away = np.hypot(*(np.mgrid[:height, :width][::-1, None] - (start + k * step).T[..., None, None]))
        glow = np.where(away < 4, 255, 200 * np.exp(-(away - 4) / 3)).max(0)
        lit.append(np.maximum(image, glow[..., None]).astype(np.uint8))
    return lit


@pytest.mark.parametrize("num", [2, 4])
def test_frame_checks_few_lights_in_the_dark_are_dark(moving: Images, num: int) -> None:
    assert set(checked(with_lights(noisy(moving, 2.5, gain=0.02), num)).states.values()) == {"dark"}


def test_frame_checks_lights_in_night_street_with_texture_are_usable(moving: Images) -> None:
    street = noisy(moving, 2.0, gain=0.15)
    assert np.median(street[0]) < frame_checks.BLACK_LEVEL
    assert set(checked(with_lights(street, 4)).states.values()) == {"usable"}


def test_frame_checks_cut_between_similar_textures_is_found_in_a_steady_shot(monkeypatch: pytest.MonkeyPatch) -> None:
    def share(first: frame_checks._Frame, second: frame_checks._Frame) -> float:
        return 0.32 if first.index < 4 <= second.index else 0.98

    monkeypatch.setattr(frame_checks, "_match", lambda a, b: (0.22 if (a.index, b.index) == (3, 4) else share(a, b), 1.0))
    monkeypatch.setattr(frame_checks, "_sparse_match", lambda *_: False)
    checks = FrameChecks()
    for index in range(9):
        checks.add(index, np.random.default_rng(index).integers(0, 255, (64, 96, 3), dtype=np.uint8).repeat(2, 0).repeat(2, 1))
    assert checks.finish() == (4,)


@pytest.mark.parametrize(("blended", "order"), [(2, None), (8, None), (4, [*range(19, -1, -1)])])
def test_frame_checks_cross_fade_is_a_cut(blended: int, order: list[int] | None) -> None:
    first, second = ROOM.video(20, x=0.3, yaw_deg=-2), Room(8).video(20, x=-0.3, yaw_deg=2)
    weights = np.clip((np.arange(20) - 10) / blended + 0.5, 0, 1)
    images = [(a * (1 - w) + b * w).astype(np.uint8) for a, b, w in zip(first, second, weights, strict=True)]
    cuts = checked(images, order).cuts
    assert len(cuts) == 1 and abs(cuts[0] - 10) <= max(blended // 2, 1)
