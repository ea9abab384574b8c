"""`st4rtrack train`: train a network from a preset."""

from pathlib import Path
from typing import Annotated

import tyro

from st4rtrack.options import PresetChanges, RunConfig


def train(
    preset: tyro.conf.Positional[str],
    /,
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], metavar="DIR")] = None,
    init: Annotated[str, tyro.conf.arg(metavar="MODEL")] = "",
    data: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME=DIR...")] = (),
    training: PresetChanges = PresetChanges(),
    execution: RunConfig = RunConfig(),
    threads: int = 0,
    change_options: bool = False,
) -> None:
    """Train a network; the same command resumes. Multi-GPU and multi-node through torchrun.

    Args:
        preset: Preset (docs/training.md): large-{seq,pair}[-reweight], large-procedural, tiny, mono, match or overfit.
        output: Folder of the run, with model.safetensors. Default: runs/PRESET.
        init: Initial weights: name (st4rtrack models), checkpoint, random, or (mono) imagenet.
        data: Folders NAME=DIR: point_odyssey, dynamic_replica, kubric; mono, match: procedural, world; mono: pictures, multiview.
        threads: Threads of PyTorch and OpenCV; 0: their default.
        change_options: Resume a run with other options than it was started with.
    """
    import cv2
    import torch

    from st4rtrack.options import positive_int
    from st4rtrack.train.parallel import process_group
    from st4rtrack.train.presets import with_options
    from st4rtrack.train.start import find_preset, parse_folders, run_preset

    for name in ("steps", "batch_size", "micro_batch", "validate_every", "save_every", "skip_limit"):
        value = getattr(training, name, getattr(execution, name, None))
        if value is not None:
            positive_int(value, f"--{name.replace('_', '-')}")
    chosen = with_options(find_preset(preset), **vars(training))
    folders, output = parse_folders(data), output or Path("runs") / preset
    if threads > 0:
        torch.set_num_threads(threads)
        cv2.setNumThreads(threads)
    with process_group(execution.device) as processes:
        score = run_preset(
            chosen, execution, output=output, processes=processes, init=init, folders=folders, change_options=change_options
        )
        if processes.first:
            _say_what_is_there(output, score, pairs=preset not in ("mono", "match"))


def _say_what_is_there(output: Path, score: object, *, pairs: bool) -> None:
    from st4rtrack.cli.reporter import answer, say, wrote

    answer(f"this model: {score}")
    wrote(output / "model.safetensors")
    if pairs:
        say(f"use it with: st4rtrack run VIDEO --model {output / 'model.safetensors'}")
