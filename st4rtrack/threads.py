"""Threads: prefetching, parallel image processing on persistent threads, and control of the BLAS threads.

OpenCV keeps about a kilobyte for every thread that ever called it: a new thread per frame would leak memory over a video.
"""

import os
import queue
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from contextvars import ContextVar
from functools import cache
from itertools import islice
from typing import Any, TypeVar, cast

import cv2
from threadpoolctl import ThreadpoolController

MAX_THREADS = 8
"""Thread limit, whatever the number of cores: each item in progress needs its own memory."""

Item = TypeVar("Item")
Result = TypeVar("Result")

THREAD = "prefetch"
_END = object()
_POLL_S = 0.1
"""Poll interval, in seconds, of a producer for cancellation."""


_started: ContextVar[list[Generator[Any, None, None]] | None] = ContextVar("started", default=None)


@contextmanager
def stop_workers_on_exit() -> Iterator[None]:
    """At the end of the block, stop all workers that `prefetch` started in it, last one first.

    Also after an error whose traceback still references their generators."""
    started: list[Generator[Any, None, None]] = []
    token = _started.set(started)
    try:
        yield
    finally:
        _started.reset(token)
        with ExitStack() as closing:  # close all, even if closing one raises
            for generator in started:
                closing.callback(generator.close)


def prefetch(items: Iterable[Item], max_queued: int, *, one_openmp_thread: bool = False) -> Generator[Item, None, None]:
    """Iterate over items produced by a worker thread, at most `max_queued` of them ahead of the consumer; the order is preserved.

    Exceptions of the worker are raised here, after the items before them. If the consumer stops early, so does the worker.

    Args:
        items: produced one after the other, by a single thread.
        max_queued: maximum number of queued items; bounds the memory.
        one_openmp_thread: see `use_one_openmp_thread`.
    """
    items_ahead = _prefetched(items, max_queued, one_openmp_thread)
    if (started := _started.get()) is not None:
        started.append(items_ahead)
    return items_ahead


def _prefetched(items: Iterable[Item], max_queued: int, one_openmp_thread: bool) -> Generator[Item, None, None]:
    waiting: queue.Queue[object] = queue.Queue(max_queued)
    cancelled = threading.Event()
    failed: list[BaseException] = []
    args = (items, waiting, cancelled, failed, one_openmp_thread)
    thread = threading.Thread(target=_produce, args=args, name=THREAD, daemon=True)
    thread.start()
    try:
        while (item := waiting.get()) is not _END:
            yield cast(Item, item)
    finally:
        cancelled.set()
        _join(thread)
    if failed:
        raise failed[0]


def _join(thread: threading.Thread) -> None:
    """Join a thread even if Ctrl-C is pressed meanwhile: its generators are closed next."""
    interrupt: KeyboardInterrupt | None = None
    while thread.is_alive():
        try:
            thread.join()
        except KeyboardInterrupt as error:
            interrupt = error
    if interrupt is not None:
        raise interrupt


def _produce(
    items: Iterable[object],
    waiting: "queue.Queue[object]",
    cancelled: threading.Event,
    failed: list[BaseException],
    one_openmp_thread: bool,
) -> None:
    try:
        if one_openmp_thread:
            use_one_openmp_thread()
        for item in items:
            if not _put(item, waiting, cancelled):
                break
    except BaseException as error:  # any exception is passed to the consumer
        failed.append(error)
    finally:
        close = getattr(items, "close", None)
        if close is not None:  # a nested generator may own a thread, too
            close()
        _put(_END, waiting, cancelled)


def _put(item: object, waiting: "queue.Queue[object]", cancelled: threading.Event) -> bool:
    while not cancelled.is_set():
        with suppress(queue.Full):
            waiting.put(item, timeout=_POLL_S)
            return True
    return False


def parallel_map(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Map a function over items in parallel, in order, on OpenCV's number of threads, at most eight. Must not be nested."""
    return [work(item) for item in items] if _count() == 1 else list(_threads(_count()).map(work, items))


def parallel_stream(work: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """`parallel_map` for a stream of items: as many at a time as there are threads."""
    remaining = iter(items)
    while group := list(islice(remaining, _count())):
        yield from parallel_map(work, group)


def use_one_openmp_thread() -> None:
    """Make PyTorch single-threaded in this thread: OpenMP threads that spin took thirty times as much processor time."""
    import torch  # lazy import: `--help` does not need it

    torch.get_num_threads()  # else PyTorch sets the number of this thread at its first operation
    ThreadpoolController().select(user_api="openmp").limit(limits=1)


@contextmanager
def single_threaded_blas() -> Iterator[None]:
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
    return min(max(cv2.getNumThreads(), 1), MAX_THREADS)


@cache
def _threads(count: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count, thread_name_prefix="parallel map", initializer=use_one_openmp_thread)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_threads.cache_clear)  # a forked child has no threads of the pool
