"""What all writers share: which pixels are tracked, and how they are followed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from st4rtrack.io.formats.content import choose_pixels, follow
from st4rtrack.types import UserError
from tests.synthetic_scene import synthetic_scene


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 30), st.integers(1, 30), st.integers(1, 900), st.floats(0, 0.9))
def test_chosen_pixels_are_sure_different_and_not_too_many(height, width, count, dropped) -> None:
    scene = synthetic_scene(2, height, width)
    pixels = choose_pixels(scene, count, drop_least_sure=dropped)
    assert 1 <= len(pixels) <= count
    assert len(set(zip(pixels.row.tolist(), pixels.column.tolist()))) == len(pixels)
    confidence = np.asarray(scene.tracking.confidence[scene.anchor_index])
    assert (confidence[pixels.row, pixels.column] >= np.quantile(confidence, dropped)).all()
    np.testing.assert_array_equal(pixels.colours, scene.rgb[scene.anchor_index, pixels.row, pixels.column])


def test_all_pixels_when_there_is_room() -> None:
    assert len(choose_pixels(synthetic_scene(), 48, drop_least_sure=0)) == 48


def test_sparse_truth_still_gives_tracks() -> None:
    scene = synthetic_scene(height=20, width=20)
    scene.tracking.points_world[:, 3:, :] = np.nan
    assert len(choose_pixels(scene, 30, drop_least_sure=0)) >= 15


def test_what_is_unknown_stays_where_it_was() -> None:
    scene = synthetic_scene()  # the anchor is frame 1
    scene.tracking.points_world[0] = np.nan
    scene.tracking.points_world[2] = np.inf
    pixels = choose_pixels(scene, 10)
    (first, first_seen), (anchor, _), (third, third_seen), (fourth, _) = follow(scene, pixels)
    np.testing.assert_array_equal(first, anchor)
    np.testing.assert_array_equal(third, anchor)
    np.testing.assert_array_equal(fourth, scene.tracking.points_world[3, pixels.row, pixels.column])
    assert not first_seen.any() and not third_seen.any()


def test_nothing_to_track() -> None:
    scene = synthetic_scene()
    with pytest.raises(UserError, match="at least 1"):
        choose_pixels(scene, 0)
    scene.tracking.points_world[1] = np.nan
    with pytest.raises(UserError, match="nothing to track"):
        choose_pixels(scene, 10)
