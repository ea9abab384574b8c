"""Parallel image processing on persistent threads, and control of the BLAS threads.

OpenCV keeps about a kilobyte for every thread that ever called it: a new thread per frame would leak memory over a video.
"""

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import cache
from itertools import islice
from typing import TypeVar

import cv2
from threadpoolctl import ThreadpoolController

MOST_THREADS = 8
"""Thread limit, whatever the number of cores: each item in progress needs its own memory."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Map a function over items in parallel, in order, on OpenCV's number of threads, at most eight. Must not be nested."""
    return [work(item) for item in items] if _count() == 1 else list(_threads(_count()).map(work, items))


def stream_side_by_side(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`side_by_side` for a stream of items: as many at a time as there are threads."""
    remaining = iter(items)
    while group := list(islice(remaining, _count())):
        yield from side_by_side(work, group)


@contextmanager
def blas_on_one_thread() -> Iterator[None]:
    """Limit NumPy's matrix products to one thread; a context manager and decorator.

    OpenBLAS would spread thousands of points by a 3x3 matrix over all cores, gains nothing, and then busy-waits on cores that the
    network, optical flow and other parts of a run could use.
    """
    _one_blas_thread.begin()
    try:
        yield
    finally:
        _one_blas_thread.end()


class _OneBlasThread:
    """Process-wide BLAS limit, shared by runs in several threads: the last to end restores the original setting."""

    def __init__(self) -> None:
        self._lock, self._runs, self._limit = threading.Lock(), 0, ExitStack()

    def begin(self) -> None:
        with self._lock:
            if self._runs == 0:
                self._limit.enter_context(ThreadpoolController().select(internal_api="openblas").limit(limits=1))
            self._runs += 1

    def end(self) -> None:
        with self._lock:
            self._runs -= 1
            if self._runs == 0:
                self._limit.close()


_one_blas_thread = _OneBlasThread()


def _count() -> int:
    return min(max(cv2.getNumThreads(), 1), MOST_THREADS)


@cache
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="side by side")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_threads.cache_clear)  # a forked child has no threads of the pool
