"""Memory: what this machine can hold, asked before a file's own claims are believed, and what it gets back."""

import ctypes
import os
from collections.abc import Callable
from functools import cache

MAX_PIXELS = 1 << 27
"""Of one image or frame: four times 8K. Beyond, a header is broken or hostile."""


def free_bytes() -> int | None:
    """Memory that is free now; None where the system does not say."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") + _reclaimable()
    except (AttributeError, ValueError, OSError):
        return None


def give_back_freed() -> None:
    """Gives to the system what this process has freed and the C library still holds, where that knows how to (glibc).

    It keeps the freed blocks of each thread apart, and in a run of thousands of frames the gaps between them add up. A few milliseconds.
    """
    if trim := _malloc_trim():
        trim(0)


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    try:
        return getattr(ctypes.CDLL(None), "malloc_trim", None)
    except (OSError, TypeError):  # no C library of that kind
        return None


def _reclaimable() -> int:
    """Linux counts what files occupy as used, though it gives that back."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:  # noqa: PTH123 (a file of the system)
            return next((int(line.split()[1]) << 10 for line in file if line.startswith("Cached:")), 0)
    except OSError:
        return 0
