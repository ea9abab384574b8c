"""`st4rtrack adapt`: a model that suits the user's own video better, without labels."""

from pathlib import Path
from typing import Annotated, Literal

import tyro

from st4rtrack.cli.groups import FrameOptions

TERMS = ("trajectory", "depth", "alignment", "held")


def adapt(
    videos: tyro.conf.Positional[tuple[str, ...]],
    /,
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], metavar="FILE")] = None,
    tracks: Annotated[str, tyro.conf.arg(metavar="TEACHER")] = "flow",
    depth: Annotated[str, tyro.conf.arg(metavar="TEACHER")] = "triangulation",
    intrinsics: str | None = None,
    cameras: str | None = None,
    steps: int = 500,
    loss: Literal["auto", "relative", "paper", "released"] = "auto",
    without: Annotated[str, tyro.conf.arg(metavar="TERMS")] = "",
    freeze: Literal["auto", "reconstruction", "anchored", "encoder"] = "auto",
    learning_rate: float | None = None,
    batch_size: str = "auto",
    patience: int = 6,
    frames: FrameOptions = FrameOptions(),
    size: int | None = None,
    model: str = "tiny",
    device: str = "auto",
    seed: int = 0,
    changes_only: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    scenes: Annotated[Literal["first", "all", "none"], tyro.conf.arg(metavar="WHICH")] = "first",
    overwrite: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
) -> None:
    """Adapt a model to one video, or to several videos of a domain, without labels (docs/adaptation.md).

    Args:
        videos: Videos, as of `run`. One: instance adaptation; several: one model for the domain.
        output: Adapted checkpoint; an interrupted run is resumed. Default: NAME_adapted.safetensors.
        tracks: Teacher of 2D tracks: flow (built in), or another one of docs/adaptation.md.
        depth: Depth teacher: triangulation (built in), builtin, none, a depth model, or depth maps.
        intrinsics: Known intrinsics as of `run`, then not estimated; {name} in a path is the video.
        cameras: Known cameras as of `run`, then not estimated; {name} in a path is the video.
        steps: Maximum number of optimiser steps; early stopping on held-out tracks.
        loss: Relative error, as in the paper, or as in the released scripts; auto: by the model.
        without: Loss terms to leave out, separated by commas: trajectory, depth, alignment, held.
        freeze: Frozen parts beside the encoder; anchored also holds their output; auto: by the model.
        learning_rate: Peak learning rate. Default: 5e-5 (paper), larger for the embedded model.
        batch_size: Frames per step, or auto: 24, fewer where memory is short.
        patience: Early stopping: evaluations (one every 25 steps) without improvement.
        size: Long side at the network in pixels. Default: the model's own.
        model: Base model: checkpoint file, model folder or hub id; "tiny" is the embedded model.
        device: auto, cpu, cuda, cuda:1 or mps.
        seed: Random seed of the samples and of the held-out tracks.
        changes_only: Store only the changed weights; loading them needs the base model.
        scenes: Scenes to write before and after adaptation: of the first video, of all, or none.
        overwrite: Replace an existing output.
    """
    from st4rtrack.cli.options import names_among, positive_int
    from st4rtrack.cli.progress import Progress, log_to_stderr
    from st4rtrack.cli.voice import answer, say, wrote

    log_to_stderr()
    left_out = names_among(without, TERMS, "--without")
    frames_at_once = None if batch_size == "auto" else positive_int(batch_size, "--batch-size")
    network_size = None if size is None else positive_int(size, "--size")

    from st4rtrack.adapt import adapt_videos
    from st4rtrack.io.known.known import Known

    asked = {
        "steps": steps,
        "freeze": None if freeze == "auto" else freeze,
        "learning_rate": learning_rate,
        "patience": patience,
        "seed": seed,
    }
    with Progress("step") as progress:
        found = adapt_videos(
            videos,
            output=output,
            model=model,
            tracks=tracks,
            depth=depth,
            loss=loss,
            without=left_out,
            known=Known(intrinsics, cameras),
            config={name: value for name, value in asked.items() if value is not None},
            batch_size=frames_at_once,
            size=network_size,
            device=device,
            changes_only=changes_only,
            scenes=scenes,
            overwrite=overwrite,
            progress=progress,
            **frames.selection(),
        )
    wrote(found.checkpoint, found.report / "adaptation.json")
    say(f"look at {found.report / 'adaptation.png'}")
    answer(found.sentence)
