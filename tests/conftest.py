"""Fixtures of more than one folder."""

import os

if workers := int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "0")):  # PyTorch reads it when it is imported, processes inherit it
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // workers)))

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

from st4rtrack.cli.main import main

Run = Callable[..., tuple[int, str]]

# The same examples on every machine and in every run, however slow it is; nothing is kept between runs.
settings.register_profile("repeatable", derandomize=True, deadline=None, database=None)
settings.load_profile("repeatable")


@pytest.fixture
def run(capsys: pytest.CaptureFixture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command in an empty folder: exit code, and what it printed on both streams."""
    monkeypatch.chdir(tmp_path)

    def command(*arguments: object) -> tuple[int, str]:
        code = 0
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return command
