"""Benchmark of a run: time of each stage, and network throughput relative to the measured peak of the device."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from st4rtrack.data.procedural import ProceduralConfig, procedural_clip
from st4rtrack.doctor.machine import machine_line
from st4rtrack.io.video import open_video, write_video
from st4rtrack.model.network import St4RTrack
from st4rtrack.pipeline.pointmaps import automatic_batch_size
from st4rtrack.pipeline.reconstruct import reconstruct
from st4rtrack.preprocess import normalize_images
from st4rtrack.timing import Stopwatch, recording, timed_items
from st4rtrack.types import UserError

STAGES = {
    "read": "frames of the video file",
    "resize": "frames to network size",
    "geometry": "optical flow, cameras and depth by OpenCV and PoseLib",
    "encoder": "network: images to tokens",
    "decoder": "network: tokens to pointmaps",
    "points": "images to the device, pointmaps to host memory",
    "solver": "cameras by global structure from motion",
    "prior": "monocular depth of each frame",
    "matching": "positions of dynamic points by their appearance",
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
NETWORK = ("encoder", "decoder")
SHARE_OF_A_LINE = 0.005
"""Stages that took a smaller share of the total time are left out of the table."""
CLIP_SEED, CLIP_FRAMES, CLIP_SIZE, CLIP_FPS = 23, 16, (288, 512), 12.0


def benchmark_lines(video: str | None, model: St4RTrack, *, size: int | None = None, folder: Path = Path()) -> list[str]:
    """Reconstruct a video twice, the first time as warm-up, and describe the time of the stages of the second run.

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
        source = open_video(video or render_clip(Path(below) / "clip.mp4"))
        scale = (size or model.config.image_size) / max(source.height, source.width)
        batch = automatic_batch_size(model.config, model.device, round(source.height * scale), round(source.width * scale))
        # kernels are selected by input shape: the warm-up is one full batch
        reconstruct(source, model=model, size=size, stop=min(len(source), batch))
        peak = gemm_flops_per_s(model.device, model.dtype)
        stopwatch = Stopwatch(settle=settler(model.device))
        with recording(stopwatch), stopwatch.part("rest"):
            timed = replace(source, read=timed_items("read")(source.read))
            scene = reconstruct(timed, model=model, size=size, output=Path(below) / "scene")
        total, seconds = stopwatch.span_s, stopwatch.seconds
        height, width = scene.rgb.shape[1:3]
        flops = flops_per_frame(model, scene.rgb[:1])
    rows = [(stage, seconds[stage]) for stage in STAGES if seconds[stage] >= SHARE_OF_A_LINE * total]
    lines = [
        machine_line(),
        f"{model.name} in {str(model.dtype).removeprefix('torch.')} on {model.device}, {source.width}x{source.height} at "
        f"{width}x{height}: {len(source)} frames in {total:.2f} s, {len(source) / total:.3g} per s",
        "",
        f"{'stage':<13}{'seconds':>8}{'share':>7}",
        *(f"{stage:<13}{spent:>8.3f}{spent / total:>7.0%}   {STAGES[stage]}" for stage, spent in rows),
    ]
    if busy := sum(seconds[stage] for stage in NETWORK):
        rate = flops * len(source) / busy
        lines += [
            "",
            f"network: {rate / 1e9:,.0f} GFLOP/s, {rate / peak:.0%} of the measured GEMM peak ({peak / 1e9:,.0f} GFLOP/s)",
        ]
    return lines


def render_clip(path: Path) -> Path:
    """Render a short clip of a room with moving objects, as a video file."""
    config = ProceduralConfig(*CLIP_SIZE, CLIP_FRAMES, setting="room", camera="orbit", camera_motion=2.0, moving_share=0.7)
    write_video(path, iter(procedural_clip(CLIP_SEED, config).rgb), fps=CLIP_FPS)
    return path


def flops_per_frame(model: St4RTrack, rgb: np.ndarray) -> int:
    """Count the operations of the network for a frame [1, height, width, 3] uint8; a multiply-add counts as two."""
    images = normalize_images(rgb).to(model.device)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        tokens = model.encode(images)
        model.decode(tokens, tokens, model.hints(images, images))
    return counter.get_total_flops()


def gemm_flops_per_s(device: torch.device, dtype: torch.dtype, *, seconds: float = 0.5, side: int | None = None) -> float:
    """Measure the peak throughput of a square matrix product: best of at least three repetitions within `seconds`."""
    side = side or (2048 if device.type == "cpu" else 8192)
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    product, settle = torch.mm(a, b), settler(device)
    best, rounds, end = float("inf"), 0, time.perf_counter() + seconds
    while rounds < 3 or time.perf_counter() < end:
        settle()
        start = time.perf_counter()
        torch.mm(a, b, out=product)
        settle()
        best, rounds = min(best, time.perf_counter() - start), rounds + 1
    return 2 * side**3 / best


def settler(device: torch.device) -> Callable[[], object]:
    """Function that waits until a device has completed all submitted work."""
    waits = {"cuda": lambda: torch.cuda.synchronize(device), "mps": torch.mps.synchronize}
    return waits.get(device.type, lambda: None)
