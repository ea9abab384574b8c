"""`st4rtrack run`: a video to a scene folder with a picture."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from st4rtrack.cli.groups import FrameOptions, KnownOptions, SceneOptions

if TYPE_CHECKING:
    import numpy as np

    from st4rtrack.types import Scene


def run(
    video: tyro.conf.Positional[str],
    /,
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
    scene: SceneOptions = SceneOptions(),
    frames: FrameOptions = FrameOptions(),
    device: str = "auto",
    queries: Path | None = None,
    known: KnownOptions = KnownOptions(),
    overwrite: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    require_reliable: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
) -> None:
    """Track and reconstruct a video: pointmaps, cameras and visibility of every frame, in the anchor's camera frame.

    Args:
        video: Video file, folder of images, glob of images (in quotes), or an .npz / .zarr with frames.
        output: Scene folder. Default: NAME_st4rtrack in the current folder. An unfinished one is continued.
        scene, frames, known: see `groups`.
        device: auto, cpu, cuda, cuda:1, mps.
        queries: CSV or npz with u,v[,frame] in source pixels, frame counting those processed (default: the anchor's): writes
            tracks.csv and tracks.npz.
        overwrite: Replace a scene that is there.
        require_reliable: Exit with code 3 if the quality report says that the scene is unreliable.
    """
    from st4rtrack.cli.progress import Progress, log_to_stderr
    from st4rtrack.cli.quality import UNRELIABLE, print_quality
    from st4rtrack.cli.voice import say
    from st4rtrack.cli.voice import wrote as say_wrote
    from st4rtrack.io.formats.units import lengths
    from st4rtrack.io.queries import read_queries, require_inside
    from st4rtrack.io.scene.space import require_space
    from st4rtrack.io.video import open_video

    log_to_stderr()
    wanted = scene.checked()
    opened = open_video(video, **frames.selection())
    query_px = None if queries is None else read_queries(queries)
    if query_px is not None:
        require_inside(query_px, opened)
    folder = output or Path(f"{opened.name}_st4rtrack")

    from st4rtrack.model.checkpoint import load_model  # PyTorch comes only after the cheap mistakes
    from st4rtrack.pipeline.estimate import estimate_run
    from st4rtrack.pipeline.reconstruct import reconstruct
    from st4rtrack.pipeline.repeatable import use_deterministic_algorithms

    if scene.deterministic:
        use_deterministic_algorithms()
    network = load_model(scene.model, device=device, dtype=scene.dtype)
    estimate = estimate_run(opened, network, size=wanted.size, points_dtype=scene.points, auto_anchors=wanted.anchor == "auto")
    say(str(estimate))
    require_space(folder, estimate.num_bytes)
    with Progress() as progress:
        made = reconstruct(
            opened,
            model=network,
            anchor=wanted.anchor,
            output=folder,
            size=wanted.size,
            batch_size=wanted.batch_size,
            points_dtype=scene.points,
            known=known.known(),
            depth_prior=scene.depth_prior.replace("{name}", opened.name),
            refine=scene.refine,
            overwrite=overwrite,
            progress=progress,
        )
    if progress.done == 0:
        say(f"{folder} is already complete; use --overwrite to make it again")
    wrote = _write_results(made, folder, query_px, wanted.formats)
    say_wrote(folder / "scene.zarr", *wrote)
    reliable = print_quality(made)
    say(f"look at {folder / 'overview.png'}; for other tools: st4rtrack export {folder} ply")
    say(lengths(made.info))
    if require_reliable and not reliable:
        sys.exit(UNRELIABLE)


def _write_results(scene: "Scene", folder: Path, query_px: "np.ndarray | None", formats: Sequence[str]) -> list[Path]:
    """What a run leaves beside the arrays: the picture, tracks of query points, exports."""
    from st4rtrack.formats import FORMATS
    from st4rtrack.formats import export as write_export
    from st4rtrack.io.queries import write_tracks
    from st4rtrack.render.overview import write_overview

    wrote = [write_overview(scene, folder / "overview.png")]
    if query_px is not None:
        wrote += write_tracks(scene, query_px, folder)
    exports = [(name, folder / f"scene{FORMATS[name].endings[0]}") for name in formats]
    return wrote + [write_export(scene, path, format=name, overwrite=True) for name, path in exports]
