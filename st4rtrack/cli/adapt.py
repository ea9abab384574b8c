"""`st4rtrack adapt`: a model that suits the user's own video better, without labels."""

from pathlib import Path
from typing import Annotated, Literal

import tyro

from st4rtrack.cli.groups import FrameOptions

TERMS = ("trajectory", "depth", "alignment", "held")


def adapt(
    videos: tyro.conf.Positional[tuple[str, ...]],
    /,
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
    tracks: str = "flow",
    depth: str = "triangulation",
    intrinsics: str | None = None,
    cameras: str | None = None,
    steps: int = 500,
    loss: Literal["auto", "relative", "paper", "released"] = "auto",
    without: str = "",
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
    scenes: Literal["first", "all", "none"] = "first",
    overwrite: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
) -> None:
    """Adapt a model to a video, or one model to several videos of a kind, from reprojection alone. docs/adaptation.md says how.

    Args:
        videos: As of `run`. One: the model for this video; several: one model for them and others like them.
        output: Checkpoint, what --model takes. Default: NAME_adapted.safetensors in the current folder. An unfinished one is continued.
        tracks: Teacher of 2D tracks: flow (built in), or another of docs/adaptation.md.
        depth: Teacher of depth: triangulation (built in), or what --depth-prior of `run` takes: builtin, none, a model, depth maps.
        intrinsics: Known intrinsics, as of `run`; {name} in a path is the name of the video. They are not estimated then.
        cameras: Known cameras, likewise.
        steps: Optimiser steps at most; fewer when held-out tracks no longer improve.
        loss: In shares of image and distance (relative), as the paper has it, or as the released scripts compute it; auto: by the model.
        without: Terms to leave out, separated by commas: trajectory, depth, alignment, held.
        freeze: What does not learn beside the encoder: the reconstruction branch, the same and its output held, or nothing more (encoder);
            auto: by the model.
        learning_rate: Its peak. Default: 5e-5 as in the paper, larger for the embedded model.
        batch_size: Frames per step, or auto: 24, or fewer where memory asks for it.
        patience: So many measurements in a row (one every 25 steps) without gain end it.
        frames: see `groups`.
        size: Long side in pixels at the network. Default: the model's own.
        model: The base: checkpoint file, model folder or hub id; "tiny" is the embedded model.
        device: auto, cpu, cuda, cuda:1, mps.
        seed: Of frames and points, and of what is held out.
        changes_only: Store only what changed; the base must then stay where it is.
        scenes: Write what the model makes of the first video before and after, of all videos, or of none.
        overwrite: Replace an output that is there; start again.
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
