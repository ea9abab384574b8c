"""Run tasks in order, in this process or in several processes."""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

TaskT = TypeVar("TaskT")
ResultT = TypeVar("ResultT")


def each(run: Callable[[TaskT], ResultT], tasks: Sequence[TaskT], workers: int) -> Iterator[ResultT]:
    """Yield results of `run(task)` in the order of the tasks.

    The first error stops the iteration, after the running tasks have finished.
    """
    if workers == 1 or len(tasks) <= 1:
        yield from map(run, tasks)
        return
    # spawned, not forked: a fork would copy the locks of PyTorch's and OpenCV's threads
    with ProcessPoolExecutor(min(workers, len(tasks)), mp_context=multiprocessing.get_context("spawn")) as pool:
        futures = [pool.submit(run, task) for task in tasks]
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
