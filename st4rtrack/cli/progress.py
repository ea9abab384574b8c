"""Progress with remaining time, and log output, on the standard error stream or as events (`reporter.py`)."""

import contextlib
import logging
import os
import sys
import threading
from typing import Any

from tqdm import tqdm

from st4rtrack.cli.reporter import reporter
from st4rtrack.model import hub


def log_to_stderr() -> None:
    """Show the library's log, one line per message, and its downloads; `--quiet`: warnings only; `--json`: as events."""
    hub.bar_class = DownloadBar
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # the hub library would print every retry; read when it is imported
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


class Progress(contextlib.ExitStack):
    """Progress bar over frames or other items; call it with (done, total). It appears with the first item, after all checks."""

    def __init__(self, unit: str = "frame") -> None:
        super().__init__()
        self.unit, self.done = unit, 0
        self._bar: tqdm | None = None
        self._preparation: tqdm | None = None
        self._prepared = threading.Event()
        self.callback(self._end_preparation)

    def preparation(self, share: float) -> None:
        """Show the completed share 0..1 of the preparation before the first item, in a bar of its own."""
        if self._prepared.is_set():  # the video is read again
            return
        reporter().progress(round(share, 3), 1, "preparation")
        if reporter().mode != "plain":
            return
        if self._preparation is None:
            # without smoothing, the time left also grows while nothing is reported
            shown = {"bar_format": "{desc}: {percentage:3.0f}%|{bar}| [{elapsed}<{remaining}]", "smoothing": 0, "miniters": 0}
            self._preparation = tqdm(total=1, desc="preparing", file=sys.stderr, dynamic_ncols=True, leave=False, **shown)
            if sys.stderr.isatty():
                threading.Thread(target=self._tick, args=(self._preparation,), daemon=True).start()
        self._preparation.update(share - self._preparation.n)

    def _tick(self, bar: tqdm) -> None:
        while not self._prepared.wait(1):
            bar.refresh()

    def _end_preparation(self) -> None:
        self._prepared.set()
        if self._preparation is not None:
            self._preparation.close()

    def __call__(self, done: int, total: int) -> None:
        self._end_preparation()
        reporter().progress(done, total, self.unit)
        if reporter().mode == "plain":
            if self._bar is None:  # a resumed run starts later
                bar = tqdm(total=total, initial=done - 1, unit=self.unit, file=sys.stderr, dynamic_ncols=True)
                self._bar = self.enter_context(bar)
            self._bar.total = total  # of an adaptation with a time budget: estimated
            self._bar.update(done - self.done if self.done else 1)
        self.done = done
