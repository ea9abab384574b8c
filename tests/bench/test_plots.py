"""Plots of a report: there, not empty, and robust to what names hold."""

import json
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from st4rtrack.bench.report import write_report
from tests.bench.score_data import ONE, OTHER, write_scores


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report of two methods on two sets, under one protocol."""
    folder = tmp_path_factory.mktemp("plots")
    write_report([write_scores(folder / f"{k}.json", str(k), figures) for k, figures in enumerate((ONE, OTHER))], folder)
    return folder


def test_plots_are_images_in_which_something_is_drawn(folder: Path) -> None:
    names = sorted(path.name for path in folder.glob("*.png"))
    assert names == [
        "apd_sequences_published_1.png",
        "apd_sequences_published_2.png",
        "error_distance_published.png",
        "error_motion_published.png",
        "error_time_published.png",
    ]
    text = (folder / "report.md").read_text()
    for name in names:
        image = cv2.imread(str(folder / name))
        assert image is not None and min(image.shape[:2]) > 300
        blue = np.abs(image.astype(int) - (0xB2, 0x72, 0x00)).max(axis=-1) < 8
        vermilion = np.abs(image.astype(int) - (0x00, 0x5E, 0xD5)).max(axis=-1) < 8
        assert vermilion.sum() > 100, name  # the second method; over time both lines are the same and it covers the first
        assert blue.sum() > 100 or name.startswith("error"), name
        assert f"]({name})" in text
        assert (folder / name).with_suffix(".pdf").read_bytes().startswith(b"%PDF")


def test_names_that_plots_could_read_as_markup(tmp_path: Path) -> None:
    file = write_scores(tmp_path / "a.json", "_hidden $x_", {"a$b_/_c$d": (80.0, None), "e/f" * 30: (None, 0.1)})
    written = write_report([file], tmp_path / "report")
    assert all(path.stat().st_size > 1000 for path in written if path.suffix == ".png")


def test_other_bins_are_left_out_of_a_plot_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = [write_scores(tmp_path / f"{name}.json", name, ONE) for name in "ab"]
    content = json.loads(files[1].read_text())
    content["mean"]["curves"]["motion"]["edges_m"] = [0, 5, None]
    files[1].write_text(json.dumps(content))
    write_report(files, tmp_path / "report")
    assert len(caplog.messages) == 1 and "b.json" in caplog.text and "motion" in caplog.text


def test_without_matplotlib_there_are_no_plots_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = write_scores(tmp_path / "a.json", "a", ONE)
    write_report([file], tmp_path / "report")
    assert list((tmp_path / "report").glob("*.png"))
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    written = write_report([file], tmp_path / "report")
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == ["report.md", "tables.csv", "tables.tex"]
    assert len(written) == 3
    assert "matplotlib is not installed; install it with: " in caplog.text and '[bench]"' in caplog.text
    assert "matplotlib is not installed" in written[0].read_text()
