"""The figure: its rows and columns, that letters stay text, and what it refuses."""

import re
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from st4rtrack.render.draw import PANEL
from st4rtrack.render.figure import chosen_frames, plan_figure, write_figure
from st4rtrack.scene import Scene
from st4rtrack.types import UserError
from tests.render.procedural_scene import procedural_scene

pytest.importorskip("matplotlib")

DPI = 80


@pytest.fixture(scope="module")
def scene() -> Scene:
    return procedural_scene(5, num_frames=5, height=48, width=64, anchor_index=1, motion=1.5)


def test_png_has_a_row_per_moment(scene: Scene, tmp_path: Path) -> None:
    write_figure(scene, tmp_path / "figure.png", rows=2, dpi=DPI)
    image = cv2.imread(str(tmp_path / "figure.png"))
    assert image is not None
    layout = plan_figure(2, 48, 64, 7.0, legend=True)
    height, width = image.shape[:2]
    assert width == 7 * DPI and abs(height - layout.height * DPI) <= 1
    for row in range(2):
        for column in range(5):
            left, bottom, wide, high = layout.place(row, column)
            top, start = round((1 - bottom - high) * height), round(left * width)
            cell = image[top + 2 : top + round(high * height) - 2, start + 2 : start + round(wide * width) - 2, ::-1].astype(int)
            assert cell.std() > 8, (row, column)
            if column >= 2:
                assert (np.abs(cell - PANEL).max(axis=-1) > 12).mean() > 0.15, (row, column)
    assert layout.place(0, 4)[0] + layout.place(0, 4)[2] == pytest.approx(1)
    assert [path.name for path in tmp_path.iterdir()] == ["figure.png"]


def test_letters_of_the_pdf_are_text_in_fonts_that_publishers_take(scene: Scene, tmp_path: Path) -> None:
    write_figure(scene, tmp_path / "figure.pdf", frames=[4], dpi=DPI)
    content = (tmp_path / "figure.pdf").read_bytes()
    assert content.startswith(b"%PDF") and b"/Type3" not in content and b"/FontFile2" in content
    assert content.count(b"/Subtype /Image") == 5
    streams = b""
    for packed in re.findall(rb"stream\n(.*?)\nendstream", content, re.DOTALL):
        try:
            streams += zlib.decompress(packed)
        except zlib.error:
            continue
    assert streams.count(b"BT") >= 8  # headings, time and legend are drawn as text


def test_rows_are_the_frames_that_were_asked_for(scene: Scene) -> None:
    assert chosen_frames(scene, 3, None) == [1, 2, 4]  # the anchor is among them
    assert chosen_frames(scene, 1, None) == [4]
    assert chosen_frames(scene, 9, [3, 0, 3]) == [0, 3]


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("figure.svg", {}, "must end in .pdf or"),
        ("figure.pdf", {"rows": 0}, "rows must be at least 1"),
        ("figure.pdf", {"frames": [7]}, r"0\.\.4, got 7"),
        ("figure.pdf", {"width_in": 0.5}, "not a valid figure size"),
        ("figure.pdf", {"dpi": 100_000}, "not a valid figure size"),
    ],
)
def test_mistakes_are_said(scene: Scene, tmp_path: Path, name: str, options: dict, sentence: str) -> None:
    with pytest.raises(UserError, match=sentence):
        write_figure(scene, tmp_path / name, **options)
    assert not list(tmp_path.iterdir())


def test_missing_matplotlib_is_said(scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(UserError, match=r"\[figure\]"):
        write_figure(scene, tmp_path / "figure.pdf")
