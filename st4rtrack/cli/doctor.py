"""`st4rtrack doctor`: diagnostics of this machine, models that fit, problems with fixes; benchmark of the pipeline stages."""

from typing import Literal

import tyro


def doctor(
    video: tyro.conf.Positional[str | None] = None,
    /,
    benchmark: bool = False,
    model: str = "tiny",
    size: int | None = None,
    device: str = "auto",
    dtype: Literal["auto", "float32", "bfloat16"] = "auto",
) -> None:
    """Check hardware, packages and the model that fits this machine; --benchmark: time of each stage.

    Args:
        video: Benchmark: video file, folder or glob of images. Default: a rendered clip of 16 frames.
        benchmark: Reconstruct, and print the time of each stage and the throughput of the network.
        model: Benchmark: name (st4rtrack models), checkpoint file, model folder or hub id.
        size: Long side at the network in pixels. Default: the model's own.
        device: Device: auto, cpu, cuda, cuda:1 or mps.
        dtype: Precision of the network; auto: bfloat16 where it is fast.
    """
    from st4rtrack.cli.reporter import answer
    from st4rtrack.options import positive_int
    from st4rtrack.types import UserError

    network_size = None if size is None else positive_int(size, "--size")
    if not benchmark and (video is not None or model != "tiny"):
        raise UserError("a video or --model needs --benchmark: st4rtrack doctor --benchmark VIDEO")

    if not benchmark:
        from st4rtrack.doctor.report import diagnose
        from st4rtrack.model.device import choose_device

        answer("\n".join(diagnose(choose_device(device), dtype, size=network_size).lines()))
        return
    from st4rtrack.doctor.benchmark import benchmark_lines
    from st4rtrack.model.checkpoint import load_model

    network = load_model(model, device=device, dtype=dtype)
    answer("\n".join(benchmark_lines(video, network, size=network_size)))
