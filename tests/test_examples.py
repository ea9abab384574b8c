"""The examples do what they say."""

import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.conftest import Run
from tests.worldtrack_data import write_sequence

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_someone_elses_method_is_scored(run: Run, tmp_path: Path) -> None:
    data = tmp_path / "data"
    sequence = write_sequence(data / "set" / "one.npz")
    subprocess.run([sys.executable, EXAMPLES / "score_your_method.py", data, "predictions"], check=True)
    with np.load("predictions/set/one.npz") as prediction:
        assert prediction["tracks_world"].shape == sequence.tracks_world.shape  # pyright: ignore[reportOptionalMemberAccess]
    code, said = run("bench", "score", "--data", data, "--predictions", "predictions", "-o", "scores.json")
    assert code == 0 and "tracking, all: median APD" in said
