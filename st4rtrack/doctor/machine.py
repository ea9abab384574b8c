"""Properties of this machine, as reported by the system; unknown ones are left out."""

import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from st4rtrack.model.device import processor

GIB = 2**30
VECTOR_UNITS = ("avx2", "avx512_f", "avx512_bf16", "amx_bf16", "neon", "sve", "bf16")
"""Relevant vector and matrix units, by their PyTorch names."""


@dataclass(frozen=True)
class Gpu:
    """GPU that PyTorch detects; `usable`: this build of PyTorch has kernels for it."""

    name: str
    memory_bytes: int
    free_bytes: int
    capability: str = ""
    usable: bool = True


def cores() -> int:
    """Number of cores available to this process: less than the machine's with CPU affinity or a container quota."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _text("/sys/fs/cgroup/cpu.max").split()
    if len(quota) == 2 and quota[0].isdigit():
        bound = min(bound, max(1, int(quota[0]) // int(quota[1])))
    return bound


def vector_units() -> str:
    """Vector and matrix units of the processor, among `VECTOR_UNITS`."""
    if not hasattr(torch.cpu, "get_capabilities"):  # PyTorch before 2.9
        return torch.backends.cpu.get_cpu_capability().lower()
    return ", ".join(unit for unit in VECTOR_UNITS if torch.cpu.get_capabilities().get(unit))


def memory_bytes() -> tuple[int, int]:
    """Total and free memory in bytes, of the machine or of the container."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0
    available = [line.split()[1] for line in _text("/proc/meminfo").splitlines() if line.startswith("MemAvailable")]
    free = int(available[0]) * 1024 if available else total
    limit, used = _text("/sys/fs/cgroup/memory.max"), _text("/sys/fs/cgroup/memory.current")
    if limit.isdigit() and used.isdigit() and int(limit) < total:
        total, free = int(limit), min(free, int(limit) - int(used))
    return total, free


def disk_bytes(folder: Path) -> int:
    """Free bytes on the disk of a folder."""
    return shutil.disk_usage(folder).free


def gpus() -> list[Gpu]:
    """GPUs that PyTorch detects."""
    if torch.backends.mps.is_available():
        limit = torch.mps.recommended_max_memory()
        return [Gpu("Apple GPU (MPS)", limit, limit - torch.mps.driver_allocated_memory())]
    found = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        free, total = torch.cuda.mem_get_info(index)
        found.append(Gpu(properties.name, total, free, f"{properties.major}.{properties.minor}", computes(f"cuda:{index}")))
    return found


def computes(device: str) -> bool:
    """Whether this build of PyTorch has kernels for a device."""
    try:
        return (torch.zeros(1, device=device) + 1).item() == 1
    except RuntimeError:
        return False


def unused_nvidia_gpu() -> bool:
    """Whether there is an NVIDIA GPU that this PyTorch cannot use."""
    return not torch.cuda.is_available() and (any(Path("/dev").glob("nvidia[0-9]*")) or shutil.which("nvidia-smi") is not None)


def pytorch_build() -> str:
    """Version of PyTorch, its target (CUDA, CPU, ...) and threads."""
    hip = getattr(torch.version, "hip", None)
    cpu = "CPU and MPS" if platform.system() == "Darwin" else "CPU only"
    target = f"CUDA {torch.version.cuda}" if torch.version.cuda else f"ROCm {hip}" if hip else cpu
    return f"{torch.__version__} ({target}), {torch.get_num_threads()} threads"


def machine_line() -> str:
    """Describe processor, threads, GPU and PyTorch in one line: timings of different machines are not comparable."""
    device = ", ".join(gpu.name for gpu in gpus()) or "no GPU"
    return f"{processor()} ({vector_units()}), {device}, PyTorch {pytorch_build()}"


def hub_folder() -> Path:
    """Model cache folder of the Hugging Face hub library, by its own rules."""
    home = Path(os.environ.get("HF_HOME", Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"), "huggingface")))
    return Path(os.path.expanduser(os.environ.get("HF_HUB_CACHE", home / "hub")))  # noqa: PTH111 (pathlib raises without a home)


def temporary_folder() -> Path:
    """Folder for uploads of the viewer and the doctor's temporary files."""
    try:
        return Path(tempfile.gettempdir())
    except FileNotFoundError:  # no folder is writable
        return Path(os.environ.get("TMPDIR", "/tmp"))


def resource_problems() -> Iterator[tuple[str, str]]:
    """Yield problems of cache folders, each with its fix."""
    places = {"temporary files": ("TMPDIR", temporary_folder()), "models of the hub": ("HF_HOME", hub_folder())}
    for purpose, (variable, folder) in places.items():
        fix = f"set {variable} to a writable folder with free space"
        existing = next(each for each in (folder, *folder.absolute().parents) if each.exists())
        if not (existing.is_dir() and os.access(existing, os.W_OK)):
            yield f"{folder} ({purpose}) is not writable", fix
        elif disk_bytes(existing) < GIB:
            yield f"only {disk_bytes(existing) / 2**20:.0f} MiB free in {folder} ({purpose})", fix


def _text(path: str) -> str:
    """Content of a file of the system; "" if it cannot be read."""
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
