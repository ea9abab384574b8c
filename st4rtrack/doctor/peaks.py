"""The most that a device was seen to do: the rate of its matrix products, and of copies of its memory."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

MATRIX_SIDE = {"cpu": 2048}
LARGE_MATRIX_SIDE = 8192
COPIED_BYTES = {"cpu": 2**27}
LARGE_COPIED_BYTES = 2**30


@dataclass(frozen=True)
class Peaks:
    """Best rates that were seen.

    Attributes:
        flops_per_s: of the product of two square matrices in the type asked for.
        bytes_per_s: of a copy, what is read and what is written together.
    """

    flops_per_s: float
    bytes_per_s: float


def measure_peaks(device: torch.device, dtype: torch.dtype, *, seconds: float = 0.5, scale: int = 1) -> Peaks:
    """Peaks of a device, each the best of what fits into `seconds`, but at least of three; `scale` makes everything smaller."""
    side = MATRIX_SIDE.get(device.type, LARGE_MATRIX_SIDE) // scale
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    product = torch.empty_like(a)
    source = torch.ones(COPIED_BYTES.get(device.type, LARGE_COPIED_BYTES) // scale, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    settle = settler(device)
    return Peaks(
        2 * side**3 / _shortest(lambda: torch.mm(a, b, out=product), settle, seconds),
        2 * source.nbytes / _shortest(lambda: target.copy_(source), settle, seconds),
    )


def settler(device: torch.device) -> Callable[[], object]:
    """What waits until a device has done all that was begun."""
    waits = {"cuda": lambda: torch.cuda.synchronize(device), "mps": torch.mps.synchronize}
    return waits.get(device.type, lambda: None)


def _shortest(call: Callable[[], object], settle: Callable[[], object], seconds: float) -> float:
    call()
    settle()
    best, rounds, end = float("inf"), 0, time.perf_counter() + seconds
    while rounds < 3 or time.perf_counter() < end:
        start = time.perf_counter()
        call()
        settle()
        best, rounds = min(best, time.perf_counter() - start), rounds + 1
    return best
