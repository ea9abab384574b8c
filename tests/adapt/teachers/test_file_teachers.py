"""Tracks from files: read as they are meant, or refused with a sentence."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from st4rtrack.adapt.teachers.files import FileTracks
from st4rtrack.io.known.matching import SourceSize
from st4rtrack.types import PixelMap, UserError

RGB = np.zeros((3, 32, 48, 3), np.uint8)
QUERY = np.array([[4.5, 6.5], [20.5, 10.5], [40.0, 30.0]])
TRACKS = (QUERY + np.arange(3)[:, None, None]).astype(np.float32)
VISIBLE = np.ones((3, 3), bool)


def write_tracks(path: Path, **changes: Any) -> Path:
    arrays = {"query_px": QUERY, "tracks_px": TRACKS, "visible": VISIBLE, **changes}
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return path


def test_network_pixels_come_as_they_are(tmp_path: Path) -> None:
    found = FileTracks(write_tracks(tmp_path / "a.npz", visible=VISIBLE.astype(np.uint8))).tracks(RGB, QUERY[:1], 0)
    np.testing.assert_array_equal(found.tracks_px, TRACKS)
    np.testing.assert_array_equal(found.query_px, QUERY)
    assert found.visible.dtype == np.bool_


def test_pixels_of_a_larger_image_are_scaled(tmp_path: Path) -> None:
    path = write_tracks(tmp_path / "a.npz", query_px=QUERY * 4, tracks_px=TRACKS * 4, width=48 * 4, height=32 * 4)
    found = FileTracks(path).tracks(RGB, QUERY, 0)
    np.testing.assert_allclose(found.tracks_px, TRACKS, rtol=1e-6)


def test_pixels_of_the_source_go_where_the_network_cut_it(tmp_path: Path) -> None:
    source = SourceSize(80, 100, PixelMap((0.5, 0.5), (-1.0, -4.0)))
    at_source = source.pixel_map.source_from_network
    whole = write_tracks(tmp_path / "a.npz", query_px=at_source(QUERY), tracks_px=at_source(TRACKS), width=100, height=80)
    half = write_tracks(tmp_path / "b.npz", query_px=at_source(QUERY) / 2, tracks_px=at_source(TRACKS) / 2, width=50, height=40)
    for path in (whole, half):
        np.testing.assert_allclose(FileTracks(path, source).tracks(RGB, QUERY, 0).tracks_px, TRACKS, rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"visible": None}, "has no array 'visible'"),
        ({"tracks_px": TRACKS[:2]}, r"must be \[3, points, 2\]"),
        ({"tracks_px": TRACKS[..., :1]}, "must be \\[frames, points, 2\\]"),
        ({"visible": VISIBLE[:, :2]}, "must be \\[frames, points, 2\\]"),
        ({"visible": VISIBLE * 0.4}, "0 and 1"),
        ({"visible": ~VISIBLE}, "visible in fewer than two frames"),
        ({"tracks_px": np.where(TRACKS > 30, np.nan, TRACKS)}, "non-finite"),
        ({"query_px": QUERY + 9}, "pixels away from query_px"),
        ({"width": 48}, "both width and height"),
        ({"width": 100, "height": 20}, "another aspect ratio"),
        ({"tracks_px": TRACKS.astype("S8")}, "must be numbers"),
    ],
)
def test_unfit_tracks_are_a_sentence(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = write_tracks(tmp_path / "a.npz", **changes)
    with pytest.raises(UserError, match=message) as caught:
        FileTracks(path).tracks(RGB, QUERY, 0)
    assert "\n" not in str(caught.value)


def test_objects_in_a_file_are_not_loaded(tmp_path: Path) -> None:
    path = write_tracks(tmp_path / "a.npz", tracks_px=np.array([{}, []], dtype=object))
    with pytest.raises(UserError, match="array 'tracks_px'"):
        FileTracks(path).tracks(RGB, QUERY, 0)


def test_the_name_follows_the_content(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    one = FileTracks(write_tracks(path)).name
    assert FileTracks(write_tracks(path)).name == one
    assert FileTracks(write_tracks(path, tracks_px=TRACKS + 1)).name != one
