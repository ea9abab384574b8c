"""Text report of `st4rtrack doctor`: hardware, packages, models that fit, and problems with their fixes."""

import os
import platform
from dataclasses import dataclass, field
from pathlib import Path

import torch

from st4rtrack import __version__
from st4rtrack.doctor import machine, packages
from st4rtrack.doctor.machine import GIB
from st4rtrack.io.installation import install_extra, pip_install
from st4rtrack.io.scene.folder import scene_bytes
from st4rtrack.io.scene.table import SceneHeader
from st4rtrack.model.checkpoint import chosen_dtype, load_model
from st4rtrack.model.config import EMBEDDED, LARGE, ModelConfig
from st4rtrack.model.device import processor
from st4rtrack.model.named import NAMED
from st4rtrack.model.network import network_of
from st4rtrack.model.precision_check import LIMIT, point_difference
from st4rtrack.pipeline.pointmaps import automatic_batch_size

MODELS = {"tiny": (EMBEDDED, 293), "st4rtrack": (LARGE, 1737)}
"""Named models (the others have the size of st4rtrack), and the peak size of their live float32 tensors in bytes per pixel of a batch;
counted, independent of the size."""
LIBRARIES_BYTES = GIB // 2
"""Memory of PyTorch, OpenCV and the other libraries in a run, measured."""
PYTORCH_INSTALLATION = "https://pytorch.org/get-started/locally"


@dataclass
class Diagnosis:
    """Findings of the doctor: per section, lines of (name, value); problems, each with its fix."""

    sections: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    problems: list[tuple[str, str]] = field(default_factory=list)

    def add(self, section: str, **lines: str) -> None:
        """Add lines to a section, by their names."""
        self.sections.setdefault(section, []).extend((name.replace("_", " "), value) for name, value in lines.items())

    def lines(self) -> list[str]:
        """The diagnosis as lines of text."""
        lines = []
        for title, entries in self.sections.items():
            lines += [title, *(f"  {name:<13}{value}" for name, value in entries), ""]
        lines += ["Problems" if self.problems else "No problems; extras are optional."]
        return [*lines, *(f"  {problem}\n    -> {fix}" for problem, fix in self.problems)]


@dataclass(frozen=True)
class MemoryNeed:
    """Memory that a run with a model needs, in bytes, computed from the shapes of its tensors.

    Attributes:
        parameters: number of weights.
        weights, activations: bytes of the weights in the precision of the network, and of the largest sum of live tensors.
        frames: description of the frames processed at once, and bytes of a frame in a scene.
        host: main memory: libraries, loading (float32 weights and their converted copy) and, on the CPU, the run.
        device: memory of the GPU; 0 on the CPU.
    """

    parameters: int
    weights: int
    activations: int
    frames: tuple[str, int]
    host: int
    device: int

    @classmethod
    def of(cls, name: str, device: torch.device, dtype: torch.dtype, size: int | None = None) -> "MemoryNeed":
        """Memory of a named model on a device; `size`: long side at the network."""
        config, activation_bytes_per_pixel = MODELS.get(name, MODELS["st4rtrack"])
        height, width = size_of_16_to_9(config, size)
        batch = automatic_batch_size(config, device, height, width)
        parameters = sum(value.numel() for value in network_of(config).state_dict().values())
        weights, activations = parameters * dtype.itemsize, batch * height * width * activation_bytes_per_pixel
        on_cpu = device.type == "cpu"
        loading = 4 * parameters + (weights if on_cpu and dtype != torch.float32 else 0)
        host = LIBRARIES_BYTES + max(loading, weights + activations if on_cpu else 0)
        frames = f"{batch} frames of {width}x{height} at once", scene_bytes(SceneHeader(1, height, width))
        return cls(parameters, weights, activations, frames, host, 0 if on_cpu else weights + activations)


def precision_of(name: str, dtype: str, device: torch.device) -> torch.dtype:
    """Precision in which `load_model` runs a named model, before its self-check."""
    return chosen_dtype(MODELS.get(name, MODELS["st4rtrack"])[0], dtype, device)


def diagnose(device: torch.device, dtype: str, *, size: int | None = None) -> Diagnosis:
    """Examine this machine: hardware, packages, models that fit, and problems.

    Args:
        device: device of a model.
        dtype: "auto", "float32" or "bfloat16".
        size: long side at the network. Default: each model's own.
    """
    found = Diagnosis()
    _add_machine(found)
    _add_gpus(found)
    _add_software(found)
    precisions = _checked_precisions(found, device, dtype)
    for name in MODELS:
        _add_model(found, name, size, precisions[name], device)
    remote = [name for name, model in NAMED.items() if model.hub_id]
    cached = ", ".join(name for name in remote if NAMED[name].cached) or "none"
    found.add(
        "Named models",
        available=f"{', '.join(remote)}: all of the size of st4rtrack",
        downloaded=f"{cached}; sizes and licences: st4rtrack models",
    )
    return found


def size_of_16_to_9(config: ModelConfig, long_side: int | None) -> tuple[int, int]:
    """Network height and width of a 16:9 video, as cropped by the pipeline."""
    side, patch = long_side or config.image_size, config.patch_size
    return max(1, round(side * 9 / 16) // patch) * patch, max(1, side // patch) * patch


def _add_machine(found: Diagnosis) -> None:
    folder = Path()
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
        found.problems.append(
            (f"{folder.resolve()} is not writable", "change to another folder, or pass an output folder with -o")
        )
    elif disk < GIB:
        problem = f"only {_gib(disk)} of disk free in {folder.resolve()}"
        found.problems.append((problem, "write elsewhere with -o, or --dtype-points float16"))
    if free < GIB:
        fix = "close other programs, or use a smaller --size and --batch-size 1"
        found.problems.append((f"only {_gib(free)} of memory free", fix))
    found.problems += machine.resource_problems()


def _add_gpus(found: Diagnosis) -> None:
    gpus = machine.gpus()
    for gpu in gpus:
        capability = f", capability {gpu.capability}" if gpu.capability else ""
        found.add("This machine", GPU=f"{gpu.name}, {_gib(gpu.free_bytes)} free of {_gib(gpu.memory_bytes)}{capability}")
        if not gpu.usable:
            problem = f"this PyTorch has no kernels for {gpu.name} (capability {gpu.capability})"
            found.problems.append((problem, f"install another build of PyTorch: {PYTORCH_INSTALLATION}"))
    if not gpus:
        found.add("This machine", GPU="none that PyTorch can use; computing on the processor")
    if machine.unused_nvidia_gpu():
        cuda = torch.version.cuda
        fix = f"update the driver, or install a build for older CUDA than {cuda}" if cuda else "install a CUDA build of PyTorch"
        found.problems.append(("PyTorch cannot use the NVIDIA GPU of this machine", f"{fix}: {PYTORCH_INSTALLATION}"))


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
            found.problems.append((problem, pip_install(str(package.requirement))))
    if absent := [name for name, present in codecs.items() if not present]:
        fix = f"{pip_install('av')} --upgrade --force-reinstall --only-binary av"
        found.problems.append((f"PyAV does not decode {', '.join(absent)}", fix))
    for extra, purpose in packages.PURPOSES.items():
        required = packages.packages_of(extra)
        absent = [package.name for package in required if not package.fits]
        state = f"missing {', '.join(absent)}" if absent else "installed" if required else "unknown to this installation"
        fix = "" if state == "installed" else f"   -> {install_extra(extra)}"
        found.add("Extras", **{extra: f"{purpose}: {state}{fix}"})


def _checked_precisions(found: Diagnosis, device: torch.device, dtype: str) -> dict[str, torch.dtype]:
    """Precision of each model; bfloat16 is checked with the embedded model, ignoring cached results."""
    precisions = {name: precision_of(name, dtype, device) for name in MODELS}
    if reduced := {name: each for name, each in precisions.items() if each != torch.float32}:
        difference = point_difference(load_model(device="cpu", dtype="float32"), device, torch.bfloat16)
        found.add("Models", check=f"bfloat16 points differ from float32 points by {difference:.2%} (median; limit {LIMIT:.0%})")
        if not difference <= LIMIT:  # true for NaN
            precisions |= dict.fromkeys(reduced, torch.float32)
            fix = "none needed, float32 is used; a newer PyTorch may fix it"
            found.problems.append(("bfloat16 gives wrong points on this machine", fix))
    return precisions


def _add_model(found: Diagnosis, name: str, size: int | None, dtype: torch.dtype, device: torch.device) -> None:
    """Add the precision of a model, and whether it fits in host memory and, if so, in device memory."""
    need = MemoryNeed.of(name, device, dtype, size)
    needed, memory, free = need.host, "memory", machine.memory_bytes()[1]
    if need.device and needed <= free:  # it can be loaded; then it runs elsewhere
        needed, memory, free = need.device, f"the memory of {device}", machine.gpus()[device.index or 0].free_bytes
    (batch, frame_bytes), disk = need.frames, machine.disk_bytes(Path())
    lines = [
        f"{'fits' if needed <= free else 'does not fit'}: needs {_gib(needed)} of {_gib(free)} free in {memory}",
        f"{_gib(need.weights)} weights ({need.parameters / 1e6:.1f} M, {str(dtype).removeprefix('torch.')}) + "
        f"{_gib(need.activations)} activations, {batch}",
        f"a scene takes about {frame_bytes / 2**20:.1f} MiB per frame: disk for {disk // frame_bytes:,} frames",
    ]
    found.sections.setdefault("Models", []).extend(zip([name, "", ""], lines, strict=True))
    if needed > free:
        fix = "a smaller --size or --batch-size 1, or another --device"
        found.problems.append((f"{name} does not fit this machine", fix))


def _gib(count: int) -> str:
    return f"{count / GIB:.1f} GiB" if count >= GIB / 10 else f"{count / 2**20:.0f} MiB"
