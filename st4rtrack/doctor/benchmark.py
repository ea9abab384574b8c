"""Benchmark of a run: time of each stage, relative to the device's measured peak throughput."""

import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from st4rtrack.data.procedural import ProceduralConfig, procedural_clip
from st4rtrack.doctor.counting import StandIn
from st4rtrack.doctor.fit import predict_pairs
from st4rtrack.doctor.machine import machine_line
from st4rtrack.doctor.stages import NETWORK, timed_pipeline
from st4rtrack.io.video import open_video, write_video
from st4rtrack.model.network import St4RTrack
from st4rtrack.pipeline.pointmaps import automatic_batch_size
from st4rtrack.pipeline.reconstruct import reconstruct
from st4rtrack.timing import Stopwatch, timed_items
from st4rtrack.types import UserError

MATRIX_SIDE = {"cpu": 2048}
LARGE_MATRIX_SIDE = 8192
COPIED_BYTES = {"cpu": 2**27}
LARGE_COPIED_BYTES = 2**30


@dataclass(frozen=True)
class Peaks:
    """Measured peak throughput of a device.

    Attributes:
        flops_per_s: rate of a square matrix product (GEMM) in the chosen type.
        bytes_per_s: rate of a memory copy, read and written bytes together.
    """

    flops_per_s: float
    bytes_per_s: float


def measure_peaks(device: torch.device, dtype: torch.dtype, *, seconds: float = 0.5, scale: int = 1) -> Peaks:
    """Measure the peaks of a device: best of at least three repetitions within `seconds`; `scale` shrinks the sizes."""
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
    """Function that waits until a device has completed all submitted work."""
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


MEANINGS = {
    "decode": "frames of the video file",
    "resize": "frames to network size",
    "geometry": "optical flow, cameras and depth by OpenCV and PoseLib",
    "hints": "known geometry as input maps of the network",
    "encode": "network: images to tokens",
    "decoder": "network: both decoders",
    "heads": "network: tokens to maps",
    "points": "maps to points, copies to host memory",
    "solver": "cameras by global structure from motion",
    "prior": "monocular depth of each frame",
    "static_depth": "triangulation along optical flow, known cameras",
    "fusion": "depth prior with measured depth, dynamic pixels, tracks",
    "refinement": "consistency over time",
    "cameras": "focal length, a camera per frame",
    "visibility": "visibility of every tracked point",
    "motion": "dynamic points and pixels, after the last frame",
    "write": "writing the scene to disk",
    "rest": "waiting and other work",
}
"""Stages of a run, in data flow order. With a depth prior, geometry is fused and the network does not run; without one, no stage
of the fusion runs."""

CLIP_SEED, CLIP_FRAMES, CLIP_SIZE, CLIP_FPS = 23, 16, (288, 512), 12.0


@dataclass(frozen=True)
class Row:
    """Measurement of one stage of a run.

    Attributes:
        part: name of the stage, a key of `MEANINGS`.
        seconds: time spent in it.
        flops_per_s, bytes_per_s: rates of operations and of memory traffic; `None` outside the network.
    """

    part: str
    seconds: float
    flops_per_s: float | None = None
    bytes_per_s: float | None = None


@dataclass(frozen=True)
class Benchmark:
    """Measurement of a run.

    Attributes:
        machine: description of the machine in one line.
        subject: description of model, type, device and sizes.
        frames: number of frames of the video.
        seconds: duration of the whole run, without loading the model.
        peaks: peak throughput, measured before the run.
        rows: stages that took any time.
    """

    machine: str
    subject: str
    frames: int
    seconds: float
    peaks: Peaks
    rows: list[Row]


def run_benchmark(video: str | None, model: St4RTrack, *, size: int | None = None, folder: Path = Path()) -> Benchmark:
    """Reconstruct a video twice, the first time as warm-up, and measure the stages of the second run.

    Args:
        video: file, folder or glob; `None`: a rendered clip of 16 frames.
        model: the network.
        size: long side at the network in pixels.
        folder: parent of a temporary scene folder.
    Raises:
        UserError: the video cannot be read, or the folder is not writable.
    """
    try:
        scratch = tempfile.TemporaryDirectory(prefix=".st4rtrack_doctor_", dir=folder)
    except OSError as error:
        raise UserError(f"{folder.resolve()} is not writable: {error.strerror}; change to another folder") from None
    with scratch as below:
        path = video or str(render_clip(Path(below) / "clip.mp4"))
        reconstruct(path, model=model, size=size, stop=_warm_up_frames(path, model, size))
        peaks = measure_peaks(model.device, model.dtype)
        stopwatch = Stopwatch(settle=settler(model.device))
        with timed_pipeline(stopwatch, model) as given, stopwatch.part("rest"):
            with stopwatch.part("decode"):
                source = open_video(path)
            timed = replace(source, read=timed_items("decode")(source.read))
            scene = reconstruct(timed, model=model, size=size, output=Path(below) / "scene")
        seconds = stopwatch.span_s
        height, width = scene.rgb.shape[1:3]
        return Benchmark(
            machine=machine_line(),
            subject=f"{model.name} in {str(model.dtype).removeprefix('torch.')} on {model.device}, "
            f"{source.width}x{source.height} at {width}x{height}",
            frames=len(source),
            seconds=seconds,
            peaks=peaks,
            rows=_rows(stopwatch.seconds, given, model, height, width),
        )


def render_clip(path: Path) -> Path:
    """Render a short clip of a room with moving objects, as a video file."""
    config = ProceduralConfig(*CLIP_SIZE, CLIP_FRAMES, setting="room", camera="orbit", camera_motion=2.0, moving_share=0.7)
    write_video(path, iter(procedural_clip(CLIP_SEED, config).rgb), fps=CLIP_FPS)
    return path


def _warm_up_frames(path: str, model: St4RTrack, size: int | None) -> int:
    """Number of frames of one full batch for the warm-up: kernels are selected by input shape."""
    video = open_video(path)
    scale = (size or model.config.image_size) / max(video.height, video.width)
    return min(len(video), automatic_batch_size(model, round(video.height * scale), round(video.width * scale)))


def _rows(seconds: Counter[str], given: Counter[str], model: St4RTrack, height: int, width: int) -> list[Row]:
    device = model.device if model.device.type == "cuda" else torch.device("cpu")
    stand_in, batch = StandIn(model.config, model.dtype, device), automatic_batch_size(model, height, width)
    costs = stand_in.part_costs(lambda network: predict_pairs(network, batch, height, width, device))
    rows = []
    for part in MEANINGS:
        if part in NETWORK and seconds[part] > 0:
            rows.append(Row(part, seconds[part], *(given[part] * cost / seconds[part] for cost in costs[part])))
        elif seconds[part] > 0:
            rows.append(Row(part, seconds[part]))
    return rows
