import csv
from pathlib import Path

import numpy as np
import pytest

from st4rtrack.io.queries import read_queries, write_tracks
from st4rtrack.io.video import open_video
from st4rtrack.types import UserError
from tests.synthetic_scene import synthetic_scene

POINTS = np.array([[1.5, 2.5], [3.25, 0.5]])


def test_queries_are_read_from_every_form(tmp_path: Path) -> None:
    (tmp_path / "plain.csv").write_text("1.5,2.5\n3.25,0.5\n")
    (tmp_path / "header.csv").write_text("u,v\n1.5,2.5\n\n3.25,0.5\n")
    np.savez(tmp_path / "array.npz", queries=POINTS)
    np.savez(tmp_path / "columns.npz", u=POINTS[:, 0], v=POINTS[:, 1])
    for name in ("plain.csv", "header.csv", "array.npz", "columns.npz"):
        np.testing.assert_array_equal(read_queries(tmp_path / name), POINTS)
    (tmp_path / "frames.csv").write_text("u,v,frame\n1.5,2.5,0\n")
    np.testing.assert_array_equal(read_queries(tmp_path / "frames.csv"), [[1.5, 2.5, 0]])


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ("\ufeffu;v\r\n1,5;2,5\r\n3,25;0,5\r\n".encode(), POINTS),
        (b"u\tv\n1,5\t2,5\n3.25\t0.5\n", POINTS),
        ("u,v\r\n1.5,2.5\r\n3.25,0.5\r\n".encode("utf-16"), POINTS),
        (b"sep=;\nu;v\n1,5;2,5\n3,25;0,5\n", POINTS),
        (b"x,y\n1.5,2.5\n3.25,0.5\n", POINTS),
        (b"id,frame,v,u\n7,3,2.5,1.5\n", [[1.5, 2.5, 3]]),
    ],
    ids=["excel", "tabs", "utf16", "hint", "xy", "order"],
)
def test_read_queries_of_spreadsheets_reads_all_columns(tmp_path: Path, data: bytes, expected: np.ndarray) -> None:
    (tmp_path / "points.csv").write_bytes(data)
    np.testing.assert_array_equal(read_queries(tmp_path / "points.csv"), expected)


def test_read_queries_with_decimal_commas_between_commas_raises(tmp_path: Path) -> None:
    (tmp_path / "points.csv").write_text("u,v\n1,5,2,5\n")
    with pytest.raises(UserError, match="one row per point"):
        read_queries(tmp_path / "points.csv")


def test_read_queries_of_one_long_line_quotes_its_start(tmp_path: Path) -> None:
    (tmp_path / "points.csv").write_text("1," * 1000)
    with pytest.raises(UserError, match="one row per point") as refused:
        read_queries(tmp_path / "points.csv")
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize("content", ["", "u,v\n", "1,2,3,4\n", "a,b\nc,d\n", "1\n", "1,nan\n", "1,2\n3\n"])
def test_other_content_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "bad.csv").write_text(content)
    with pytest.raises(UserError, match="csv"):
        read_queries(tmp_path / "bad.csv")


@pytest.mark.parametrize(
    ("content", "line", "text"),
    [
        ("u,v\n1,2\n\n3,nan\n", 4, "3,nan"),
        ("u,v\n1,two\n", 2, "1,two"),
        ("1,2\n3,inf\n", 2, "3,inf"),
        ("sep=;\nu;v\n1,5;x\n", 3, "1.5,x"),
        ("u,v\n1,2\n3\n", 3, "3"),
    ],
)
def test_read_queries_with_a_cell_that_is_no_number_names_the_line(tmp_path: Path, content: str, line: int, text: str) -> None:
    (tmp_path / "points.csv").write_text(content)
    with pytest.raises(UserError, match=f"line {line} of .*points.csv must be finite numbers.*got '{text}'"):
        read_queries(tmp_path / "points.csv")


def test_missing_and_pickled_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no query file"):
        read_queries(tmp_path / "none.csv")
    np.savez(tmp_path / "object.npz", queries=np.array([{}], dtype=object))
    with pytest.raises(UserError):
        read_queries(tmp_path / "object.npz")


def test_tracks_are_written_as_sampled(tmp_path: Path) -> None:
    scene = synthetic_scene(num_frames=4, height=6, width=8)
    query_px = scene.pixel_map.source_from_network(POINTS)
    csv_path, npz_path = write_tracks(scene, query_px, tmp_path)
    expected = scene.tracks(query_px)
    with np.load(npz_path) as saved:
        np.testing.assert_array_equal(saved["points_world"], expected.points_world)
        np.testing.assert_array_equal(saved["visible"], expected.visible)
    with csv_path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * len(scene)
    np.testing.assert_allclose(
        [[float(row[axis]) for axis in "xyz"] for row in rows], expected.points_world.swapaxes(0, 1).reshape(-1, 3), rtol=1e-5
    )
    likely = [float(row["visibility"]) for row in rows]
    np.testing.assert_allclose(likely, expected.visibility.T.reshape(-1), atol=5e-4)
    assert [int(row["visible"]) for row in rows] == expected.visible.T.reshape(-1).astype(int).tolist()


def test_queries_elsewhere_are_named(tmp_path: Path) -> None:
    scene = synthetic_scene(num_frames=4, height=6, width=8)
    inside = scene.pixel_map.source_from_network(np.array([[3.0, 3.0]]))
    for frame in (len(scene), -1, 0.5):
        with pytest.raises(UserError, match="frame of a query"):
            write_tracks(scene, np.c_[inside, [frame]], tmp_path)
    with pytest.raises(UserError, match="outside"):
        write_tracks(scene, np.array([[1e6, 0.0]]), tmp_path)
    assert not list(tmp_path.iterdir())


def test_every_query_may_have_a_frame_of_its_own(tmp_path: Path) -> None:
    scene = synthetic_scene(num_frames=4, height=6, width=8)
    query_px = scene.pixel_map.source_from_network(POINTS)
    frames = np.array([3, scene.anchor_index])
    _, npz_path = write_tracks(scene, np.c_[query_px, frames], tmp_path)
    with np.load(npz_path) as saved:
        assert saved["query_frame"].tolist() == frames.tolist()
        for k, frame in enumerate(frames):
            expected = scene.tracks(query_px[k : k + 1], frame=int(frame))
            np.testing.assert_array_equal(saved["points_world"][:, k : k + 1], expected.points_world)
            np.testing.assert_array_equal(saved["visible"][:, k : k + 1], expected.visible)


def test_read_queries_outside_of_the_video_raises(tmp_path: Path) -> None:
    video, path = open_video(np.zeros((4, 24, 32, 3), np.uint8)), tmp_path / "queries.npz"

    def read(*queries: list[float]) -> None:
        np.savez(path, queries=np.array(queries))
        read_queries(path, video)

    read([0.0, 0.0], [32.0, 24.0])
    read([5.0, 5.0, 3.0])
    with pytest.raises(UserError, match=r"\(5000, 10\); 1 of 2"):
        read([5000.0, 10.0], [1.0, 1.0])
    with pytest.raises(UserError, match=r"0\.\.3"):
        read([5.0, 5.0, 4.0])
