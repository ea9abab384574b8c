"""Progress with remaining time, and log output, on the standard error stream or as events (`reporter.py`)."""

import logging
import sys
from typing import Any

from tqdm import tqdm

from st4rtrack.cli.reporter import reporter
from st4rtrack.model import hub


def log_to_stderr() -> None:
    """Show the library's log, one line per message, and its downloads; `--quiet`: warnings only; `--json`: as events."""
    hub.bar_class = DownloadBar
    handler = _AboveTheBar()
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("st4rtrack")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.WARNING if reporter().mode == "quiet" else logging.INFO)


class _AboveTheBar(logging.Handler):
    """Log handler whose lines do not run into a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        text = reporter().note(self.format(record), "warning" if record.levelno >= logging.WARNING else "note")
        if reporter().mode != "json":
            tqdm.write(text, file=sys.stderr)


class DownloadBar(tqdm):
    """Progress bar of a download; `--quiet`: nothing; `--json`: events."""

    def __init__(self, *, total: int | None, initial: int = 0, disable: bool = False, **options: Any) -> None:
        self._shown, self._size, self._count = not disable, total, initial
        hidden = disable or reporter().mode != "plain"
        super().__init__(total=total, initial=initial, disable=hidden, file=sys.stderr, dynamic_ncols=True, **options)

    def update(self, n: float | None = 1) -> bool | None:
        """Add `n` bytes."""
        self._count += int(n or 0)
        if self._shown and self._size:
            reporter().progress(self._count, self._size, "byte")
        return super().update(n)


class Progress:
    """Progress bar over frames or other items; call it with (done, total). It appears with the first item, after all checks."""

    def __init__(self, unit: str = "frame") -> None:
        self.unit, self.done = unit, 0
        self._bar: tqdm | None = None

    def __call__(self, done: int, total: int) -> None:
        reporter().progress(done, total, self.unit)
        if reporter().mode == "plain":
            self._draw(done, total)
        self.done = done

    def _draw(self, done: int, total: int) -> None:
        if self._bar is None:  # a resumed run starts later
            self._bar = tqdm(total=total, initial=done - 1, unit=self.unit, file=sys.stderr, dynamic_ncols=True)
        self._bar.total = total  # of an adaptation with a time budget: estimated
        self._bar.update(done - self.done if self.done else 1)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
