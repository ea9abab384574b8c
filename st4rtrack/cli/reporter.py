"""Output of commands: text by default, almost none with `--quiet`, or one JSON line per event with `--json`.

Commands call `answer` for requested results, `say` for further information, `wrote` for files. Imports the standard library
only, because it is loaded before the arguments are parsed.
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
from typing import TYPE_CHECKING, Any, Literal, TextIO

from st4rtrack.io.text import redacted

if TYPE_CHECKING:
    from st4rtrack.scene import Scene

Mode = Literal["plain", "quiet", "json"]
UNRELIABLE = 3
"""Exit code of an unreliable scene with `--require-reliable`."""
PROGRESS_EVERY_S = 0.2
"""Minimum time between two progress lines with `--json`; the last one is always printed."""
REMEMBERED = 200
"""Maximum number of lines quoted in a crash report."""


@dataclass
class Reporter:
    """Output of a command.

    Attributes:
        mode: output mode, see the module docstring.
        events: stream for JSON lines.
        recent: most recent output, for crash reports.
        progress_s: time of the last progress event.
    """

    mode: Mode = "plain"
    events: TextIO | None = None
    recent: deque[str] = field(default_factory=lambda: deque(maxlen=REMEMBERED))
    progress_s: float = -math.inf

    def event(self, event: str, /, **facts: Any) -> None:
        """Print an event as a JSON line, in JSON mode."""
        if self.mode == "json":
            line = {"event": event, **facts, "time_s": round(time.time(), 3)}
            print(redacted(json.dumps(line)), file=self.events or sys.stdout, flush=True)

    def note(self, text: str, kind: Literal["note", "warning", "answer"] = "note") -> str:
        """Record a text and, in JSON mode, print it as an event; returns it without secrets."""
        text = redacted(text)
        self.recent.append(text)
        self.event(kind, text=text)
        return text

    def progress(self, done: float, total: float, unit: str, **facts: Any) -> None:
        """Report progress as an event, at a limited rate."""
        if done >= total or time.monotonic() - self.progress_s >= PROGRESS_EVERY_S:
            self.progress_s = time.monotonic()
            self.event("progress", done=done, total=total, unit=unit, **facts)


_reporter = Reporter()


def reporter() -> Reporter:
    """Output of the running command."""
    return _reporter


@contextlib.contextmanager
def reporting(mode: Mode) -> Iterator[Reporter]:
    """Set the output of a command. In JSON mode other output goes to standard error: standard output is JSON lines only."""
    global _reporter
    before, _reporter = _reporter, Reporter(mode, sys.stdout if mode == "json" else None)
    with contextlib.redirect_stdout(sys.stderr) if mode == "json" else contextlib.nullcontext():
        try:
            yield _reporter
        finally:
            _reporter = before


def answer(text: str) -> None:
    """Print a requested result (a measurement, an address), also with `--quiet`."""
    text = _reporter.note(text, "answer")
    if _reporter.mode != "json":
        print(text, flush=True)


def say(text: str) -> None:
    """Print further information: next steps, what is skipped because it exists."""
    text = _reporter.note(text)
    if _reporter.mode == "plain":
        print(text, flush=True)


def wrote(*paths: str | Path, remark: str = "") -> None:
    """Report written files and folders; `remark` follows them in the sentence."""
    for path in paths:
        _reporter.event("wrote", path=str(path))
    text = redacted("wrote " + ", ".join(str(path) for path in paths) + remark)
    _reporter.recent.append(text)
    if _reporter.mode == "plain":
        print(text, flush=True)


def print_quality(scene: "Scene") -> bool:
    """Print the quality line and the warnings of a scene, or an event "quality"; `--quiet`: unreliable scenes only.

    Returns:
        Whether the scene is reliable; False without a quality report.
    """
    from st4rtrack.io.scene.description import quality_to_json

    report = scene.quality
    if report is None:
        say("quality: unknown, the scene was made by an earlier version; --overwrite makes it again")
        return False
    _reporter.event("quality", **quality_to_json(report))
    put = say if report.reliable else answer
    put(report.summary(len(scene)))
    for warning in report.warnings:
        put(f"  {warning.code}: {warning.sentence}")
    return report.reliable
