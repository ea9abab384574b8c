"""Peak memory of a process; apart from `machine.py`, which imports PyTorch, as not all that is measured does."""

import resource
from pathlib import Path


def peak_mib() -> float:
    """Of this process's resident memory. Linux hands `ru_maxrss` on from the process that started this one; VmHWM it does not."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return next(int(line.split()[1]) / 1024 for line in status.read_text().splitlines() if line.startswith("VmHWM"))
