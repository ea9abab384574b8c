"""Layout of the image on generated videos."""

import cv2
import numpy as np
import pytest

from st4rtrack.classical.layout import Layout, find_layout, sampled_indices
from tests.classical.scenes import Room, compressed, noisy, with_bars, with_logo, with_text

ROOM = Room(3)
Images = list[np.ndarray]


@pytest.fixture(scope="module")
def moving() -> Images:
    return ROOM.video(12, x=0.9, yaw_deg=-4)


def layout_of(images: Images) -> Layout:
    return find_layout([images[k] for k in sampled_indices(len(images))], images[0].shape[:2])


def test_layout_clean_video_is_all_content(moving: Images) -> None:
    layout = layout_of(compressed(moving))
    assert layout.content == (0, 0, 160, 120)
    assert layout.stereo == "none"
    assert layout.overlay is not None
    assert not layout.overlay.any()


@pytest.mark.parametrize(("top", "side", "colour"), [(14, 0, (0, 0, 0)), (0, 22, (16, 12, 20)), (9, 12, (0, 0, 0))])
def test_layout_compressed_bars_content_within_two_pixels(
    moving: Images, top: int, side: int, colour: tuple[int, int, int]
) -> None:
    layout = layout_of(compressed(with_bars(moving, top, side, colour), 80))
    np.testing.assert_allclose(layout.content, (side, top, side + 160, top + 120), atol=2)


def with_blurred_bars(images: Images, side: int, gain: float) -> Images:
    """Images between bars at the sides, filled with a blurred copy of them that is enlarged to the new width."""
    height, width = images[0].shape[:2]
    wide = width + 2 * side
    filled = []
    for image in images:
        large = cv2.resize(image, (wide, height * wide // width))[(height * wide // width - height) // 2 :][:height]
        copy = (cv2.GaussianBlur(large, (0, 0), 0.03 * wide) * gain).astype(np.uint8)
        copy[:, side : side + width] = image
        filled.append(copy)
    return filled


@pytest.mark.parametrize(("side", "gain"), [(40, 1.0), (90, 0.6)])
@pytest.mark.parametrize("above", [False, True])
def test_layout_blurred_copy_beside_the_video_is_a_bar(moving: Images, side: int, gain: float, above: bool) -> None:
    turned = [image.swapaxes(0, 1) for image in moving] if above else moving
    images = with_blurred_bars(turned, side, gain)
    images = compressed([np.ascontiguousarray(image.swapaxes(0, 1)) for image in images] if above else images, 85)
    expected = (0, side, 160, side + 120) if above else (side, 0, side + 160, 120)
    np.testing.assert_allclose(layout_of(images).content, expected, atol=2)


def test_layout_blurred_sides_of_the_scene_are_no_bars(moving: Images) -> None:
    """Out of focus at both sides, with and without a straight edge: no copy of the middle."""
    for soft in (0, 12):
        images = []
        for image in moving:
            weight = np.clip((np.abs(np.arange(160) - 79.5) - 45) / max(soft, 1), 0, 1)[None, :, None]
            images.append((image * (1 - weight) + cv2.GaussianBlur(image, (0, 0), 8) * weight).astype(np.uint8))
        assert layout_of(images).content == (0, 0, 160, 120)


def test_layout_subtitles_in_bars_leave_content(moving: Images) -> None:
    layout = layout_of(with_text(with_bars(moving, 18, 0), "IN THE BAR", height=0.98))
    np.testing.assert_allclose(layout.content, (0, 18, 160, 138), atol=2)


def test_layout_reduced_frames_content_in_source_pixels(moving: Images) -> None:
    small = [cv2.resize(image, (80, 75), interpolation=cv2.INTER_AREA) for image in with_bars(moving, 15, 0)]
    layout = find_layout([small[k] for k in sampled_indices(12)], (150, 160))
    np.testing.assert_allclose(layout.content, (0, 15, 160, 135), atol=2)


def test_layout_night_and_black_videos_have_no_bars(moving: Images) -> None:
    for images in (noisy(moving, 1.5, gain=0.15), noisy(moving, 2.5, gain=0.03), [np.zeros_like(moving[0])] * 4):
        assert layout_of(images).content == (0, 0, 160, 120)


def test_layout_logo_is_masked(moving: Images) -> None:
    overlay = layout_of(with_logo(moving)).overlay
    assert overlay is not None
    assert overlay[6:22, 110:154].mean() > 0.7
    assert overlay[30:].mean() < 0.01


def test_layout_fixed_camera_overlay_is_undecided() -> None:
    assert layout_of(with_logo(ROOM.video(12))).overlay is None


@pytest.mark.parametrize(("axis", "expected"), [(1, "side_by_side"), (0, "over_under")])
def test_layout_stereo_named(moving: Images, axis: int, expected: str) -> None:
    right = ROOM.video(12, x=lambda s: 0.06 + 0.9 * s, yaw_deg=-4)
    views = [np.concatenate(pair, axis=axis) for pair in zip(moving, right, strict=True)]
    step = (slice(None), slice(None, None, 2)) if axis else (slice(None, None, 2),)
    assert layout_of([np.ascontiguousarray(image[step]) for image in views]).stereo == expected


def test_sampled_indices_short_video_stays_inside() -> None:
    assert sampled_indices(1) == [0]
    assert max(sampled_indices(1000)) <= 999
    assert len(sampled_indices(1000)) == 16
