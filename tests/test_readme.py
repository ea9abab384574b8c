"""What the README says is what happens."""

import re
from pathlib import Path

import numpy as np
import pytest

from st4rtrack.cli.main import COMMANDS, EVERYWHERE
from st4rtrack.data.procedural import ProceduralConfig, procedural_clip
from st4rtrack.io.video import write_video

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_the_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_video("my.mp4", iter(procedural_clip(1, ProceduralConfig(height=384, width=512, num_frames=2)).rgb), fps=10)
    example = re.search(r"```python\n(.*?)```", README, re.DOTALL)
    assert example is not None
    names: dict = {}
    exec(compile(example[1], "README.md", "exec"), names)
    assert names["tracks"].points_world.shape == (2, 1, 3)
    assert names["scene"].cameras.world_from_camera.shape == (2, 4, 4)
    assert np.isfinite(names["tracks"].points_world).all()


def test_commands_options_and_files_that_are_named_exist() -> None:
    for command in re.findall(r"^\s+st4rtrack (\w+)", README, re.MULTILINE):
        assert command in COMMANDS
    for target in re.findall(r"^\s+make ([\w-]+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for path in re.findall(r"\]\(((?!http)[^)#]+)", README):
        assert (ROOT / path).exists(), path
    shown = (ROOT / "tests/cli/help.txt").read_text(encoding="utf-8")
    for option in re.findall(r"`--([a-z-]+)", README):
        assert f"--{option}" in EVERYWHERE or re.search(rf"--{option}\b", shown), option
