"""The quality report as a user meets it."""

import dataclasses
import json
from pathlib import Path

import pytest

from st4rtrack.io.scene import load_scene, save_scene
from st4rtrack.pipeline import reconstruct as pipeline
from st4rtrack.render.overview import render_overview
from st4rtrack.scene import Scene
from st4rtrack.types import QualityReport, QualityWarning
from tests.conftest import Run
from tests.synthetic_scene import synthetic_scene

CUT = QualityWarning("cut", (2,), "the video has a hard cut at frame 2; run each shot on its own", True)
GOOD = QualityReport(1.0, 0.8, focal_source="video", parallax="good")
BAD = dataclasses.replace(GOOD, frames_solved=0.75, warnings=(CUT,))


def scene_with(report: QualityReport | None) -> Scene:
    return dataclasses.replace(synthetic_scene(4, 24, 32), quality=report)


@pytest.mark.parametrize(("report", "code"), [(GOOD, 0), (BAD, 3), (None, 3)])
def test_run_require_reliable_exits_3_for_an_unreliable_scene(
    run: Run, monkeypatch: pytest.MonkeyPatch, report: QualityReport | None, code: int
) -> None:
    def reconstruct(*_: object, output: Path, **__: object) -> Scene:
        return load_scene(save_scene(scene_with(report), output, overwrite=True))

    monkeypatch.setattr(pipeline, "reconstruct", reconstruct)
    Path("frames").mkdir()
    write_frames(Path("frames"))
    assert run("run", "frames")[0] == 0
    found, printed = run("run", "frames", "--require-reliable")
    assert found == code
    assert "overview.png" in printed
    if report is not None:
        assert report.summary(4) in printed
        assert (CUT.sentence in printed) == (report is BAD)
    assert (BAD.summary(4) in run("run", "frames", "--quiet")[1]) == (report is BAD)


def write_frames(folder: Path) -> None:
    import cv2

    for t, rgb in enumerate(synthetic_scene(4, 24, 32).rgb):
        cv2.imwrite(str(folder / f"{t}.png"), rgb)


def test_info_prints_what_a_scene_holds(run: Run) -> None:
    save_scene(scene_with(BAD), "scene")
    code, printed = run("info", "scene")
    assert code == 0
    for text in ("4 frames of 32x24 pixels", "anchor: frame 1", "name tiny", "3/4 solved", BAD.summary(4), CUT.sentence):
        assert text in printed
    assert run("info", "none")[0] == 2


def test_info_of_an_older_scene_prints_that_quality_is_unknown(run: Run) -> None:
    save_scene(scene_with(None), "scene")
    code, printed = run("info", "scene")
    assert code == 0
    assert "quality: unknown" in printed


def test_json_has_an_event_with_the_report(run: Run) -> None:
    save_scene(scene_with(BAD), "scene")
    code, printed = run("info", "scene", "--json")
    events = [json.loads(line) for line in printed.splitlines()]
    (event,) = [event for event in events if event["event"] == "quality"]
    assert code == 0
    assert event["reliable"] is False
    assert event["parallax"] == "good"
    assert event["warnings"][0]["code"] == "cut"
    (facts,) = [event for event in events if event["event"] == "scene"]
    expected = {"frames": 4, "width": 32, "height": 24, "anchor": 1, "solved_frames": 3, "units": "model", "known": None}
    assert {name: facts[name] for name in expected} == expected
    assert facts["bytes"] > 1000 and facts["model"]["name"] == "tiny" and facts["seconds"] == pytest.approx(0.1)


def test_overview_draws_the_report_above_the_frames() -> None:
    plain, good, bad = (render_overview(scene_with(report), width=600) for report in (None, GOOD, BAD))
    assert plain.shape[0] < min(good.shape[0], bad.shape[0])


def test_overview_shows_the_quality_line_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    monkeypatch.setattr("st4rtrack.render.overview.put_text", lambda image, text, *_, **__: drawn.append(text) or 0)
    render_overview(scene_with(GOOD), width=600)
    assert GOOD.summary(4) in " ".join(drawn) and GOOD.summary(4) not in drawn
    render_overview(scene_with(BAD), width=1200)
    assert CUT.sentence in drawn
