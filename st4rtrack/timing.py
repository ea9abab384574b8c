"""Timers of the stages of a run: functions are marked with their stage; a stopwatch that is switched on sums up their time."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


class Stopwatch:
    """Seconds that are spent in each part; those in an inner part do not count for the outer one. Each thread nests for itself.

    Args:
        settle: called where a part that asks for it begins or ends, so that a GPU's work is counted where it was begun.
        clock: seconds.
    """

    def __init__(self, settle: Callable[[], object] | None = None, clock: Callable[[], float] = time.perf_counter) -> None:
        self.seconds: Counter[str] = Counter()
        self._settle, self._clock = settle, clock
        self._threads, self._lock = threading.local(), threading.Lock()
        self._begun: float | None = None

    @property
    def span_s(self) -> float:
        """From when the first part began to now."""
        return 0.0 if self._begun is None else self._clock() - self._begun

    def enter(self, part: str, *, settles: bool = False) -> None:
        """A part begins in this thread."""
        if settles and self._settle:
            self._settle()
        self._charge()
        self._nesting().append(part)
        if self._begun is None:
            self._begun = self._threads.since

    def leave(self, *, settles: bool = False) -> None:
        """The part that began last in this thread ends."""
        if settles and self._settle:
            self._settle()
        self._charge()
        self._nesting().pop()

    @contextmanager
    def part(self, name: str, *, settles: bool = False) -> Iterator[None]:
        """The time of a `with` block."""
        self.enter(name, settles=settles)
        try:
            yield
        finally:
            self.leave(settles=settles)

    def _nesting(self) -> list[str]:
        if not hasattr(self._threads, "nesting"):
            self._threads.nesting, self._threads.since = [], 0.0
        return self._threads.nesting

    def _charge(self) -> None:
        """Time since the last change goes to the innermost part of this thread."""
        nesting, now = self._nesting(), self._clock()
        if nesting:
            with self._lock:
                self.seconds[nesting[-1]] += now - self._threads.since
        self._threads.since = now


_running: list[Stopwatch] = []
"""At most one, for all threads of the process."""


@contextmanager
def recording(stopwatch: Stopwatch) -> Iterator[None]:
    """While the block runs, the stopwatch takes the time of all marked functions."""
    _running.append(stopwatch)
    try:
        yield
    finally:
        _running.pop()


def timed(part: str, *, settles: bool = False) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Marks a function as a part of a run; `settles`: it works on the device of the network."""

    def marked(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            if not _running:
                return function(*args, **kwargs)
            with _running[-1].part(part, settles=settles):
                return function(*args, **kwargs)

        return call

    return marked


def timed_items(part: str) -> Callable[[Callable[P, Iterator[R]]], Callable[P, Iterator[R]]]:
    """Marks a function that returns an iterator, of which waiting for each item is a part of a run."""

    def marked(function: Callable[P, Iterator[R]]) -> Callable[P, Iterator[R]]:
        advance: Callable[..., Any] = timed(part)(_next)

        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> Iterator[R]:
            items = timed(part)(function)(*args, **kwargs)
            while (item := advance(items)) is not _END:
                yield item

        return call

    return marked


_END = object()


def _next(items: Iterator[Any]) -> Any:
    return next(items, _END)
