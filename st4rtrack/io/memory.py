"""Free memory of the machine (checked before allocating sizes that a file claims), and return of freed memory."""

import ctypes
import os
from collections.abc import Callable
from functools import cache

MAX_PIXELS = 1 << 27
"""Maximum pixels of one image or frame, four times 8K; larger sizes indicate a damaged or malicious header."""


def free_bytes() -> int | None:
    """Free memory in bytes; None if the operating system does not report it."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") + _reclaimable()
    except (AttributeError, ValueError, OSError):
        return None


def give_back_freed() -> None:
    """Return memory that this process freed to the operating system (glibc only, takes a few milliseconds).

    glibc keeps freed blocks per thread; their fragmentation adds up in a run of thousands of frames.
    """
    if trim := _malloc_trim():
        trim(0)


@cache
def _malloc_trim() -> Callable[[int], int] | None:
    try:
        return getattr(ctypes.CDLL(None), "malloc_trim", None)
    except (OSError, TypeError):  # not glibc
        return None


def _reclaimable() -> int:
    """Bytes of the page cache, which Linux counts as used but reclaims on demand; 0 on other systems."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:  # noqa: PTH123 (a file of the system)
            return next((int(line.split()[1]) << 10 for line in file if line.startswith("Cached:")), 0)
    except OSError:
        return 0
