"""Tracks of query positions of any frame, on a plane that moves in front of a static camera."""

import numpy as np
import pytest

from st4rtrack.geometry.align import robust_similarity
from st4rtrack.geometry.camera import intrinsics_from_focal, pixel_grid, unproject
from st4rtrack.geometry.track_assignment import tracked_view
from st4rtrack.scene import FrameSurface, assign_anchors, assigned_tracks, read_tracks
from st4rtrack.types import TrackingOverTime
from tests.seeds import SEED

HEIGHT, WIDTH, FOCAL, DEPTH = 12, 16, 20.0, 4.0
INTRINSICS = intrinsics_from_focal(FOCAL, HEIGHT, WIDTH)
SLIDE = 3.5 * DEPTH / FOCAL
"""Per frame, to the right: three and a half pixels."""


def plane(depth: float = DEPTH) -> np.ndarray:
    return unproject(pixel_grid(HEIGHT, WIDTH), np.full((HEIGHT, WIDTH), depth), INTRINSICS[None])


def sliding(frames: int = 3) -> TrackingOverTime:
    points = plane() + np.arange(frames)[:, None, None, None] * np.array([SLIDE, 0, 0])
    everywhere = np.ones((frames, HEIGHT, WIDTH), bool)
    visible = everywhere & (pixel_grid(HEIGHT, WIDTH)[..., 0] + 3.5 * np.arange(frames)[:, None, None] < WIDTH)
    return TrackingOverTime(
        points_world=points,
        confidence=2.0 * everywhere,
        visible=visible,
        valid=None,
        visibility=np.where(visible, 0.9, 0.2),
    )


def surface(points: np.ndarray) -> FrameSurface:
    return FrameSurface(points, np.full((HEIGHT, WIDTH), 3.0), np.eye(4), INTRINSICS)


def test_tracks_at_a_sub_pixel_position_are_exact() -> None:
    query_px = np.array([[9.3, 5.8], [12.0, 3.25]])
    assignment = assign_anchors([sliding()], 1, surface(plane()), query_px)
    np.testing.assert_allclose(assignment.anchor_px, query_px - (3.5, 0), atol=1e-9)
    found = assigned_tracks([sliding()], assignment, 3, 1)
    start = unproject(query_px, np.full(2, DEPTH), INTRINSICS)
    expected = start + (np.arange(3) - 1)[:, None, None] * np.array([SLIDE, 0, 0])
    np.testing.assert_allclose(found.points_world, expected, atol=1e-6)
    assert np.asarray(found.tracked).all() and found.visible[:2].all()


def test_tracks_without_an_anchor_are_constant_and_not_tracked() -> None:
    query_px = np.array([[1.0, 5.0]])  # slid into view after the anchor
    found = assigned_tracks([sliding()], assign_anchors([sliding()], 1, surface(plane()), query_px), 3, 1)
    np.testing.assert_allclose(found.points_world, np.broadcast_to(found.points_world[1], (3, 1, 3)))
    assert np.asarray(found.tracked)[:, 0].tolist() == found.visible[:, 0].tolist() == [False, True, False]
    assert found.confidence[:, 0].tolist() == [1, 3, 1]


def test_tracks_outside_the_range_of_an_anchor_repeat_the_nearest_position() -> None:
    maps = sliding(5)
    maps.valid = valid = np.ones((5, HEIGHT, WIDTH), bool)
    for frame in (0, 4):
        maps.points_world[frame], valid[frame] = np.nan, False
    query_px = np.array([[12.0, 5.0]])
    found = assigned_tracks([maps], assign_anchors([maps], 2, surface(plane()), query_px), 5, 2)
    assert np.asarray(found.tracked)[:, 0].tolist() == [False, True, True, True, False]
    np.testing.assert_allclose(found.points_world[0], found.points_world[1])
    np.testing.assert_allclose(found.points_world[4], found.points_world[3])
    assert not found.visible[[0, 4]].any()
    assert found.visibility is not None and (found.visibility[[0, 4]] == 0).all()


def test_assignment_of_two_anchors_prefers_the_depth_of_the_surface() -> None:
    near, far = sliding(), sliding()
    near.points_world = near.points_world * 0.6  # lands at the same pixels
    query_px = np.array([[9.0, 5.0], [10.5, 6.5]])
    assert assign_anchors([near, far], 1, surface(plane()), query_px).anchor.tolist() == [1, 1]
    assert assign_anchors([near, far], 1, surface(plane(0.6 * DEPTH)), query_px).anchor.tolist() == [0, 0]


def test_coverage_holds_the_assigned_pixels() -> None:
    maps, depth = sliding(), np.full((HEIGHT, WIDTH), DEPTH)
    view = tracked_view(
        maps.points_world[1].reshape(-1, 3), np.asarray(maps.visible)[1].reshape(-1), depth, np.eye(4), INTRINSICS
    )
    covered = view.covered(depth, np.ones_like(depth, bool))
    assert covered[:, 4:].all() and not covered[:, :2].any()
    assert not view.covered(3 * depth, np.ones_like(depth, bool)).any()
    empty = tracked_view(np.zeros((0, 3)), np.zeros(0, bool), depth, np.eye(4), INTRINSICS)
    assert not empty.covered(depth, np.ones_like(depth, bool)).any()


def test_reading_the_anchor_itself_is_bilinear() -> None:
    maps = sliding()
    found = read_tracks(maps, np.array([[4.0, 5.0]]))
    np.testing.assert_allclose(found.points_world[:, 0], maps.points_world[:, 4:6, 3:5].mean(axis=(1, 2)))


@pytest.mark.parametrize("wrong", [0.0, 0.4])
def test_a_similarity_is_found_among_wrong_points(wrong: float) -> None:
    rng = np.random.default_rng(SEED)
    source = rng.normal(0, 1, (500, 3)) + (0, 0, 4)
    turn = np.linalg.qr(rng.normal(0, 1, (3, 3)))[0]
    turn *= np.linalg.det(turn)
    target = 1.7 * source @ turn.T + (1, 2, 3) + 0.005 * rng.standard_normal((500, 3))
    spoiled = rng.random(500) < wrong
    target[spoiled] += rng.normal(0, 2, (spoiled.sum(), 3))
    found = robust_similarity(source, target)
    assert found is not None
    assert found[0].scale == pytest.approx(1.7, rel=2e-3)
    np.testing.assert_allclose(found[0].rotation, turn, atol=2e-3)


def test_points_in_one_place_tell_no_similarity() -> None:
    assert robust_similarity(np.ones((10, 3)), np.ones((10, 3))) is None
    assert robust_similarity(np.ones((2, 3)), np.ones((2, 3))) is None
