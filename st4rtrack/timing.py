"""Timers of pipeline stages: functions are decorated with their stage; an active stopwatch sums up the time of each stage."""

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
    """Seconds spent in each stage, excluding nested stages. Each thread has its own nesting.

    Args:
        settle: called where a stage with `settles` begins or ends, so that GPU work is attributed to the stage that launched it.
        clock: current time in seconds.
    """

    def __init__(self, settle: Callable[[], object] | None = None, clock: Callable[[], float] = time.perf_counter) -> None:
        self.seconds: Counter[str] = Counter()
        self._settle, self._clock = settle, clock
        self._threads, self._lock = threading.local(), threading.Lock()
        self._begun: float | None = None

    @property
    def span_s(self) -> float:
        """Seconds since the first stage began."""
        return 0.0 if self._begun is None else self._clock() - self._begun

    @contextmanager
    def part(self, name: str, *, settles: bool = False) -> Iterator[None]:
        """Time a `with` block as a stage of this thread."""
        self._change(settles=settles)
        self._nesting().append(name)
        if self._begun is None:
            self._begun = self._threads.since
        try:
            yield
        finally:
            self._change(settles=settles)
            self._nesting().pop()

    def _nesting(self) -> list[str]:
        if not hasattr(self._threads, "nesting"):
            self._threads.nesting, self._threads.since = [], 0.0
        return self._threads.nesting

    def _change(self, *, settles: bool) -> None:
        """Add the time since the last change to the innermost stage of this thread."""
        if settles and self._settle:
            self._settle()
        nesting, now = self._nesting(), self._clock()
        if nesting:
            with self._lock:
                self.seconds[nesting[-1]] += now - self._threads.since
        self._threads.since = now


_running: list[Stopwatch] = []
"""The active stopwatch (at most one, shared by all threads of the process)."""


@contextmanager
def recording(stopwatch: Stopwatch) -> Iterator[None]:
    """Activate the stopwatch for all decorated functions while the block runs."""
    _running.append(stopwatch)
    try:
        yield
    finally:
        _running.pop()


def timed(part: str, *, settles: bool = False) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Decorate a function as a stage of a run; `settles`: the function works on the device of the network."""

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
    """Decorate a function that returns an iterator; waiting for each item counts as a stage of a run."""

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
