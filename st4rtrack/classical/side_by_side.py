"""Work on images side by side, on threads that stay.

OpenCV keeps about a kilobyte of every thread that ever called it: threads made for each frame would cost memory that grows with the video.
"""

import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TypeVar

import cv2

Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Results in the order of the items, on as many threads as OpenCV may use. The work itself must not call this."""
    most = cv2.getNumThreads()
    return [work(item) for item in items] if most <= 1 else list(_threads(most).map(work, items))


@cache
def _threads(most: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(most, thread_name_prefix="side by side")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_threads.cache_clear)  # the threads stay behind in the parent
