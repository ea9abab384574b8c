"""The quality report in `scene.json`."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from st4rtrack.io.scene import load_scene, prepare_folder, save_scene
from st4rtrack.io.scene.description import quality_from_json, quality_to_json
from st4rtrack.scene import Scene
from st4rtrack.types import QualityReport, QualityWarning, UserError
from tests.io.scene.test_scene import header_of
from tests.synthetic_scene import synthetic_scene

WARNING = QualityWarning("cut", (2,), "hard cut at frame 2", True)
REPORT = QualityReport(2 / 3, 0.8123456789, None, 3.0, "video", True, "weak", 0.25, (WARNING,))


def scene_with_report() -> Scene:
    scene = dataclasses.replace(synthetic_scene(3), quality=REPORT)
    scene.cameras.reprojection_px = np.array([0.5, np.nan, 2.0], np.float32)
    scene.cameras.flow_agreement_px = np.full(3, np.nan, np.float32)
    return scene


def test_quality_survives_saving(tmp_path: Path) -> None:
    loaded = load_scene(save_scene(scene_with_report(), tmp_path))
    assert loaded.quality == REPORT
    np.testing.assert_array_equal(loaded.cameras.reprojection_px, np.array([0.5, np.nan, 2.0], np.float32))
    written = json.loads((tmp_path / "scene.json").read_text())["quality"]
    assert written["reliable"] is False
    assert written["warnings"] == [{"code": "cut", "frames": [2], "sentence": "hard cut at frame 2", "serious": True}]


def test_quality_does_not_count_among_the_options_of_a_run(tmp_path: Path) -> None:
    scene = scene_with_report()
    save_scene(scene, tmp_path)
    assert prepare_folder(tmp_path, header_of(scene)) == "done"


def test_quality_of_an_older_scene_is_none(tmp_path: Path) -> None:
    scene = load_scene(save_scene(synthetic_scene(3), tmp_path))
    assert "quality" not in json.loads((tmp_path / "scene.json").read_text())
    assert scene.quality is None
    assert scene.cameras.reprojection_px is None


def _changed(**changes: Any) -> dict[str, Any]:
    return {**quality_to_json(REPORT), **changes}


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        _changed(frames_solved="all"),
        _changed(moving_share=None),
        _changed(parallax="some"),
        _changed(focal_source=3),
        _changed(warnings=[{"code": "cut"}]),
        _changed(warnings=[{**quality_to_json(REPORT)["warnings"][0], "frames": ["x"]}]),
    ],
)
def test_quality_that_cannot_be_is_damage(tmp_path: Path, data: Any) -> None:
    with pytest.raises(ValueError, match=r".+"):
        quality_from_json(data)
    save_scene(synthetic_scene(3), tmp_path)
    path = tmp_path / "scene.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "quality": data}))
    with pytest.raises(UserError, match=r"quality in scene\.json"):
        load_scene(tmp_path)
