"""Text report of `st4rtrack doctor`: hardware, packages, models that fit, and problems with their fixes."""

import os
import platform
from dataclasses import dataclass, field
from pathlib import Path

import torch

from st4rtrack import __version__
from st4rtrack.doctor import machine, packages
from st4rtrack.doctor.machine import GIB
from st4rtrack.io.scene.header import SceneHeader
from st4rtrack.io.scene.space import scene_bytes
from st4rtrack.model.checkpoint import load_model
from st4rtrack.model.config import EMBEDDED, LARGE, ModelConfig
from st4rtrack.model.device import processor
from st4rtrack.model.named import NAMED
from st4rtrack.model.precision_check import LIMIT, point_difference
from st4rtrack.model.traceable import weight_shapes
from st4rtrack.pipeline.pointmaps import automatic_batch_size

MODELS = {"tiny": (EMBEDDED, 293), "large": (LARGE, 1737)}
"""Models, and the peak size of their live float32 tensors in bytes per pixel of a batch; counted, independent of the size."""
LIBRARIES_BYTES = GIB // 2
"""Memory of PyTorch, OpenCV and the other libraries in a run, measured."""
PYTORCH_INSTALLATION = "https://pytorch.org/get-started/locally"


@dataclass
class Diagnosis:
    """Findings of the doctor.

    Attributes:
        sections: title, then lines of (name, value).
        problems: each problem with its fix.
    """

    sections: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    problems: list[tuple[str, str]] = field(default_factory=list)

    def add(self, section: str, **lines: str) -> None:
        """Add lines to a section, by their names."""
        self.sections.setdefault(section, []).extend((name.replace("_", " "), value) for name, value in lines.items())

    def add_problem(self, problem: str, fix: str) -> None:
        """Add a problem and its fix."""
        self.problems.append((problem, fix))

    def lines(self) -> list[str]:
        """The diagnosis as lines of text."""
        lines = []
        for title, entries in self.sections.items():
            lines += [title, *(f"  {name:<13}{value}" for name, value in entries), ""]
        lines += ["Missing" if self.problems else "Nothing is missing."]
        return [*lines, *(f"  {problem}\n    -> {fix}" for problem, fix in self.problems)]


def diagnose(device: torch.device, dtype: torch.dtype, *, size: int | None = None, folder: Path = Path()) -> Diagnosis:
    """Examine this machine: hardware, packages, models that fit, and problems.

    Args:
        device, dtype: device and computation type of a model.
        size: long side at the network. Default: each model's own.
        folder: output folder of scenes.
    """
    found = Diagnosis()
    _add_machine(found, folder)
    _add_gpus(found)
    _add_software(found)
    dtype = _checked_precision(found, device, dtype)
    for name in MODELS:
        _add_model(found, name, size, dtype, device, folder)
    remote = [name for name, model in NAMED.items() if model.hub_id]
    cached = ", ".join(name for name in remote if NAMED[name].cached) or "none"
    found.add(
        "Named models",
        available=f"{', '.join(remote)} (size of large)",
        downloaded=f"{cached}; sizes and licences: st4rtrack models",
    )
    return found


def size_of_16_to_9(config: ModelConfig, long_side: int | None) -> tuple[int, int]:
    """Network height and width of a 16:9 video, as cropped by the pipeline."""
    side, patch = long_side or config.image_size, config.patch_size
    return max(1, round(side * 9 / 16) // patch) * patch, max(1, side // patch) * patch


def _add_machine(found: Diagnosis, folder: Path) -> None:
    (total, free), disk = machine.memory_bytes(), machine.disk_bytes(folder)
    found.add(
        "This machine",
        system=f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        processor=f"{processor()}, {machine.cores()} cores for this process",
        vector_units=machine.vector_units() or "none of the relevant ones",
        memory=f"{_gib(free)} free of {_gib(total)}",
        disk=f"{_gib(disk)} free in {folder.resolve()}",
    )
    if not os.access(folder, os.W_OK):
        found.add_problem(f"{folder.resolve()} is not writable", "change to another folder, or pass an output folder with -o")
    elif disk < GIB:
        found.add_problem(
            f"only {_gib(disk)} of disk free in {folder.resolve()}", "write elsewhere with -o, or --dtype-points float16"
        )
    if free < GIB:
        found.add_problem(f"only {_gib(free)} of memory free", "close other programs, or use a smaller --size and --batch-size 1")
    found.problems += machine.resource_problems()


def _add_gpus(found: Diagnosis) -> None:
    gpus = machine.gpus()
    for gpu in gpus:
        capability = f", capability {gpu.capability}" if gpu.capability else ""
        found.add("This machine", GPU=f"{gpu.name}, {_gib(gpu.free_bytes)} free of {_gib(gpu.memory_bytes)}{capability}")
        if not gpu.usable:
            problem = f"this PyTorch has no kernels for {gpu.name} (capability {gpu.capability})"
            found.add_problem(problem, f"install another build of PyTorch: {PYTORCH_INSTALLATION}")
    if not gpus:
        found.add("This machine", GPU="none that PyTorch can use; computing on the processor")
    if machine.unused_nvidia_gpu():
        found.add_problem("PyTorch cannot use the NVIDIA GPU of this machine", _fix_of_unused_gpu())


def _fix_of_unused_gpu() -> str:
    """Fix for an unused NVIDIA GPU: a CUDA build of PyTorch, or a recent driver."""
    cuda, driver = torch.version.cuda, machine.nvidia_driver()
    if not cuda:
        return f"this PyTorch is a CPU build; install a CUDA build: {PYTORCH_INSTALLATION}"
    state = f"the driver is {driver}" if driver else "no driver was detected"
    fix = f"update the driver, or install a build for older CUDA: {PYTORCH_INSTALLATION}"
    return f"{state}, and this PyTorch is for CUDA {cuda}: {fix}"


def _add_software(found: Diagnosis) -> None:
    core, codecs = packages.packages_of(""), packages.codecs()
    found.add(
        "Software",
        st4rtrack=__version__,
        PyTorch=machine.pytorch_build(),
        packages=", ".join(f"{each.name} {each.version or '-'}" for each in core if each.name != "torch"),
        video=f"decodes {', '.join(name for name, present in codecs.items() if present)}",
        not_needed="ffmpeg and Chromium: PyAV brings its decoders, the viewer and pages open in any browser",
    )
    for package in core:
        if not package.fits:
            problem = f"{package.requirement} is required, installed: {package.version or 'none'}"
            found.add_problem(problem, f'pip install "{package.requirement}"')
    if absent := [name for name, present in codecs.items() if not present]:
        found.add_problem(
            f"PyAV does not decode {', '.join(absent)}", "pip install --upgrade --force-reinstall --only-binary av av"
        )
    for extra, purpose in packages.PURPOSES.items():
        required = packages.packages_of(extra)
        absent = [package.name for package in required if not package.fits]
        state = f"missing {', '.join(absent)}" if absent else "installed" if required else "unknown to this installation"
        fix = "" if state == "installed" else f'   -> pip install "st4rtrack[{extra}]"'
        found.add("Extras", **{extra: f"{purpose}: {state}{fix}"})


def _checked_precision(found: Diagnosis, device: torch.device, dtype: torch.dtype) -> torch.dtype:
    """Run the precision check of the embedded model, ignoring cached results; return the type that `load_model` would use."""
    if dtype == torch.float32:
        found.add("Models", precision="float32, nothing to check")
        return dtype
    name, difference = (
        str(dtype).removeprefix("torch."),
        point_difference(load_model(device="cpu", dtype="float32"), device, dtype),
    )
    agrees = difference <= LIMIT
    line = f"{name} points differ from float32 points by {difference:.2%} (median; limit {LIMIT:.0%})"
    found.add("Models", precision=f"{line}: {name if agrees else 'float32'} is used")
    if not agrees:
        found.add_problem(
            f"{name} gives wrong points on this machine", "none needed, float32 is used; a newer PyTorch may fix it"
        )
    return dtype if agrees else torch.float32


def _add_model(found: Diagnosis, name: str, size: int | None, dtype: torch.dtype, device: torch.device, folder: Path) -> None:
    """Add whether a model fits in memory: that of the device, and that of the host while float32 weights are converted."""
    config, activation_bytes_per_pixel = MODELS[name]
    height, width = size_of_16_to_9(config, size)
    batch = automatic_batch_size(config, device, height, width)
    parameters = sum(shape.numel() for shape in weight_shapes(config).values())
    weight_bytes, activation_bytes = parameters * dtype.itemsize, batch * height * width * activation_bytes_per_pixel
    on_cpu, run_bytes = device.type == "cpu", weight_bytes + activation_bytes
    loading_bytes = 4 * parameters + (weight_bytes if on_cpu and dtype != torch.float32 else 0)
    needed, memory = LIBRARIES_BYTES + max(loading_bytes, run_bytes if on_cpu else 0), "memory"
    free = machine.memory_bytes()[1]
    if not on_cpu and needed <= free:  # it can be loaded; then it runs elsewhere
        needed, memory, free = run_bytes, f"the memory of {device}", machine.gpus()[device.index or 0].free_bytes
    frame_bytes = scene_bytes(SceneHeader(1, height, width))
    lines = [
        f"{'fits' if needed <= free else 'does not fit'}: needs {_gib(needed)} of {_gib(free)} free in {memory}",
        f"{_gib(weight_bytes)} weights ({parameters / 1e6:.1f} M) + {_gib(activation_bytes)} activations, "
        f"{batch} frames of {width}x{height} at once",
        f"a scene takes about {frame_bytes / 2**20:.1f} MiB per frame: disk for {machine.disk_bytes(folder) // frame_bytes:,} frames",
    ]
    found.sections["Models"] += zip([name, "", ""], lines, strict=True)
    if needed > free:
        found.add_problem(f"{name} does not fit this machine", "a smaller --size or --batch-size 1, or another --device")


def _gib(count: int) -> str:
    return f"{count / GIB:.1f} GiB" if count >= GIB / 10 else f"{count / 2**20:.0f} MiB"
