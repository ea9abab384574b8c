"""Tracks lifted by the depth of each frame: a textured square that moves before a fixed camera."""

import numpy as np

from st4rtrack.classical.two_view import TwoView
from st4rtrack.hints.lifting import LiftedTracks, TrackedFrame, appearance

SIZE, FOCAL = (60, 80), 70.0
WALL, SQUARE = 4.0, 2.0
SIDE, STEP, FIRST = 16, 5, 10
ROW = 20
Flows = tuple[np.ndarray, np.ndarray]


def seen(time: int, motion: bool = True) -> tuple[TrackedFrame, np.ndarray]:
    """Frame at a time, and its pixels of the square."""
    left = FIRST + STEP * time
    mask = np.zeros(SIZE, bool)
    mask[ROW : ROW + SIDE, left : left + SIDE] = True
    rgb = np.full((*SIZE, 3), (40, 90, 160), np.uint8)
    rgb[mask] = (220, 60, 30)
    return TrackedFrame(np.where(mask, SQUARE, WALL).astype(np.float32), mask & motion, appearance(rgb)), mask


def flow(start: int, end: int) -> Flows:
    """True flow from one time to another and back, that of the wall where the square was and will be."""
    forth, back = np.zeros((*SIZE, 2), np.float32), np.zeros((*SIZE, 2), np.float32)
    forth[seen(start)[1]] = (STEP * (end - start), 0)
    back[seen(end)[1]] = (-STEP * (end - start), 0)
    return forth, back


def view(flows: Flows) -> TwoView:
    """Flow from the anchor, a fixed camera, and no measured depth."""
    unknown = np.zeros(SIZE, np.float32)
    return TwoView(*flows, unknown, unknown, np.eye(4), FOCAL)


LOST = np.full((*SIZE, 2), 300.0, np.float32), np.full((*SIZE, 2), 300.0, np.float32)
"""Flow that no pixel returns by."""
MOVED = np.array((STEP / FOCAL * SQUARE, 0, 0))
MIDDLE = (ROW + SIDE // 2, FIRST + SIDE // 2)


def test_next_points_of_the_square_move_and_those_of_the_wall_stay() -> None:
    anchor, square = seen(0)
    tracks = LiftedTracks(anchor, FOCAL)
    start = tracks.points.copy()
    for time in (1, 2, 3):
        points = tracks.next(seen(time)[0], view(LOST), flow(time - 1, time))
    np.testing.assert_allclose(points[square] - start[square], np.broadcast_to(3 * MOVED, start[square].shape), atol=1e-4)
    np.testing.assert_array_equal(points[~square], start[~square])


def test_next_point_whose_flow_is_lost_goes_with_the_object_around_it() -> None:
    tracks = LiftedTracks(seen(0)[0], FOCAL)
    start = tracks.points[MIDDLE].copy()
    forward, backward = flow(0, 1)
    hole = slice(MIDDLE[0] - 2, MIDDLE[0] + 3), slice(MIDDLE[1] - 2, MIDDLE[1] + 3)
    forward[hole] = 300.0
    points = tracks.next(seen(1)[0], view(LOST), (forward, backward))
    np.testing.assert_allclose(points[MIDDLE] - start, MOVED, atol=0.1 * MOVED[0])


def test_next_object_that_no_flow_shows_stays_where_it_was() -> None:
    tracks = LiftedTracks(seen(0)[0], FOCAL)
    start = tracks.points[MIDDLE].copy()
    np.testing.assert_array_equal(tracks.next(seen(1)[0], view(LOST), LOST)[MIDDLE], start)


def test_next_object_that_rests_in_the_anchor_is_followed_when_it_moves() -> None:
    anchor = seen(0, motion=False)[0]
    tracks = LiftedTracks(anchor, FOCAL)
    start = tracks.points[MIDDLE].copy()
    tracks.next(seen(0)[0], view(flow(0, 0)), flow(0, 0))  # frames around it show that it will move
    points = tracks.next(seen(1)[0], view(flow(0, 1)), flow(0, 1))
    np.testing.assert_allclose(points[MIDDLE] - start, MOVED, atol=1e-4)


def test_next_wall_that_an_object_passes_stays_though_its_flow_goes_along() -> None:
    tracks = LiftedTracks(seen(0)[0], FOCAL)
    covered = np.s_[ROW : ROW + SIDE, FIRST + SIDE : FIRST + SIDE + STEP]
    start = tracks.points.copy()
    forward, backward = flow(0, 2)
    forward[covered] = (2 * STEP, 0)
    backward[ROW : ROW + SIDE, FIRST + SIDE + 2 * STEP : FIRST + SIDE + 3 * STEP] = (-2 * STEP, 0)
    wide = seen(2)[0]
    wide.dynamic[ROW : ROW + SIDE, FIRST : FIRST + SIDE + 4 * STEP] = True
    tracks.next(seen(1)[0], view(flow(0, 1)), flow(0, 1))
    points = tracks.next(wide, view((forward, backward)), flow(1, 2))
    np.testing.assert_array_equal(points[covered], start[covered])


def test_next_wall_that_was_taken_for_the_object_rests_where_it_is_seen_unchanged() -> None:
    anchor, square = seen(0)
    wide = square.copy()
    beside = (ROW - 2, FIRST + SIDE // 2)
    wide[ROW - 4 : ROW, FIRST : FIRST + SIDE] = True
    tracks = LiftedTracks(TrackedFrame(anchor.depth, wide, anchor.colour), FOCAL)
    start = tracks.points[beside].copy()
    for time in (1, 2):
        points = tracks.next(seen(time)[0], view(flow(0, time)), flow(time - 1, time))
    np.testing.assert_array_equal(points[beside], start)
    assert points[MIDDLE][0] > start[0]
