"""Selection of the device and floating-point type of the network."""

import os
import platform
from pathlib import Path

import torch

from st4rtrack.types import UserError


def choose_device(name: str) -> torch.device:
    """Return a device by name, or the fastest one for "auto".

    Raises:
        UserError: the device is not available.
    """
    if name == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        available = [
            each for each, there in (("cuda", torch.cuda.is_available()), ("mps", torch.backends.mps.is_available())) if there
        ]
        raise UserError(f"device {name!r} is not available here; use {', '.join(['auto', 'cpu', *available])}") from None
    return device


def choose_dtype(name: str, device: torch.device) -> torch.dtype:
    """Return a floating-point type by name; "auto" is bfloat16 if the device has matrix units for it.

    Raises:
        UserError: not one of auto, float32, bfloat16.
    """
    if name == "auto":
        return torch.bfloat16 if _fast_bfloat16(device) else torch.float32
    if name not in ("float32", "bfloat16"):
        raise UserError(f"dtype must be one of auto, float32, bfloat16, got {name!r}")
    return getattr(torch, name)


def use_deterministic_algorithms() -> None:
    """Select deterministic kernels in this process, also on a GPU, where they are slower.

    Must be called before the first computation on a GPU, because cuBLAS reads its workspace setting only once. Operations without
    a deterministic kernel raise `RuntimeError`.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.benchmark = False
    torch.use_deterministic_algorithms(True)


def processor() -> str:
    """Model name of the CPU."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        if names:
            return names[0]
    return platform.processor() or platform.machine()


def _fast_bfloat16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        if hasattr(torch.cpu, "get_capabilities"):
            return any(torch.cpu.get_capabilities().get(unit) for unit in ("amx_bf16", "avx512_bf16"))
        checks = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")  # API of older releases
        return any(getattr(torch.cpu, check, bool)() for check in checks)
    return False
