"""Text report of `st4rtrack doctor`: sections of lines, and problems with their fixes."""

import os
import platform
from dataclasses import dataclass, field
from pathlib import Path

import torch

from st4rtrack import __version__
from st4rtrack.doctor import machine, packages
from st4rtrack.doctor.benchmark import MEANINGS, Benchmark, Row
from st4rtrack.doctor.fit import SCENE_BYTES_PER_PIXEL, Need, memory_need, size_of_16_to_9
from st4rtrack.model.checkpoint import load_model
from st4rtrack.model.config import LARGE, MONOCULAR, ModelConfig
from st4rtrack.model.precision_check import LIMIT, point_difference

GIB = machine.GIB
LITTLE_DISK = LITTLE_MEMORY = GIB
MODELS: dict[str, ModelConfig] = {"tiny": MONOCULAR, "large": LARGE}
SHARE_OF_A_LINE = 0.005
"""Stages that took a smaller share of the total time are left out of the table."""


@dataclass
class Examination:
    """Findings of the doctor by section, and problems.

    Attributes:
        sections: title, then lines of (name, value).
        lacks: problems, each with its fix.
    """

    sections: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    lacks: list[tuple[str, str]] = field(default_factory=list)

    def say(self, section: str, name: str, value: str) -> None:
        """Add a line to a section."""
        self.sections.setdefault(section, []).append((name, value))

    def miss(self, what: str, fix: str) -> None:
        """Add a problem and its fix."""
        self.lacks.append((what, fix))


def examine(device: torch.device, dtype: torch.dtype, *, size: int | None = None, folder: Path = Path()) -> Examination:
    """Examine this machine: hardware, packages, models that fit, and problems.

    Args:
        device, dtype: device and computation type of a model.
        size: long side at the network. Default: each model's own.
        folder: output folder of scenes.
    """
    found = Examination()
    _examine_machine(found, folder)
    for what, fix in machine.lacks():
        found.miss(what, fix)
    _examine_gpus(found)
    _examine_packages(found)
    _examine_codecs(found)
    dtype = _examine_precision(found, device, dtype)
    for name, config in MODELS.items():
        need = memory_need(config, *size_of_16_to_9(config, size), dtype, device)
        _examine_need(found, name, need, device, folder)
    return found


def examination_lines(found: Examination) -> list[str]:
    """Format the examination as lines of text."""
    lines = []
    for title, entries in found.sections.items():
        lines += ["", title, *(f"  {name:<13}{value}" for name, value in entries)]
    lines += ["", "Missing" if found.lacks else "Nothing is missing."]
    for what, fix in found.lacks:
        lines += [f"  {what}", f"    -> {fix}"]
    return lines[1:]


def benchmark_lines(measured: Benchmark) -> list[str]:
    """Format the benchmark as lines of text: a table of its stages."""
    rows = [row for row in measured.rows if row.seconds >= SHARE_OF_A_LINE * measured.seconds]
    return [
        measured.machine,
        f"{measured.subject}: {measured.frames} frames in {measured.seconds:.2f} s, {measured.frames / measured.seconds:.3g} per s",
        f"measured peak: {_rate(measured.peaks.flops_per_s)} GFLOP/s in GEMM, "
        f"{_rate(measured.peaks.bytes_per_s)} GB/s in memory copies",
        "",
        f"{'part':<11}{'seconds':>8}{'share':>7}{'GFLOP/s':>9}{'of peak':>8}{'GB/s':>8}{'of peak':>8}",
        *(_row_line(row, measured) for row in rows),
    ]


def _row_line(row: Row, measured: Benchmark) -> str:
    line = f"{row.part:<11}{row.seconds:>8.3f}{row.seconds / measured.seconds:>7.0%}"
    rates = " " * 33
    if row.flops_per_s is not None and row.bytes_per_s is not None:
        rates = f"{_rate(row.flops_per_s):>9}{row.flops_per_s / measured.peaks.flops_per_s:>8.0%}"
        rates += f"{_rate(row.bytes_per_s):>8}{row.bytes_per_s / measured.peaks.bytes_per_s:>8.0%}"
    return f"{line}{rates}   {MEANINGS[row.part]}"


def _rate(per_s: float) -> str:
    """Format a rate in 1e9 per second, with three digits."""
    return f"{per_s / 1e9:,.0f}" if per_s >= 1e11 else f"{per_s / 1e9:.3g}"


def _examine_machine(found: Examination, folder: Path) -> None:
    total, free = machine.memory_bytes()
    disk = machine.disk_bytes(folder)
    section = "This machine"
    found.say(section, "system", f"{platform.system()} {platform.release()}, Python {platform.python_version()}")
    found.say(section, "processor", f"{machine.processor()}, {machine.cores()} cores for this process")
    found.say(section, "vector units", ", ".join(machine.vector_units()) or "none of the relevant ones")
    found.say(section, "memory", f"{_gib(free)} free of {_gib(total)}")
    found.say(section, "disk", f"{_gib(disk)} free in {folder.resolve()}")
    if not os.access(folder, os.W_OK):
        found.miss(f"{folder.resolve()} is not writable", "change to another folder, or pass an output folder with -o")
    elif disk < LITTLE_DISK:
        found.miss(f"only {_gib(disk)} of disk free in {folder.resolve()}", "write elsewhere with -o, or --dtype-points float16")
    if free < LITTLE_MEMORY:
        found.miss(f"only {_gib(free)} of memory free", "close other programs, or use a smaller --size and --batch-size 1")


def _examine_gpus(found: Examination) -> None:
    gpus = machine.gpus()
    for gpu in gpus:
        capability = f", capability {gpu.capability}" if gpu.capability else ""
        found.say("This machine", "GPU", f"{gpu.name}, {_gib(gpu.free_bytes)} free of {_gib(gpu.memory_bytes)}{capability}")
        if not gpu.usable:
            what = f"this PyTorch has no kernels for {gpu.name} (capability {gpu.capability})"
            found.miss(what, "install another build of PyTorch: https://pytorch.org/get-started/locally")
    if not gpus:
        found.say("This machine", "GPU", "none that PyTorch can use; computing on the processor")
    if machine.unused_nvidia_gpu():
        found.miss("PyTorch cannot use the NVIDIA GPU of this machine", _fix_of_gpu())


def _fix_of_gpu() -> str:
    """Fix for an unused NVIDIA GPU: a CUDA build of PyTorch, or a recent driver."""
    where = "https://pytorch.org/get-started/locally"
    if not torch.version.cuda:
        return f"this PyTorch is a CPU build; install a CUDA build: {where}"
    driver = machine.nvidia_driver()
    has = f"the driver is {driver}" if driver else "no driver was detected"
    return (
        f"{has}, and this PyTorch is for CUDA {torch.version.cuda}: update the driver, or install a build for older CUDA: {where}"
    )


def _examine_packages(found: Examination) -> None:
    section = "Software"
    core = packages.core_packages()
    found.say(section, "st4rtrack", __version__)
    found.say(section, "PyTorch", machine.pytorch_build())
    found.say(section, "packages", ", ".join(f"{p.name} {p.version or '-'}" for p in core if p.name != "torch"))
    for package in core:
        if not package.fits:
            what = f"{package.name}{package.wanted} is required, installed: {package.version or 'none'}"
            found.miss(what, f'pip install "{package.name}{package.wanted}"')
    for extra, wanted in packages.extras().items():
        absent = [package.name for package in wanted if not package.fits]
        state = f"missing {', '.join(absent)}" if absent else "here" if wanted else "unknown to this installation"
        fix = "" if state == "here" else f'   -> pip install "st4rtrack[{extra}]"'
        found.say("Extras", extra, f"{packages.PURPOSES[extra]}: {state}{fix}")


def _examine_codecs(found: Examination) -> None:
    known = packages.codecs()
    found.say("Software", "video", f"decodes {', '.join(name for name, here in known.items() if here)}")
    found.say("Software", "not needed", "ffmpeg and Chromium: PyAV brings its decoders, the viewer and pages open in any browser")
    absent = [name for name, here in known.items() if not here]
    if absent:
        found.miss(f"PyAV does not decode {', '.join(absent)}", "pip install --upgrade --force-reinstall --only-binary av av")


def _examine_precision(found: Examination, device: torch.device, dtype: torch.dtype) -> torch.dtype:
    """Run the precision check of the embedded model, ignoring cached results; return the type that `load_model` would use."""
    name = str(dtype).removeprefix("torch.")
    if dtype == torch.float32:
        found.say("Models", "precision", "float32, nothing to check")
        return dtype
    difference = point_difference(load_model(device="cpu", dtype="float32"), device, dtype)
    agrees = difference <= LIMIT
    line = f"{name} points differ from float32 points by {difference:.2%} (median; limit {LIMIT:.0%})"
    found.say("Models", "precision", f"{line}: {name if agrees else 'float32'} is used")
    if not agrees:
        found.miss(f"{name} gives wrong points on this machine", "none needed, float32 is used; a newer PyTorch may fix it")
    return dtype if agrees else torch.float32


def _examine_need(found: Examination, name: str, need: Need, device: torch.device, folder: Path) -> None:
    fits, room = _room(need, device)
    found.say("Models", name, f"{'fits' if fits else 'does not fit'}: {room}")
    parts = f"{_gib(need.weight_bytes)} weights ({need.parameters / 1e6:.1f} M) + {_gib(need.activation_bytes)} activations"
    found.say("Models", "", f"{parts}, {need.batch} frames of {need.width}x{need.height} at once")
    frame_bytes = SCENE_BYTES_PER_PIXEL * need.height * need.width
    frames = machine.disk_bytes(folder) // frame_bytes
    found.say(
        "Models", "", f"a scene takes {frame_bytes / 2**20:.1f} MiB per frame before compression: disk for {frames:,} frames"
    )
    if not fits:
        found.miss(f"{name} does not fit this machine", "a smaller --size or --batch-size 1, or another --device")


def _room(need: Need, device: torch.device) -> tuple[bool, str]:
    """Whether a network fits, and a description of the memory it needs."""
    _, free = machine.memory_bytes()
    wanted, where = need.host_bytes(machine.process_bytes()), "memory"
    if not need.on_processor and wanted <= free:  # it can be loaded; then it runs elsewhere
        wanted, where = need.device_bytes, f"the memory of {device}"
        free = machine.gpus()[device.index or 0].free_bytes
    return wanted <= free, f"needs {_gib(wanted)} of {_gib(free)} free in {where}"


def _gib(count: int) -> str:
    return f"{count / GIB:.1f} GiB" if count >= GIB / 10 else f"{count / 2**20:.0f} MiB"
