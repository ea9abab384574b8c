"""The table of cases is well-formed, its expectations can fail, the runner measures; end to end under `slow`."""

import inspect
import re
from pathlib import Path

import numpy as np
import pytest

from st4rtrack.geometry.camera import pixel_grid, unproject
from st4rtrack.geometry.transforms import invert_rigid, transform_points
from st4rtrack.scene import Scene
from st4rtrack.types import Cameras, PixelMap, Pointmap, TrackingOverTime
from tests.cases import clips
from tests.cases.clips import Look
from tests.cases.expectations import failures
from tests.cases.measure import Row, measure
from tests.cases.reading import READING
from tests.cases.report import rank_correlation, write_report
from tests.cases.run import run_case
from tests.cases.system import SYSTEM
from tests.cases.table import CODES, GEOMETRY, PICTURE, Case, Expected, all_cases, clean_cases
from tests.cases.world import pose

CASES = [*all_cases(), *READING, *SYSTEM]
TINY = Look(seed=3, width=128, height=96, frames=6)


def test_names_of_cases_are_unique() -> None:
    assert len({case.name for case in CASES}) == len(CASES)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case_has_options_that_its_generator_takes_and_known_codes(case: Case) -> None:
    first = case.look if case.kind in ("geometry", "picture", "clean") else Path()
    inspect.signature(case.make).bind(first, **case.options)
    assert case.expected
    for expected in case.expected:
        assert expected != Expected(), "an expectation that cannot fail"
        assert {*expected.codes, *expected.any_code} <= set(CODES)
        re.compile(expected.sentence or "")
    assert case.situation | case.allowed <= set(CODES)


RIGHT: Row = {
    "exit_code": 0,
    "codes": ["cut"],
    "unsolved": [2, 3],
    "angle_deg": 1.0,
    "focal_ratio": 1.0,
    "focal_ratio_last": 1.0,
    "solved_share": 0.5,
}


@pytest.mark.parametrize(
    ("expected", "wrong"),
    [
        (Expected(codes=("cut",)), {"codes": ["zoom"]}),
        (Expected(any_code=("cut", "zoom")), {"codes": []}),
        (Expected(unsolved=(2, 3)), {"unsolved": [2]}),
        (Expected(unsolved=(2, 3)), {"visible_unsolved": 0.1}),
        (Expected(angle_deg=2.0), {"angle_deg": None}),
        (Expected(angle_deg=2.0), {"angle_deg": 2.5}),
        (Expected(focal=1.15), {"focal_ratio_last": 0.8}),
        (Expected(solved=0.5), {"solved_share": 0.4}),
        (Expected(codes=("cut",)), {"exit_code": 2}),
    ],
)
def test_failures_of_a_right_row_are_none_and_of_a_wrong_one_are_named(expected: Expected, wrong: Row) -> None:
    case = Case("case", "geometry", clips.moving, (expected,))
    assert failures(case, RIGHT) == []
    assert len(failures(case, RIGHT | wrong)) == 1
    assert failures(Case("case", "geometry", clips.moving, (Expected(codes=("zoom",)), expected)), RIGHT) == []


def test_silent_case_fails_on_a_warning_that_its_situation_does_not_deserve() -> None:
    silent = Case("case", "geometry", clips.moving, (Expected(silent=True),))
    assert failures(silent, RIGHT) == ["false warning cut"]
    assert failures(Case("case", "geometry", clips.cut, (Expected(silent=True),), situation=frozenset({"cut"})), RIGHT) == []


def test_rank_correlation_of_monotone_values_is_one() -> None:
    values = np.array([0.1, 3.0, 0.7, 12.0])
    assert rank_correlation(values, np.exp(values)) == pytest.approx(1.0)
    assert rank_correlation(values, -values) == pytest.approx(-1.0)
    assert np.isnan(rank_correlation(values, np.ones(4)))


def test_report_counts_precision_recall_and_false_warnings_of_good_runs(tmp_path: Path) -> None:
    cut = Case("cut", "geometry", clips.cut, (Expected(codes=("cut",)),), situation=frozenset({"cut"}))
    cases = [cut, *clean_cases(3)]
    good = {"exit_code": 0, "angle_deg": 1.0, "abs_rel": 0.1, "codes": [], "seconds": 1.0, "quality": {}}
    rows = {
        "cut": good | {"codes": ["cut"]},
        "clean-000": good | {"codes": ["cut"]},
        "clean-001": good,
        "clean-002": good | {"abs_rel": 0.5},
    }
    write_report(cases, rows, tmp_path)
    table = (tmp_path / "cases.md").read_text()
    assert "| cut | 1 | 2 | 1.00 | 0.50 | clean-000 |" in table
    assert "Good runs (camera error < 2 degrees, AbsRel < 0.25): 3; with a false warning: 1 (33.3%) clean-000" in table


def true_scene(clip: clips.Clip, anchor: int, unit: float) -> Scene:
    """The truth of a clip as a scene of half its size, in the camera frame of an anchor, in another unit."""
    world = invert_rigid(clip.world_from_camera[anchor]) @ clip.world_from_camera
    world[:, :3, 3] *= unit
    matrices = clip.intrinsics.copy()
    matrices[:, :2] /= 2
    rgb, depth = clip.rgb[:, 1::2, 1::2], unit * clip.depth[:, 1::2, 1::2].astype(np.float64)
    grid = pixel_grid(*depth.shape[1:])
    points = np.stack(
        [
            transform_points(w, unproject(grid, d, k).reshape(-1, 3)).reshape(*d.shape, 3)
            for w, d, k in zip(world, depth, matrices)
        ]
    )
    cameras = Cameras(world_from_camera=world, intrinsics=matrices, solved=np.ones(len(clip), bool))
    return Scene(
        rgb,
        np.arange(len(clip)) / 12,
        TrackingOverTime(points),
        Pointmap(points),
        cameras,
        anchor,
        PixelMap((0.5, 0.5)),
        clip.rgb.shape[1:3],
    )


def test_measured_errors_of_the_truth_are_zero_at_another_size_anchor_and_unit() -> None:
    clip = clips.moving(TINY, "handheld")
    row = measure(true_scene(clip, 2, 0.1), clip)
    assert row["angle_max_deg"] < 1e-4 and row["step_deg"] < 1e-4 and row["focal_ratio"] == pytest.approx(1)
    assert (
        row["abs_rel"] < 0.01
        and row["path"] == pytest.approx(row["path_true"], rel=0.01)
        and row["scale"] == pytest.approx(10, rel=0.01)
    )
    turned = true_scene(clip, 2, 0.1)
    turned.cameras.world_from_camera[3] = turned.cameras.world_from_camera[3] @ pose(yaw_deg=3)
    assert measure(turned, clip)["step_deg"] == pytest.approx(3, abs=0.01)


def test_runner_measures_a_small_clip_against_its_truth() -> None:
    case = Case("tiny", "geometry", clips.moving, (Expected(angle_deg=0.0),), look=TINY, run={"size": 128})
    row = run_case(case)
    assert row["exit_code"] == 0 and row["frames"] == 6
    assert 0 < row["angle_deg"] < 30 and 0.3 < row["focal_ratio"] < 3 and 0 < row["abs_rel"] < 2
    assert row["failures"] and row["failures"][0].startswith("angle_deg")


def test_runner_turns_an_error_of_the_user_into_exit_code_two(tmp_path: Path) -> None:
    row = run_case(
        Case("tiny", "geometry", clips.moving, (Expected(exit_code=2, sentence="anchor"),), look=TINY, run={"anchor": 99})
    )
    assert row["failures"] == []


@pytest.mark.slow
@pytest.mark.parametrize("case", [*GEOMETRY, *PICTURE, *READING, *SYSTEM], ids=lambda case: case.name)
def test_case_end_to_end_is_right(case: Case) -> None:
    row = run_case(case)
    if "skipped" in row:
        pytest.skip(row["skipped"])
    assert not row["failures"], row["messages"]
