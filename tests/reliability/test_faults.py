"""What commands survive: killed at random moments, no room, no permission, no memory, a folder that goes away, a second writer.

The work is done by `performance/faults.py`, which starts commands as copies of a process that has everything loaded.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="kills processes as POSIX does")
SCRIPT = Path(__file__).parents[2] / "performance/faults.py"


def survived(tmp_path: Path, *arguments: object) -> list[dict[str, object]]:
    """The rows of faults.json; all must have been survived."""
    output = tmp_path / "faults.json"
    command = [sys.executable, SCRIPT, "-o", output, *arguments]
    done = subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(SCRIPT.parents[1])}
    )
    assert done.returncode == 0, done.stderr
    rows = json.loads(output.read_text())
    assert all(row["survived"] == row["times"] > 0 for row in rows)
    return rows


def test_kills_are_survived_and_what_else_can_happen(tmp_path: Path) -> None:
    rows = survived(tmp_path, "--commands", "run", "bench predict", "--kills", 1, "--kinds", "folder moved away")
    kinds = [("run", "SIGKILL"), ("bench predict", "SIGKILL"), ("run", "folder moved away"), ("run", "second writer")]
    assert [(row["command"], row["kind"]) for row in rows] == kinds


@pytest.mark.slow
def test_a_run_survives_everything_that_is_tried(tmp_path: Path) -> None:
    kinds = {row["kind"] for row in survived(tmp_path, "--commands", "run", "--kills", 3)}
    assert {"SIGKILL", "file size limit", "permission lost", "folder moved away", "second writer"} <= kinds
    assert {"out of device memory", "out of host memory"} <= kinds


@pytest.mark.slow
@pytest.mark.parametrize("command", ["run", "batch", "bench predict", "adapt", "train"])
def test_every_command_survives_thirty_kills(tmp_path: Path, command: str) -> None:
    (row,) = survived(tmp_path, "--commands", command, "--kills", 30, "--seed", 1, "--kinds")
    assert row["times"] == 30
