"""Progress with the time left, and what the library has to say, on the standard error stream."""

import logging
import sys

from tqdm import tqdm


def log_to_stderr() -> None:
    """Shows the library's notes and warnings, one line each."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    logger = logging.getLogger("st4rtrack")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)


class FrameProgress:
    """A progress bar over frames: call it with (frames done, frames in all)."""

    def __init__(self, total: int) -> None:
        self.done = 0
        self._bar = tqdm(total=total, unit="frame", file=sys.stderr, dynamic_ncols=True)

    def __call__(self, done: int, total: int) -> None:
        if self.done == 0:  # a continued run starts further on
            self._bar.initial = done - 1
            self._bar.n = done - 1
        self._bar.update(done - self._bar.n)
        self.done = done

    def __enter__(self) -> "FrameProgress":
        return self

    def __exit__(self, *_: object) -> None:
        if self.done == 0:
            self._bar.leave = False
        self._bar.close()
