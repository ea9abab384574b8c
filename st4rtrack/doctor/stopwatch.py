"""Seconds per part of a program, taken from outside: nothing that is timed knows of it."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any


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

    def timed(self, function: Callable[..., Any], name: str, *, settles: bool = False) -> Callable[..., Any]:
        """A function whose calls are a part."""

        @wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.part(name, settles=settles):
                return function(*args, **kwargs)

        return timed

    def timed_items(self, function: Callable[..., Iterator[Any]], name: str) -> Callable[..., Iterator[Any]]:
        """A function that gives an iterator, of which waiting for each item is a part."""

        def timed(*args: Any, **kwargs: Any) -> Iterator[Any]:
            with self.part(name):
                items = iter(function(*args, **kwargs))
            while True:
                with self.part(name):
                    try:
                        item = next(items)
                    except StopIteration:
                        return
                yield item

        return timed

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
