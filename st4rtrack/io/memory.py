"""What this machine can hold, asked before a file's own claims are believed."""

import os

MAX_PIXELS = 1 << 27
"""Of one image or frame: four times 8K. Beyond, a header is broken or hostile."""


def free_bytes() -> int | None:
    """Memory that is free now; None where the system does not say."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") + _reclaimable()
    except (AttributeError, ValueError, OSError):
        return None


def _reclaimable() -> int:
    """Linux counts what files occupy as used, though it gives that back."""
    try:
        with open("/proc/meminfo", encoding="ascii") as file:  # noqa: PTH123 (a file of the system)
            return next((int(line.split()[1]) << 10 for line in file if line.startswith("Cached:")), 0)
    except OSError:
        return 0
