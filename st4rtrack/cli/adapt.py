"""`st4rtrack adapt`: adapt a model to one video, or to several."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import tyro

from st4rtrack.options import AdaptOptions, FrameSelection, KnownGeometry

TERMS = ("trajectory", "depth", "alignment", "held", "pose")


def adapt(
    videos: tyro.conf.Positional[tuple[str, ...]],
    /,
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], metavar="FILE")] = None,
    model: str = "tiny",
    intrinsics: str | None = None,
    cameras: str | None = None,
    adaptation: AdaptOptions = AdaptOptions(),
    frames: FrameSelection = FrameSelection(),
    overwrite: bool = False,
) -> None:
    """Adapt a model to one video, or to several videos of a domain, without labels (docs/adaptation.md).

    Args:
        videos: Video files, folders or globs of images. One: instance adaptation; several: one model for the domain.
        output: Adapted checkpoint; an interrupted run is resumed. Default: NAME_adapted.safetensors.
        model: Base model: name (st4rtrack models), checkpoint file, model folder or hub id.
        intrinsics: Known intrinsics: fx[,fy[,cx,cy]] in source pixels, or a file; {name} in a path is the video.
        cameras: Known cameras: COLMAP folder, TUM trajectory, transforms.json or .npz; {name} in a path is the video.
        overwrite: Replace an existing output.
    """
    from st4rtrack.cli.options import checked, names_among
    from st4rtrack.cli.progress import Progress
    from st4rtrack.cli.reporter import answer, say, wrote

    options = replace(checked(adaptation), without=names_among(adaptation.without, TERMS, "--without"))

    from st4rtrack.adapt import adapt_videos

    with Progress("step") as progress:
        found = adapt_videos(
            videos,
            output=output,
            model=model,
            known=KnownGeometry(intrinsics, cameras),
            overwrite=overwrite,
            progress=progress,
            options=options,
            frames=frames,
        )
    wrote(found.checkpoint, found.report / "adaptation.json")
    say(f"look at {found.report / 'adaptation.png'}")
    answer(found.sentence)
