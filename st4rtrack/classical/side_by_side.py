"""Work on images side by side, on threads that stay, and who else may have threads.

OpenCV keeps about a kilobyte of every thread that ever called it: threads made for each frame would cost memory that grows with the video.
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
"""However many cores there are: each item at work holds memory of its own."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Results in the order of the items, on as many threads as OpenCV may use, at most eight. The work itself must not call this."""
    return [work(item) for item in items] if _count() == 1 else list(_threads(_count()).map(work, items))


def stream_side_by_side(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """The same, of items that come one after the other: as many at a time as there are threads."""
    remaining = iter(items)
    while group := list(islice(remaining, _count())):
        yield from side_by_side(work, group)


@contextmanager
def blas_on_one_thread() -> Iterator[None]:
    """While it lasts, NumPy's products of matrices have one thread; around a function, while that runs.

    OpenBLAS would spread thousands of points by a 3x3 matrix over all cores, is no faster so, and then waits on them by spinning, where the
    network, optical flow and the other parts of a run could work.
    """
    _one_blas_thread.begin()
    try:
        yield
    finally:
        _one_blas_thread.end()


class _OneBlasThread:
    """Of the whole process, for any number of runs in its threads: the last to end puts back what was before the first."""

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
    os.register_at_fork(after_in_child=_threads.cache_clear)  # the threads stay behind in the parent
