"""Input from anywhere ends in a result or in one sentence, within bounded time and memory; nothing in it is executed."""

from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Run
from tests.reliability.case import Case
from tests.reliability.corpus import LIMIT_S, Trial, corpus, try_all
from tests.reliability.folders import encoded
from tests.reliability.videos import encode, pictures, valid, written

SAMPLE = 120


def sample(count: int, seed: int = 0) -> list[Case]:
    """Inputs by chance, without those that are large to make."""
    light = [case for case in corpus() if not case.heavy]
    return [light[i] for i in sorted(np.random.default_rng(seed).permutation(len(light))[:count])]


def failures(trials: list[Trial]) -> list[str]:
    return [
        f"{trial.outcome.kind} {trial.outcome.name}: {trial.outcome.said or f'{trial.seconds:.0f} s'}"
        for trial in trials
        if trial.outcome.end == "failure" or trial.seconds > LIMIT_S
    ]


def test_the_corpus_is_as_large_as_promised() -> None:
    assert len(corpus()) >= 200
    assert {case.kind for case in corpus()} == {"video", "images", "arrays", "checkpoint", "scene", "cameras"}


def test_a_part_of_the_corpus() -> None:
    trials = list(try_all(sample(SAMPLE)))
    assert len(trials) == SAMPLE
    assert not failures(trials)


@pytest.mark.slow
def test_the_whole_corpus() -> None:
    trials = list(try_all(corpus()))
    assert len(trials) == len(corpus())
    assert not failures(trials)


def test_a_fault_is_noticed_and_the_rest_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that dies takes its process with it, and only its input is a failure."""
    first, second = sample(2)
    ends = {trial.outcome.name: trial.outcome for trial in try_all([Case("none", "unknown", first.make, first.read), second])}
    assert ends["unknown"].end == "failure" and "exit code 0" in ends["unknown"].said
    assert ends[second.name].end != "failure"


RUNS = ["one-frame.mp4", "dot.mkv", "-o.mp4", "żółw i kot.mp4", "torn.mkv", "still.png"]


@pytest.mark.parametrize("name", RUNS)
def test_the_command_ends_as_the_readers_do(run: Run, name: str) -> None:
    """From end to end with the embedded model: a scene, or one sentence and exit code 2."""
    _write(Path(name))
    code, said = run("run", f"./{name}", "-o", "scene", "--device", "cpu", "--size", 64)
    assert code == 0 and Path("scene/scene.json").is_file(), said


@pytest.mark.parametrize("content", [b"", b"text", valid("clip.mp4")[:900]])
def test_the_command_refuses_with_exit_code_2(run: Run, content: bytes) -> None:
    written(Path("broken.mp4"), content)
    code, said = run("run", "broken.mp4")
    assert code == 2 and "Traceback" not in said
    assert [line for line in said.splitlines() if line.startswith("st4rtrack: ") and "broken.mp4" in line]


def _write(path: Path) -> None:
    if path.name == "one-frame.mp4":
        encode(path.absolute(), pictures(1))
    elif path.name == "dot.mkv":
        encode(path.absolute(), pictures(2, 3, 3), codec="ffv1", pix_fmt="yuv444p")
    elif path.name == "torn.mkv":
        written(path, valid("clip.mkv")[:-400])
    elif path.name == "still.png":
        written(path, encoded("png"))
    else:
        encode(path.absolute(), pictures(3))
