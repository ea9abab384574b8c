"""What `--help` prints, as a snapshot. After an intended change: python -m tests.cli.test_help."""

import contextlib
import difflib
import io
import os
import re
from pathlib import Path

import pytest

from st4rtrack.cli.main import BENCH, COMMANDS, main
from st4rtrack.formats import FORMATS

SNAPSHOT = Path(__file__).parent / "help.txt"
WIDTH = "120"


def help_texts() -> str:
    """The help of all commands."""
    commands = [
        [],
        *([name] for name in COMMANDS),
        *(["bench", name] for name in BENCH),
        *(["export", "s", name] for name in FORMATS),
    ]
    pages = []
    for command in commands:
        with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.suppress(SystemExit):
            main([*command, "--help"])
        lines = [line.rstrip() for line in printed.getvalue().splitlines()]
        pages.append("\n".join([" ".join(["===", "st4rtrack", *command]), *lines]))
    return "\n".join(pages) + "\n"


def test_help_of_every_command_is_the_snapshot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", WIDTH)
    found, expected = help_texts(), SNAPSHOT.read_text(encoding="utf-8")
    changes = "\n".join(difflib.unified_diff(expected.splitlines(), found.splitlines(), lineterm="", n=1))
    assert not changes, f"python -m tests.cli.test_help writes the new snapshot:\n{changes}"
    for word in ("{None}", "STR", "INT", "default: None", "default: False"):
        assert not re.search(rf"(?<!\w){re.escape(word)}(?!\w)", found), word


if __name__ == "__main__":
    os.environ["COLUMNS"] = WIDTH
    SNAPSHOT.write_text(help_texts(), encoding="utf-8")
