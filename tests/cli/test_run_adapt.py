"""`st4rtrack run --adapt`: options, progress and the final sentence; the adaptation is replaced by a stub."""

import json
from pathlib import Path
from typing import Any

import pytest

from st4rtrack.adapt import reconstruct as adaptation
from st4rtrack.io.scene import load_scene, record_result, save_scene
from st4rtrack.io.video import write_video
from st4rtrack.scene import Scene
from tests.conftest import Run
from tests.synthetic_scene import synthetic_scene

SENTENCE = "adapted to room: held-out track error 0.90 px, before 1.00 px (10 % less)"


@pytest.fixture
def arguments(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Arguments that the stub received."""
    received: dict[str, Any] = {}

    def stub(video: object, *, progress: Any, output: Path, **others: Any) -> Scene:
        received.update(others)
        for unit in ("frame", "step", "frame"):
            progress(1, 2, unit)
            progress(2, 2, unit)
        save_scene(synthetic_scene(4, 24, 32), output)
        record_result(output, "adaptation", {"sentence": SENTENCE})
        return load_scene(output)

    monkeypatch.setattr(adaptation, "reconstruct_adapted", stub)
    return received


@pytest.fixture
def video(tmp_path: Path) -> Path:
    scene = synthetic_scene(4, 24, 32)
    write_video(tmp_path / "room.mp4", iter(scene.rgb), fps=10)
    return tmp_path / "room.mp4"


def test_run_adapt_says_at_the_end_what_improved(run: Run, arguments: dict[str, Any], video: Path) -> None:
    code, said = run("run", video, "--adapt", "--adapt-minutes", 0.5, "-o", "scene")
    assert code == 0 and SENTENCE in said and "at most 0.5 min" in said
    assert said.count("100%") == 3 and "step" in said
    assert arguments["minutes"] == 0.5 and not arguments["overwrite"]
    assert Path("scene/overview.png").exists()


def test_run_adapt_json_and_quiet_have_the_sentence(run: Run, arguments: dict[str, Any], video: Path) -> None:
    code, said = run("run", video, "--adapt", "-o", "scene", "--json")
    events = [json.loads(line) for line in said.splitlines() if line.startswith("{")]
    assert (
        code == 0 and {"event": "answer", "text": SENTENCE}.items() <= next(e for e in events if e["event"] == "answer").items()
    )
    assert {event["unit"] for event in events if event["event"] == "progress"} == {"frame", "step"}
    code, said = run("run", video, "--adapt", "-o", "quiet", "--quiet")
    assert code == 0 and SENTENCE in said and "at most" not in said and arguments["minutes"] == 5
