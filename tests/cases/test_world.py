"""The truth of the generators: geometry that can be checked from the pixels."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest

from st4rtrack.geometry.transforms import invert_rigid
from tests.cases import clips
from tests.cases.clips import Look
from tests.cases.world import Clip

SMALL = Look(seed=5, width=128, height=96, frames=12, bodies=2)


def visible_content(clip: Clip, frame: int, other: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pixels of a frame, where they are in the other one, both only for what the depth of the other one shows unoccluded."""
    pixels = np.stack(np.meshgrid(np.arange(4, 124, 3), np.arange(4, 92, 3)), -1).reshape(-1, 2)
    moved, depth = clip.move_points(frame, other, pixels)
    inside = ((moved > 2) & (moved < (126, 94))).all(1) & (depth > 0)
    pixels, moved, depth = pixels[inside], moved[inside], depth[inside]
    column, row = moved.astype(int).T
    shown = np.abs(clip.depth[other, row, column] / depth - 1) < 0.02
    return pixels[shown], moved[shown], shown


@pytest.mark.parametrize(
    "make",
    [
        *[lambda look, path=path: clips.moving(look, path) for path in clips.PATHS],
        clips.zoom,
        clips.dolly_zoom,
        clips.rotation,
        clips.off_centre,
        clips.stabilised,
        clips.tripod,
    ],
)
def test_content_of_a_pixel_reprojected_into_another_frame_has_the_same_depth_and_colour(make: Callable[[Look], Clip]) -> None:
    clip = make(SMALL)
    pixels, moved, shown = visible_content(clip, 0, 6)
    assert shown.mean() > 0.8 and len(shown) > 200
    colours = cv2.remap(clip.rgb[6], *(moved.astype(np.float32) - 0.5).T[:, None], cv2.INTER_LINEAR)[0]
    difference = np.abs(colours.astype(float) - clip.rgb[0][pixels[:, 1], pixels[:, 0]]).mean(1)
    wrong = np.abs(colours.astype(float) - np.roll(clip.rgb[0][pixels[:, 1], pixels[:, 0]], 40, axis=0)).mean(1)
    assert np.median(difference) < 8 < np.median(wrong)


def test_moving_pixels_have_content_that_moves_in_the_world() -> None:
    clip = clips.tripod(SMALL)
    pixels = np.argwhere(clip.moving[0])[::7, ::-1]
    moved, _ = clip.move_points(0, 11, pixels)
    still = np.argwhere(~clip.moving[0])[::31, ::-1]
    assert np.linalg.norm(moved - pixels - 0.5, axis=1).min() > 3
    np.testing.assert_allclose(clip.move_points(0, 11, still)[0], still + 0.5, atol=1e-4)


def test_first_camera_is_the_identity_and_cameras_are_rigid() -> None:
    clip = clips.moving(SMALL, "handheld")
    np.testing.assert_allclose(clip.world_from_camera[0], np.eye(4), atol=1e-12)
    np.testing.assert_allclose(
        clip.world_from_camera @ invert_rigid(clip.world_from_camera), np.tile(np.eye(4), (12, 1, 1)), atol=1e-9
    )


def test_bars_shift_the_truth_with_the_picture() -> None:
    clip, plain = clips.bars(SMALL, top=10, side=6), clips.moving(SMALL)
    np.testing.assert_array_equal(clip.rgb[:, 10:-10, 6:-6], plain.rgb)
    np.testing.assert_allclose(clip.intrinsics[:, :2, 2] - plain.intrinsics[:, :2, 2], np.tile((6.0, 10.0), (12, 1)))
    assert (clip.rgb[:, :10] == 0).all() and np.isnan(clip.depth[:, :10]).all()


@pytest.mark.parametrize(("make", "frames"), [(clips.fade, range(4)), (lambda look: clips.cut(look, at=(8,)), range(8, 12))])
def test_frames_of_another_shot_or_without_light_have_no_truth(make: Callable[[Look], Clip], frames: range) -> None:
    unknown = np.isnan(make(SMALL).world_from_camera).any((1, 2))
    assert np.flatnonzero(unknown).tolist() == list(frames)


def test_clean_variants_differ_and_have_parallax() -> None:
    looks = [clips.clean_look(number) for number in range(100)]
    assert len({look for look, _ in looks}) == 100
    assert len({(look.width, look.height) for look, _ in looks}) == 6 and {path for _, path in looks} == set(clips.PATHS)
    clip = clips.clean(4)
    assert np.linalg.norm(clip.world_from_camera[-1, :3, 3]) > 0.05 * np.median(clip.depth[0])
