import numpy as np
import pytest

from st4rtrack.adapt.prepare import grid_queries, held_out_tracks, more_queries, moving_tracks
from st4rtrack.data.procedural import ProceduralConfig, procedural_clip
from st4rtrack.geometry.transforms import invert_rigid
from tests.adapt.truth_teachers import TruthTracks


@pytest.mark.parametrize(("height", "width", "count"), [(192, 256, 1000), (288, 512, 500), (16, 16, 1), (16, 16, 10_000)])
def test_a_grid_covers_the_image_evenly(height: int, width: int, count: int) -> None:
    query_px = grid_queries(height, width, count)
    assert (query_px > 0).all() and (query_px < (width, height)).all()
    np.testing.assert_allclose(query_px.mean(axis=0), (width / 2, height / 2))
    assert len(query_px) == pytest.approx(min(count, height * width), rel=0.05)


def test_more_queries_are_near_what_moves() -> None:
    query_px = grid_queries(96, 128, 300)
    moving = np.linalg.norm(query_px - (40, 30), axis=1) < 20
    more = more_queries(query_px, moving, 96, 128, most=40)
    assert len(more) == 40
    assert (np.linalg.norm(more[:, None] - query_px[moving], axis=-1).min(axis=1) < 6.4).all()
    assert (np.linalg.norm(more[:, None] - query_px, axis=-1).min(axis=1) > 1).all()
    assert len(more_queries(query_px, np.zeros(len(query_px), bool), 96, 128, most=40)) == 0


def test_what_moves_is_told_from_what_the_camera_does() -> None:
    clip = procedural_clip(23, ProceduralConfig(96, 128, 6, setting="room", camera="orbit", moving_share=0.7))
    tracks = TruthTracks(clip).tracks(clip.rgb, grid_queries(96, 128, 800), 0)
    found = moving_tracks(tracks, clip.tracking_points_world[0], invert_rigid(clip.world_from_camera), clip.intrinsics[0])
    column, row = np.floor(tracks.query_px).astype(int).T
    true = clip.moving[row, column]
    assert 5 < true.sum() < 0.5 * len(true)
    assert not found[~true].any()  # a static point is exactly where a static point is
    way = np.linalg.norm(clip.tracking_points_world[-1] - clip.tracking_points_world[0], axis=-1)[row, column]
    fast = true & (way > np.quantile(way[true], 0.7)) & tracks.visible.all(axis=0)
    assert found[fast].mean() > 0.8


def test_held_out_tracks_lie_in_squares_of_their_own() -> None:
    query_px = grid_queries(192, 256, 1000)
    moving = (query_px < 64).all(axis=1)
    held = held_out_tracks(query_px, moving, 192, 256, 0.2, seed=0)
    assert 0.1 < held[moving].mean() < 0.35
    assert 0.15 < held.mean() < 0.25
    np.testing.assert_array_equal(held, held_out_tracks(query_px, moving, 192, 256, 0.2, seed=0))
    assert (held != held_out_tracks(query_px, moving, 192, 256, 0.2, seed=1)).any()
    cells = [tuple(cell) for cell in np.floor(query_px / 16).astype(int)]
    held_cells = {cell for cell, out in zip(cells, held) if out}
    assert not held_cells & {cell for cell, out in zip(cells, held) if not out}


@pytest.mark.parametrize("query_px", [[[3.0, 3.0], [4.0, 4.0]], [[3.0, 3.0], [90.0, 90.0]]])
@pytest.mark.parametrize("moves", [False, True])
def test_of_two_tracks_one_is_held_out(query_px: list[list[float]], moves: bool) -> None:
    assert held_out_tracks(np.array(query_px), np.array([False, moves]), 96, 128, 0.2, seed=0).sum() == 1
