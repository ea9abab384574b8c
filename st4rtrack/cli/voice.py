"""What a command says, and to whom: sentences for a person, next to nothing with `--quiet`, or a JSON line per event with `--json`.

Commands call `answer` for what was asked for, `say` for what is good to know, `wrote` for files. Only the standard library is
imported, as this is loaded before the arguments are understood.
"""

import contextlib
import json
import math
import sys
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TextIO

from st4rtrack.io.private import without_secrets

Mode = Literal["plain", "quiet", "json"]
PROGRESS_EVERY_S = 0.2
"""Between two lines of progress with `--json`; the last is always said."""
REMEMBERED = 200
"""Lines that a report of a fault quotes at most."""


@dataclass
class Voice:
    """How a command speaks.

    Attributes:
        mode: see the module.
        events: where JSON lines go.
        said: the last things that were said, for a report.
        progress_s: when progress was last said.
    """

    mode: Mode = "plain"
    events: TextIO | None = None
    said: deque[str] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    progress_s: float = -math.inf

    def event(self, event: str, /, **facts: Any) -> None:
        """A line of JSON, where such lines are wanted."""
        if self.mode == "json":
            line = {"event": event, **facts, "time_s": round(time.time(), 3)}
            print(without_secrets(json.dumps(line)), file=self.events or sys.stdout, flush=True)

    def note(self, text: str, kind: Literal["note", "warning", "answer"] = "note") -> str:
        """Remembers what was said and, with `--json`, makes it an event; gives it without secrets."""
        text = without_secrets(text)
        self.said.append(text)
        self.event(kind, text=text)
        return text

    def progress(self, done: float, total: float, unit: str, **facts: Any) -> None:
        """How far something is; not more often than a pipeline can want to know."""
        if done >= total or time.monotonic() - self.progress_s >= PROGRESS_EVERY_S:
            self.progress_s = time.monotonic()
            self.event("progress", done=done, total=total, unit=unit, **facts)


_voice = Voice()


def voice() -> Voice:
    """Of the command that runs."""
    return _voice


@contextlib.contextmanager
def speaking(mode: Mode) -> Iterator[Voice]:
    """A command's voice. With "json" all else that prints goes to the standard error stream, so that standard output is JSON lines only."""
    global _voice
    before, _voice = _voice, Voice(mode, sys.stdout if mode == "json" else None)
    with contextlib.redirect_stdout(sys.stderr) if mode == "json" else contextlib.nullcontext():
        try:
            yield _voice
        finally:
            _voice = before


def answer(text: str) -> None:
    """What the user asked for: a measurement, an address. `--quiet` says it, too."""
    text = _voice.note(text, "answer")
    if _voice.mode != "json":
        print(text, flush=True)


def say(text: str) -> None:
    """What is good to know: what to do next, what is not done because it is there."""
    text = _voice.note(text)
    if _voice.mode == "plain":
        print(text, flush=True)


def wrote(*paths: str | Path, remark: str = "") -> None:
    """Files and folders that were written; `remark` follows them in the sentence."""
    for path in paths:
        _voice.event("wrote", path=str(path))
    text = without_secrets("wrote " + ", ".join(str(path) for path in paths) + remark)
    _voice.said.append(text)
    if _voice.mode == "plain":
        print(text, flush=True)
