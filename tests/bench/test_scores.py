"""Score files as the report reads them: labels, protocols apart, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from st4rtrack.bench.report import write_report
from st4rtrack.bench.scores import group_by_protocol, read_scores
from st4rtrack.types import UserError
from tests.bench.score_data import ONE, write_scores


def test_settings_part_protocols_of_one_name(tmp_path: Path) -> None:
    files = [write_scores(tmp_path / f"{name}.json", "m", ONE) for name in "abc"]
    content = json.loads(files[1].read_text())
    content["protocol"]["num_frames"] = 16
    files[1].write_text(json.dumps(content))
    groups = group_by_protocol([read_scores(file) for file in files])
    assert [(group.title, group.slug) for group in groups] == [
        ("published", "published"),
        ("published, settings 2", "published--settings-2"),
    ]
    assert [[one.label for one in group.scores] for group in groups] == [["m [a]", "m [c]"], ["m"]]


def test_labels_are_told_apart_by_file_and_then_by_path(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    files = [
        write_scores(path, "net", ONE, model="/models/large.safetensors")
        for path in (tmp_path / "s.json", tmp_path / "t.json", tmp_path / "x" / "s.json")
    ]
    labels = [one.label for one in group_by_protocol(map(read_scores, files))[0].scores]
    assert labels[1] == "net (large.safetensors) [t]"
    assert len(set(labels)) == 3 and str(files[2]) in labels[2]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "not JSON"),
        ("[1]", "not a score file"),
        ('{"sequences": {}}', "not a score file"),
        ({"format": 2}, "has format 2, this version reads 1"),
        ({"method": None}, "the method has no name"),
        ({"protocol": {}}, "the protocol has no name"),
        ({"figures": None}, "'figures' is missing"),
        ({"figures": {"apd": {"unit": "ratio"}}}, "apd is in 'ratio', it must be in '%'"),
        ({"sequences": {}}, "sequences is empty"),
        ({"sequences": {"a": 3}}, "'a' is missing or not a table"),
        ({"sequences": {"a": {"cameras": {"ate": "0.5"}}}}, "ate must be a number, got '0.5'"),
        ({"sequences": {"a": {"tracking": {"all": [1]}}}}, "'all' is missing or not a table"),
        ({"mean": {"points": True}}, "points must be a number"),
        ({"mean": {"curves": {"time": {"frame": [0], "points": [1, 2], "apd": [1], "epe": [1]}}}}, "the curve 'time'"),
        ({"mean": {"curves": {"motion": {"edges_m": [0, None, 1], "points": [1, 2], "apd": [1, 2], "epe": [1, 2]}}}}, "gaps"),
        ({"sets": None}, "'sets' is missing"),
    ],
)
def test_bad_files_are_refused_by_name(content: str | dict[str, Any], complaint: str, tmp_path: Path) -> None:
    good, bad = write_scores(tmp_path / "good.json", "a", ONE), tmp_path / "bad.json"
    if isinstance(content, str):
        bad.write_text(content)
    else:
        write_scores(bad, "b", ONE)
        bad.write_text(json.dumps(json.loads(bad.read_text()) | content))
    with pytest.raises(UserError, match=r"bad\.json") as refused:
        write_report([good, bad], tmp_path / "report")
    assert complaint in str(refused.value)
    assert not (tmp_path / "report").exists()


def test_what_is_not_known_is_ignored_and_nan_is_unknown(tmp_path: Path) -> None:
    file = write_scores(tmp_path / "a.json", "a", {"s": (80.0, 0.2)}, more={"x": 1})
    content = json.loads(file.read_text())
    content["sequences"]["s"]["tracking"]["all"]["median"] = {"apd": float("nan"), "epe": 0.5, "new": "x"}
    file.write_text(json.dumps(content))
    key = ("tracking", "all", "median")
    figures = read_scores(file).sequences["s"]
    assert [figures[k] for k in figures if k[:3] == key] == [None, 0.5]
