"""Run tasks in order, in this process or in several processes."""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")

_state: Any = None


def each(
    run: Callable[[Any, TaskT], ResultT], tasks: Sequence[TaskT], workers: int, prepare: Callable[..., Any], arguments: tuple
) -> Iterator[ResultT]:
    """Yield results of `run(state, task)` in the order of the tasks; `state = prepare(*arguments)` is made once per process.

    The first error stops the iteration, after the running tasks have finished.
    """
    if not tasks:
        return
    if workers == 1 or len(tasks) == 1:
        state = prepare(*arguments)
        for task in tasks:
            yield run(state, task)
        return
    # spawned, not forked: a fork would copy the locks of PyTorch's and OpenCV's threads
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        min(workers, len(tasks)), mp_context=context, initializer=_start, initargs=(prepare, arguments)
    ) as pool:
        futures = [pool.submit(_run, run, task) for task in tasks]
        try:
            for future in futures:
                yield future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def share_cores(workers: int) -> None:
    """Limit this process to its share of the cores; call it before PyTorch is imported."""
    import cv2

    cores = max(1, (os.cpu_count() or 1) // workers)
    cv2.setNumThreads(cores)
    os.environ["OMP_NUM_THREADS"] = str(cores)


def _start(prepare: Callable[..., Any], arguments: tuple) -> None:
    global _state
    try:
        _state = prepare(*arguments)
    except Exception as error:  # raised with the first task: a pool does not report why its processes failed to start
        _state = error


def _run(run: Callable[[Any, Any], ResultT], task: Any) -> ResultT:
    if isinstance(_state, Exception):
        raise _state
    return run(_state, task)
