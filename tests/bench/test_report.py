"""Reports of score files whose figures are known."""

import csv
import json
import os
import re
import sys
from pathlib import Path

import pytest

from st4rtrack.bench.published import read_published
from st4rtrack.bench.report import write_report
from st4rtrack.bench.scores import group_by_protocol, read_scores
from st4rtrack.bench.tables import CSV_FIELDS, TRANSCRIBED, escape_latex
from st4rtrack.types import UserError
from tests.bench.score_data import ONE, OTHER, row, write_scores


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of two methods on published sets, under both protocols."""
    folder = tmp_path_factory.mktemp("report")
    files = [
        write_scores(folder / f"{method}-{protocol}.json", method, figures, protocol=protocol)
        for protocol in ("published", "corrected")
        for method, figures in (("one", ONE), ("other", OTHER))
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "matplotlib", None)  # plots take most of a report's time
        write_report(files, folder)
    return folder


@pytest.fixture
def texts_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """No plots, which take most of a report's time."""
    monkeypatch.setitem(sys.modules, "matplotlib", None)


def lines_of(markdown: str, protocol: str, title: str) -> dict[str, list[str]]:
    """The table under a title in the section of a protocol: first cell -> cells; the header's first cell is "method"."""
    section = markdown.split(f"## Protocol: {protocol}\n")[1].split("\n## ")[0]
    table = section.split(f"### {title}\n\n")[1].split("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table.splitlines()]
    return {cells[0]: cells for cells in rows}


def csv_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "tables.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_cells_and_the_best_in_bold(folder: Path) -> None:
    table = lines_of((folder / "report.md").read_text(), "published", "Tracking, all points, global median alignment")
    assert table["method"][1:] == [
        "adt_mini APD (%) ↑",
        "adt_mini EPE (m) ↓",
        "po_mini APD (%) ↑",
        "po_mini EPE (m) ↓",
        "mean of sets APD (%) ↑",
        "mean of sets EPE (m) ↓",
        "sequences",
        "points",
        "source",
    ]
    assert table["one"][1:] == [
        "70.00",
        "**0.3000**",
        "**50.00**",
        "0.5000",
        "**60.00**",
        "**0.4000**",
        "3",
        "6,400",
        "scored here",
    ]
    assert table["other"][1:] == [
        "**80.00**",
        "0.4000",
        "40.00",
        "**0.4000**",
        "**60.00**",
        "**0.4000**",
        "3",
        "6,400",
        "scored here",
    ]


def test_transcribed_rows_stand_beside_ours_in_the_published_protocol_alone(folder: Path) -> None:
    text = (folder / "report.md").read_text()
    table = lines_of(text, "published", "Tracking, all points, global median alignment")
    paper = table["St4RTrack † (a, h)"]
    assert paper[1:5] == ["76.01", "0.2680", "67.95", "0.3140"] and paper[5:9] == ["–"] * 4
    assert paper[9] == r"St4RTrack paper, Tables 1 (APD) and 3 (EPE) \[paper\]"
    assert not any("**" in cell for name, cells in table.items() if "†" in name for cell in cells)
    assert "transcribed, not re-run" in text and "the published rows cover 50" in text
    corrected = text.split("## Protocol: corrected\n")[1].split("\n## ")[0]
    assert "†" not in corrected
    assert "Published numbers on WorldTrack" not in text


@pytest.mark.usefixtures("texts_only")
def test_other_sequences_get_a_section_of_published_figures(tmp_path: Path) -> None:
    write_report([write_scores(tmp_path / "a.json", "a", {"fall": (80.0, 0.2)})], tmp_path / "report")
    text = (tmp_path / "report" / "report.md").read_text()
    ours, theirs = text.split(
        "## Published numbers on WorldTrack (transcribed; other sequences, not comparable with the tables above)"
    )
    assert "†" not in ours and theirs.count(" † ") + theirs.count(" † (") >= len(read_published().rows)
    assert "| method | APD (%) ↑ | EPE (m) ↓ | sequences | points |" in ours


@pytest.mark.usefixtures("texts_only")
def test_a_protocol_that_is_published_only_in_name_gets_no_rows_beside(tmp_path: Path) -> None:
    file = write_scores(tmp_path / "a.json", "a", ONE)
    content = json.loads(file.read_text())
    content["protocol"]["num_frames"] = 16
    file.write_text(json.dumps(content))
    write_report([file], tmp_path / "report")
    text = (tmp_path / "report" / "report.md").read_text()
    assert "(transcribed; another protocol, not comparable" in text
    assert "†" not in text.split("## Published numbers")[0]


def test_protocols_never_share_a_table(folder: Path) -> None:
    text = (folder / "report.md").read_text()
    for section in re.split(r"^## ", text, flags=re.M)[1:]:
        assert section.count("\n| one |") == section.count("\n| other |")
        assert all(block.count("\n| one |") <= 1 for block in section.split("\n\n"))
    captions = re.findall(r"\\caption\{(.*)\}", (folder / "tables.tex").read_text())
    assert all(("published" in caption) != ("corrected" in caption) for caption in captions)
    groups = group_by_protocol([read_scores(path) for path in sorted(folder.glob("*.json"))])
    assert [sorted(one.label for one in group.scores) for group in groups] == [["one", "other"]] * 2


@pytest.mark.usefixtures("texts_only")
def test_csv_parses_back_to_the_same_values(tmp_path: Path) -> None:
    exact = 100 / 3
    file = write_scores(tmp_path / "a.json", "a, b", {"one": (exact, 1e-7), "two": (None, 0.25)})
    write_report([file], tmp_path / "report")
    rows = csv_of(tmp_path / "report")
    assert tuple(rows[0]) == CSV_FIELDS

    def value(name: str, part: str, subset: str, alignment: str, figure: str) -> str:
        keys = ("method", "name", "part", "subset", "alignment", "figure")
        found = [r for r in rows if tuple(r[k] for k in keys) == ("a, b", name, part, subset, alignment, figure)]
        assert len(found) == 1 and found[0]["protocol"] == "published" and found[0]["source"] == "a.json"
        return found[0]["value"]

    assert float(value("one", "tracking", "all", "median", "apd")) == exact
    assert float(value("one", "reconstruction", "", "median", "epe")) == 1e-7
    assert value("two", "tracking", "dynamic", "sim3", "apd") == ""
    assert float(value("mean", "cameras", "", "", "rpe_rotation")) == 0.2
    assert float(value("sequences", "depth", "", "", "abs_rel")) == 0.125
    record = next(r for r in rows if r["figure"] == "epe" and r["name"] == "one")
    assert (record["unit"], record["better"], record["points"]) == ("m", "lower", "6400")


@pytest.mark.usefixtures("texts_only")
def test_report_shows_the_bounds_of_a_score_file_beside_the_method(tmp_path: Path) -> None:
    bounds = {}
    for method, figures in (("plane", (20.0, 2.0)), ("static", (60.0, 0.6))):
        content = json.loads(write_scores(tmp_path / "x.json", method, dict.fromkeys(ONE, figures)).read_text())
        bounds[method] = {key: content[key] for key in ("sequences", "sets", "mean")}
    files = [write_scores(tmp_path / f"{name}.json", name, ONE, bounds=bounds) for name in ("mine", "plane")]
    write_report(files, tmp_path / "report")
    table = lines_of((tmp_path / "report/report.md").read_text(), "published", "Tracking, all points, global median alignment")
    assert [name for name in table if "†" not in name] == ["method", ":--", "mine", "plane", "static (bound)"]
    assert table["static (bound)"][1] == "60.00" and any("St4RTrack †" in name for name in table)


def test_csv_holds_every_transcribed_figure(folder: Path) -> None:
    rows = [r for r in csv_of(folder) if r["protocol"] == TRANSCRIBED]
    published = read_published().rows
    assert len(rows) == sum(len(figures) for one in published for figures in one.figures.values())
    assert {r["source"] for r in rows} == {one.cited for one in published}


@pytest.mark.usefixtures("texts_only")
def test_latex_has_balanced_braces_and_even_rows(tmp_path: Path) -> None:
    method = r"a_b & 50% {x} \cmd $y$ #1 ~ ^ [z]"
    file = write_scores(tmp_path / "a.json", method, ONE)
    write_report([file, write_scores(tmp_path / "b.json", "b", OTHER, protocol="corrected")], tmp_path / "report")
    text = (tmp_path / "report" / "tables.tex").read_text()
    assert escape_latex(method) in text and method not in text
    bare = re.sub(r"\\[{}%&$#_]", "", text.split("\n", 1)[1])
    assert bare.count("{") == bare.count("}") and "#" not in bare and "%" not in bare
    tables = re.findall(r"\\begin\{tabular\}\{([lr]+)\}(.*?)\\end\{tabular\}", bare, flags=re.S)
    assert len(tables) == text.count(r"\begin{table}") == text.count(r"\end{table}") == 18
    for columns, body in tables:
        rows = [line for line in body.splitlines() if line.endswith(r"\\")]
        for line in rows:
            spans = [int(n) - 1 for n in re.findall(r"\\multicolumn\{(\d+)\}", line)]
            assert line.count("&") + sum(spans) + 1 == len(columns), line
        assert len(rows) >= 2 and body.count(r"\midrule") in (1, 2)


@pytest.mark.usefixtures("texts_only")
def test_markdown_rows_are_even_whatever_names_hold(tmp_path: Path) -> None:
    file = write_scores(tmp_path / "a.json", "x|y\n<b>*z*", {"s|1/a": (80.0, 0.2), "t/b": (70.0, 0.3)})
    write_report([file], tmp_path / "report")
    text = (tmp_path / "report" / "report.md").read_text()
    for block in text.split("\n\n"):
        if block.startswith("| "):
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1
    assert r"x\|y \<b\>\*z\*" in text


def test_absent_and_repeated_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none\.json cannot be read"):
        write_report([tmp_path / "none.json"], tmp_path / "report")
    file = write_scores(tmp_path / "a.json", "a", ONE)
    with pytest.raises(UserError, match="named twice"):
        write_report([file, tmp_path / "." / "a.json"], tmp_path / "report")


def test_an_earlier_report_is_replaced_and_other_files_stay(tmp_path: Path) -> None:
    output, figures = tmp_path / "report", {"s": (80.0, 0.2)}
    write_report([write_scores(tmp_path / "a.json", "a", figures, protocol="corrected")], output)
    mine = output / "error_of_mine.png"
    mine.write_bytes(b"mine")
    (output / "notes.txt").write_text("mine")
    written = write_report([write_scores(tmp_path / "b.json", "b", figures)], output)
    assert set(output.iterdir()) == {*written, mine, output / "notes.txt"}
    assert "| a |" not in (output / "report.md").read_text()
    assert mine.read_bytes() == b"mine"


@pytest.mark.parametrize("name", ["report.md", "tables.csv", "tables.tex"])
def test_a_file_of_the_users_in_the_way_is_refused(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("my own")
    with pytest.raises(UserError, match=name):
        write_report([write_scores(tmp_path / "a.json", "a", ONE)], tmp_path)
    assert (tmp_path / name).read_text() == "my own"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["a.json", name])


def test_a_report_is_the_same_when_it_is_made_again(tmp_path: Path) -> None:
    file = write_scores(tmp_path / "a.json", "a", {"s": (80.0, 0.2)})
    first = {path.name: path.read_bytes() for path in write_report([file], tmp_path / "x")}
    assert first == {path.name: path.read_bytes() for path in write_report([file], tmp_path / "y")}


@pytest.mark.usefixtures("texts_only")
def test_what_is_not_finite_or_not_the_same_is_said(tmp_path: Path) -> None:
    files = [
        write_scores(tmp_path / "a.json", "a", ONE, non_finite=7),
        write_scores(tmp_path / "b.json", "b", {"adt_mini/a": (90.0, 0.3)}),
    ]
    write_report(files, tmp_path / "report")
    text = (tmp_path / "report" / "report.md").read_text()
    assert "- a, tracking, all: 21 of 6,400, in adt_mini/a, adt_mini/b, po_mini/a" in text
    assert "**b lacks adt_mini/b, po_mini/a: its means cover other sequences.**" in text
    table = lines_of(text, "published", "Tracking, all points, global median alignment")
    assert table["b"][3:8] == ["–", "–", "–", "–", "1"]


def test_methods_of_one_sequence_compete_for_bold(folder: Path) -> None:
    text = (folder / "report.md").read_text().split("### Single sequences")[1]
    assert "| adt_mini/a | one | 80.00 | **0.2000** |" in text
    assert "| adt_mini/a | other | **90.00** | 0.3000 |" in text
    assert "| po_mini/a | one | **50.00** | 0.5000 |" in text


def test_a_part_that_nobody_has_gets_no_table(tmp_path: Path) -> None:
    only = {key: value for key, value in row(50.0, 0.5).items() if key in ("points", "cameras")}
    file = write_scores(tmp_path / "a.json", "a", ONE)
    parts = {"sequences": {"s": only}, "sets": {"sequences": only}, "mean": only}
    file.write_text(json.dumps(json.loads(file.read_text()) | parts))
    write_report([file], tmp_path / "report")
    ours = (tmp_path / "report" / "report.md").read_text().split("## Published")[0]
    assert (
        "### Cameras" in ours and "### Tracking" not in ours and "### Single sequences\n" not in ours and "### Plots" not in ours
    )


@pytest.mark.skipif(sys.platform != "linux", reason="other systems allow no such name")
@pytest.mark.usefixtures("texts_only")
def test_report_of_names_that_are_not_utf8_is_written(tmp_path: Path) -> None:
    bad = os.fsdecode(b"se\xffquence")
    files = [write_scores(tmp_path / f"{bad}{k}.json", bad, {bad: (50.0, 0.1)}) for k in range(2)]
    scores = read_scores(files[0])
    assert scores.label == "se?quence" and list(scores.sequences) == ["se?quence"]
    assert "se?quence" in write_report(files, tmp_path / "out")[0].read_text(encoding="utf-8")
