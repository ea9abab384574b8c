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
    """GPU that PyTorch can compute on.

    Attributes:
        name: name given by the manufacturer.
        memory_bytes, free_bytes: total memory, and memory that is free now.
        capability: CUDA capability such as "9.0"; "" for other devices.
        usable: whether this build of PyTorch has kernels for it.
    """

    name: str
    memory_bytes: int
    free_bytes: int
    capability: str = ""
    usable: bool = True


def cores() -> int:
    """Number of cores available to this process: less than the machine's with CPU affinity or a container quota."""
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _control_group("cpu.max").split()
    if len(quota) == 2 and quota[0].isdigit():
        bound = min(bound, max(1, int(quota[0]) // int(quota[1])))
    return bound


def vector_units() -> list[str]:
    """Vector and matrix units of the processor, among `VECTOR_UNITS`."""
    if not hasattr(torch.cpu, "get_capabilities"):  # PyTorch before 2.9
        return [torch.backends.cpu.get_cpu_capability().lower()]
    here = torch.cpu.get_capabilities()
    return [unit for unit in VECTOR_UNITS if here.get(unit)]


def memory_bytes() -> tuple[int, int]:
    """Total and free memory in bytes, of the machine or of the container."""
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 0
    free, info = total, Path("/proc/meminfo")
    if info.exists():
        entries = dict(line.split(":", 1) for line in info.read_text().splitlines())
        free = int(entries["MemAvailable"].split()[0]) * 1024
    limit, used = _control_group("memory.max"), _control_group("memory.current")
    if limit.isdigit() and used.isdigit() and int(limit) < total:
        total, free = int(limit), min(free, int(limit) - int(used))
    return total, free


def process_bytes() -> int:
    """Resident memory of this process in bytes, mostly the libraries' at this point; 0 if unknown."""
    status = Path("/proc/self/status")
    if not status.exists():
        return 0
    return next(int(line.split()[1]) * 1024 for line in status.read_text().splitlines() if line.startswith("VmRSS"))


def disk_bytes(folder: Path) -> int:
    """Free bytes on the disk of a folder."""
    return shutil.disk_usage(folder).free


def gpus() -> list[Gpu]:
    """GPUs that PyTorch detects."""
    found = []
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            free, total = torch.cuda.mem_get_info(index)
            usable = _has_kernels(properties.major, properties.minor)
            found.append(Gpu(properties.name, total, free, f"{properties.major}.{properties.minor}", usable))
    elif torch.backends.mps.is_available():
        limit = torch.mps.recommended_max_memory()
        found.append(Gpu("Apple GPU (MPS)", limit, limit - torch.mps.driver_allocated_memory()))
    return found


def unused_nvidia_gpu() -> bool:
    """Whether there is an NVIDIA GPU that this PyTorch cannot use."""
    return not torch.cuda.is_available() and (any(Path("/dev").glob("nvidia[0-9]*")) or shutil.which("nvidia-smi") is not None)


def nvidia_driver() -> str:
    """Version of the NVIDIA driver; "" if unknown."""
    told = Path("/proc/driver/nvidia/version")
    words = told.read_text().split() if told.exists() else []
    return next((word for word in words if word[0].isdigit() and "." in word), "")


def pytorch_build() -> str:
    """Version of PyTorch, its target (CUDA, CPU, ...) and threads."""
    if torch.version.cuda:
        target = f"CUDA {torch.version.cuda}"
    elif getattr(torch.version, "hip", None):
        target = f"ROCm {torch.version.hip}"
    else:
        target = "CPU and MPS" if platform.system() == "Darwin" else "CPU only"
    return f"{torch.__version__} ({target}), {torch.get_num_threads()} threads"


def machine_line() -> str:
    """Describe processor, threads, GPU and PyTorch in one line: timings of different machines are not comparable."""
    device = ", ".join(gpu.name for gpu in gpus()) or "no GPU"
    return f"{processor()} ({', '.join(vector_units())}), {device}, PyTorch {pytorch_build()}"


def _has_kernels(major: int, minor: int) -> bool:
    """Whether the build has kernels for a capability: binaries of the same major and no newer minor version, or older PTX."""
    for target in torch.cuda.get_arch_list():
        kind, _, number = target.partition("_")
        digits = "".join(c for c in number if c.isdigit())
        built = (int(digits[:-1]), int(digits[-1]))
        if (kind == "compute" and built <= (major, minor)) or (built[0] == major and built[1] <= minor):
            return True
    return not torch.cuda.get_arch_list() or bool(getattr(torch.version, "hip", None))


def _control_group(name: str) -> str:
    path = Path("/sys/fs/cgroup") / name
    try:
        return path.read_text().strip()
    except OSError:
        return ""


FEW_FILES = 256
"""Fewer open files than this are too few: a lazily read scene, a pool of pairs and workers hold about a hundred files open."""
LITTLE_SHARED_BYTES = GIB // 8
"""Less shared memory than this is too little: containers get 64 MiB by default, which a few training batches fill."""


@dataclass(frozen=True)
class Place:
    """Folder that st4rtrack writes to.

    Attributes:
        name: its purpose.
        folder: its path; it may not exist yet.
        fix: how to move it.
    """

    name: str
    folder: Path
    fix: str

    @property
    def writable(self) -> bool:
        """Whether the folder or its nearest existing parent is writable; a read-only mount is not."""
        there = next((folder for folder in (self.folder, *self.folder.parents) if folder.exists()), Path("/"))
        return there.is_dir() and os.access(there, os.W_OK)

    @property
    def free_bytes(self) -> int:
        """Free bytes on its disk."""
        return disk_bytes(next(folder for folder in (self.folder, *self.folder.parents) if folder.is_dir()))


def temporary_place() -> Place:
    """Folder for uploads of the viewer and the doctor's temporary files."""
    try:
        folder = Path(tempfile.gettempdir())
    except FileNotFoundError:  # no folder is writable
        folder = Path(os.environ.get("TMPDIR", "/tmp"))
    return Place("temporary files", folder, "set TMPDIR to a writable folder with free space")


def hub_place() -> Place:
    """Model cache folder of the Hugging Face hub library, by its own rules."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"))
    home = Path(os.environ.get("HF_HOME", cache / "huggingface"))
    folder = Path(os.path.expanduser(os.environ.get("HF_HUB_CACHE", home / "hub")))  # noqa: PTH111 (pathlib raises without a home)
    return Place("models of the hub", folder, "set HF_HOME to a writable folder with free space")


def open_files() -> int | None:
    """Maximum number of open files of this process; `None` if unknown."""
    try:
        import resource
    except ImportError:
        return None
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def shared_bytes(folder: Path = Path("/dev/shm")) -> int | None:
    """Total shared memory in bytes, which training workers use; `None` if unlimited."""
    if not folder.is_dir():
        return None
    found = os.statvfs(folder)
    return found.f_blocks * found.f_frsize


def lacks() -> Iterator[tuple[str, str]]:
    """Yield problems of these resources, each with its fix."""
    for place in (temporary_place(), hub_place()):
        if not place.writable:
            yield f"{place.folder} ({place.name}) is not writable", place.fix
        elif place.free_bytes < GIB:
            yield f"only {place.free_bytes / 2**20:.0f} MiB free in {place.folder} ({place.name})", place.fix
    files, shared = open_files(), shared_bytes()
    if files is not None and 0 <= files < FEW_FILES:
        yield f"this process is limited to {files} open files", "ulimit -n 1024"
    if shared is not None and shared < LITTLE_SHARED_BYTES:
        fix = "train with --workers 0, or start the container with --shm-size 1g"
        yield f"only {shared / 2**20:.0f} MiB of shared memory for training workers", fix
