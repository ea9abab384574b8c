"""`st4rtrack run`: a video to a scene folder with a picture."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

if TYPE_CHECKING:
    import numpy as np

    from st4rtrack.types import Scene


def run(
    video: tyro.conf.Positional[str],
    /,
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
    model: str = "tiny",
    anchor: str = "0",
    start: str | None = None,
    stop: str | None = None,
    stride: int = 1,
    fps: float | None = None,
    size: int | None = None,
    device: str = "auto",
    dtype: Literal["auto", "float32", "bfloat16"] = "auto",
    batch_size: str = "auto",
    points: Literal["float32", "float16"] = "float32",
    refine: bool = True,
    export: str = "",
    queries: Path | None = None,
    intrinsics: str | None = None,
    cameras: Path | None = None,
    depth: Path | None = None,
    depth_per_unit: float | None = None,
    static_mask: Path | None = None,
    metres_per_unit: float | None = None,
    known_distance: str | None = None,
    deterministic: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    overwrite: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
) -> None:
    """Track and reconstruct a video: pointmaps, cameras and visibility of every frame, in the anchor's camera frame.

    Args:
        video: Video file, folder of images, glob of images (in quotes), or an .npz / .zarr with frames.
        output: Scene folder. Default: NAME_st4rtrack in the current folder. An unfinished one is continued.
        model: Checkpoint file, model folder or hub id; "tiny" is the embedded model.
        anchor: The frame whose content is tracked and whose camera is the world: a number among the processed frames, or "middle";
            "auto" is the first frame, and tracks what comes into view later from further anchors.
        start: First frame: source frame number, or seconds as in 2.5s.
        stop: End, exclusive: source frame number, or seconds as in 7s.
        stride: Take every n-th frame, after --fps.
        fps: Drop frames to this rate. For a folder of images: its rate (default 30).
        size: Long side in pixels at the network. Default: the model's own.
        device: auto, cpu, cuda, cuda:1, mps.
        dtype: Type the network computes in; auto is bfloat16 where the hardware is fast at it.
        batch_size: Frames at once, or auto.
        points: Type of the stored points; float16 halves the folder.
        refine: Free tracks of the noise that their own trembling shows, with what comes before and after.
        export: Formats to write as well, separated by commas, as `st4rtrack export` knows them: ply,glb,colmap.
        queries: CSV or npz with u,v[,frame] in source pixels, frame counting those processed (default: the anchor's): writes
            tracks.csv and tracks.npz.
        intrinsics: Known intrinsics: fx or fx,fy or fx,fy,cx,cy in source pixels, or a file. docs/known.md has all of these.
        cameras: Known cameras: a COLMAP model folder, a TUM trajectory .txt, transforms.json, or an .npz of MegaSaM, ViPE and others.
        depth: Known z-depth, 0 where unknown: an .npz, or a folder of 16-bit PNG, TIFF, .npy or .npz.
        depth_per_unit: Numbers in such PNG per unit: 1000 for millimetres (default), 5000 for TUM, 256 for KITTI.
        static_mask: What does not move is white: an image, or a folder of an image per frame.
        metres_per_unit: Metres that a unit of the known cameras or depth is, or of the model's world where neither is given.
        known_distance: Two pixels of the anchor frame with a known distance, in place of that: u1,v1,u2,v2=metres.
        deterministic: The same bits from every run on this GPU too, by kernels that add in a fixed order. On a processor it is so anyway.
        overwrite: Replace a scene that is there.
    """
    from st4rtrack.cli.options import export_formats, positive_int, read_anchor
    from st4rtrack.cli.progress import Progress, log_to_stderr
    from st4rtrack.cli.voice import say
    from st4rtrack.cli.voice import wrote as say_wrote
    from st4rtrack.io.known.known import Known
    from st4rtrack.io.queries import read_queries
    from st4rtrack.io.video import open_video

    log_to_stderr()
    formats = export_formats(export)
    batch = None if batch_size == "auto" else positive_int(batch_size, "--batch-size")
    network_size = None if size is None else positive_int(size, "--size")
    wanted_anchor = read_anchor(anchor)
    opened = open_video(video, start=start, stop=stop, stride=stride, fps=fps)
    query_px = None if queries is None else read_queries(queries)
    known = Known(intrinsics, cameras, depth, depth_per_unit, static_mask, metres_per_unit, known_distance)
    folder = output or Path(f"{opened.name}_st4rtrack")

    from st4rtrack.model.checkpoint import load_model  # PyTorch comes only after the cheap mistakes
    from st4rtrack.pipeline.reconstruct import reconstruct
    from st4rtrack.pipeline.repeatable import use_deterministic_algorithms

    if deterministic:
        use_deterministic_algorithms()
    network = load_model(model, device=device, dtype=dtype)
    with Progress() as progress:
        scene = reconstruct(
            opened,
            model=network,
            anchor=wanted_anchor,
            output=folder,
            size=network_size,
            batch_size=batch,
            points_dtype=points,
            known=known,
            refine=refine,
            overwrite=overwrite,
            progress=progress,
        )
    if progress.done == 0:
        say(f"{folder} already holds this scene, complete; --overwrite makes it again")
    wrote = _write_results(scene, folder, query_px, formats)
    say_wrote(folder / "scene.zarr", *wrote)
    say(f"look at {folder / 'overview.png'}; for other tools: st4rtrack export {folder} ply")


def _write_results(scene: "Scene", folder: Path, query_px: "np.ndarray | None", formats: list[str]) -> list[Path]:
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
