"""TUM RGB-D's raw files in our conventions: three clocks, cameras as quaternions."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from st4rtrack.data.tum import TumRgbd, nearest_time
from st4rtrack.types import UserError
from tests.raw_data import TUM_WORLD, write_tum

NAME = "rgbd_dataset_freiburg3_walking_xyz"


def test_facts_of_a_sequence(tmp_path: Path) -> None:
    write_tum(tmp_path, NAME, without_depth=(0, 7))
    dataset = TumRgbd(tmp_path)
    assert dataset.names == [NAME]
    sequence = dataset.open(NAME)
    present = [t for t in range(15) if t not in (0, 7)]
    assert len(sequence) == 13 and sequence.read_tracks is None and sequence.read_depth and sequence.world_from_camera is not None
    np.testing.assert_allclose(sequence.world_from_camera, TUM_WORLD.world_from_camera[present], atol=1e-7)
    for index in (0, 6, 12):
        np.testing.assert_allclose(sequence.read_depth(index), TUM_WORLD.depth(present[index]), atol=0.5 / 5000 + 1e-6)
        np.testing.assert_array_equal(sequence.read_rgb(index), TUM_WORLD.rgb(present[index]))


def test_frames_without_a_camera_near_are_left_out(tmp_path: Path) -> None:
    folder = write_tum(tmp_path, NAME)
    lines = (folder / "groundtruth.txt").read_text().splitlines()
    (folder / "groundtruth.txt").write_text("\n".join(lines[:16]) + "\n")  # cameras of five frames
    assert len(TumRgbd(tmp_path).open(NAME)) == 5


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=20), st.lists(st.floats(-5, 5), min_size=1, max_size=20))
def test_nearest_time_is_the_nearest(wanted: list[float], times: list[float]) -> None:
    index, gap_s = nearest_time(np.array(wanted), np.array(times))
    slow = np.abs(np.array(times) - np.array(wanted)[:, None])
    np.testing.assert_array_equal(gap_s, slow.min(axis=1))
    np.testing.assert_array_equal(slow[np.arange(len(wanted)), index], gap_s)


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("rgb.txt", "1.0 rgb/1.png more\n"),
        ("depth.txt", "# nothing\n"),
        ("depth.txt", "then depth/1.png\n"),
        ("groundtruth.txt", "1341846313.0 0 0 0 0 0 0 0\n"),
        ("groundtruth.txt", "1341846313.0 0 0 0 0 0 nan 1\n"),
        ("groundtruth.txt", "1341846313.0 0 0 0 0 0 0\n"),
    ],
)
def test_tables_that_are_not_as_expected_are_refused(tmp_path: Path, file: str, text: str) -> None:
    folder = write_tum(tmp_path, NAME)
    (folder / file).write_text(text)
    with pytest.raises(UserError, match=file.replace(".", r"\.")):
        TumRgbd(tmp_path).open(NAME)


def test_clocks_that_do_not_meet_are_refused(tmp_path: Path) -> None:
    folder = write_tum(tmp_path, NAME)
    write_tum(tmp_path / "later", NAME, replace(TUM_WORLD, frames=2))
    table = (tmp_path / "later" / NAME / "groundtruth.txt").read_text().replace("13418463", "13418464")
    (folder / "groundtruth.txt").write_text(table)
    with pytest.raises(UserError, match="one sequence"):
        TumRgbd(tmp_path).open(NAME)
