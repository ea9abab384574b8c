"""`st4rtrack run` and `demo`: reconstruct a video into a scene folder with an overview picture."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from st4rtrack.options import DeviceOptions, FrameSelection, KnownGeometry, ReconstructOptions, RunAdaptation

if TYPE_CHECKING:
    from st4rtrack.model.network import St4RTrack
    from st4rtrack.scene import Scene
    from st4rtrack.types import Video


@dataclass(frozen=True)
class ResultOptions:
    """Files and exit code."""

    export: str = ""
    """Formats to write as well, separated by commas: ply,glb,colmap."""
    overwrite: bool = False
    """Replace an existing scene."""
    require_reliable: bool = False
    """Exit with code 3 if the quality report calls a scene unreliable."""


def run(
    video: tyro.conf.Positional[str],
    /,
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], metavar="DIR")] = None,
    model: str = "tiny",
    scene: ReconstructOptions = ReconstructOptions(),
    frames: FrameSelection = FrameSelection(),
    device: DeviceOptions = DeviceOptions(),
    known: KnownGeometry = KnownGeometry(),
    queries: Path | None = None,
    adaptation: RunAdaptation = RunAdaptation(),
    results: ResultOptions = ResultOptions(),
) -> None:
    """Track and reconstruct a video: dense 3D tracks, pointmaps, visibility and cameras in one world frame.

    Args:
        video: Video file, folder of images, glob of images (in quotes), or .npz / .zarr with frames.
        output: Scene folder; an interrupted run is resumed. Default: NAME_st4rtrack.
        model: Name (st4rtrack models), checkpoint file, model folder or hub id.
        queries: CSV or npz with u,v[,frame] in source pixels; writes tracks.csv and tracks.npz.
    """
    from st4rtrack.cli.options import checked, export_formats
    from st4rtrack.io.queries import read_queries, write_tracks
    from st4rtrack.io.video import open_video

    options, formats = checked(scene), export_formats(results.export)
    _refuse_scene(video)
    opened = open_video(video, **vars(frames))
    query_px = None if queries is None else read_queries(queries, opened)
    folder = output or Path(f"{opened.name}_st4rtrack")

    from st4rtrack.model.checkpoint import load_model  # import PyTorch only after the cheap checks
    from st4rtrack.model.device import use_deterministic_algorithms

    if device.deterministic:
        use_deterministic_algorithms()
    network = load_model(model, device=device.device, dtype=device.dtype)
    if results.overwrite or not _is_complete(folder):
        _announce_cost(opened, network, options, folder, len(formats))
    before = _changed_at(folder)
    options = replace(options, depth_prior=options.depth_prior.replace("{name}", opened.name))
    arguments = {"model": network, "output": folder, "known": known, "overwrite": results.overwrite, "options": options}
    made = _adapted(opened, adaptation.adapt_minutes, arguments) if adaptation.adapt else _reconstructed(opened, arguments)
    changed = _changed_at(folder) != before
    files = [folder / "scene.zarr"] if changed else []
    files += write_beside(made, folder, changed, formats)
    files += [] if query_px is None else write_tracks(made, query_px, folder)
    _announce_scene(made, folder, files, formats, changed=changed, require_reliable=results.require_reliable)


def _reconstructed(video: "Video", arguments: dict[str, Any]) -> "Scene":
    from st4rtrack.cli.progress import Progress
    from st4rtrack.pipeline.reconstruct import reconstruct

    with Progress() as progress:
        return reconstruct(video, progress=progress, preparation=progress.preparation, **arguments)


def _adapted(video: "Video", minutes: float, arguments: dict[str, Any]) -> "Scene":
    """Reconstruct, adapt the network to the video, and report what improved."""
    from contextlib import ExitStack

    from st4rtrack.adapt.reconstruct import RESULT, reconstruct_adapted
    from st4rtrack.cli.progress import Progress
    from st4rtrack.cli.reporter import answer, say

    say(f"then the model is adapted to the video for at most {minutes:g} min, and if it improves, the scene is made again")
    with ExitStack() as stack:
        bars: list[Progress] = []

        def progress(done: int, total: int, unit: str) -> None:
            if not bars or bars[-1].unit != unit or done < bars[-1].done:  # base scene, steps, adapted scene
                stack.close()
                bars.append(stack.enter_context(Progress(unit)))
            bars[-1](done, total)

        scene = reconstruct_adapted(video, minutes=minutes, progress=progress, **arguments)
    answer(scene.info["results"][RESULT]["sentence"])
    return scene


def _refuse_scene(path: str) -> None:
    """Refuse a scene folder: reconstructing its frames again is hardly intended."""
    from st4rtrack.cli.process import command_line
    from st4rtrack.formats import SCENE_FILES
    from st4rtrack.types import UserError

    if all((Path(path) / name).exists() for name in SCENE_FILES):
        raise UserError(
            f"{path} is a scene, not a video; look at it with: {command_line('view', path)}; for other tools: "
            f"{command_line('export', path, 'FORMAT')}; to reconstruct its frames again: {command_line('run', Path(path) / 'scene.zarr')}"
        )


def _is_complete(folder: Path) -> bool:
    """Whether the folder has a complete scene."""
    from st4rtrack.io.scene.description import read_json
    from st4rtrack.types import UserError

    try:
        return read_json(folder).get("status") == "complete"
    except UserError:
        return False


def _announce_cost(video: "Video", model: "St4RTrack", options: ReconstructOptions, folder: Path, exports: int) -> None:
    """Print the estimated cost of a run, and refuse it if the disk is too small."""
    from st4rtrack.cli.reporter import say
    from st4rtrack.io.scene.folder import require_space
    from st4rtrack.pipeline.estimate import estimate_run

    estimate = estimate_run(video, model, options, exports)
    say(str(estimate))
    require_space(folder, estimate.num_bytes)


def _announce_scene(
    scene: "Scene", folder: Path, files: Sequence[Path], formats: Sequence[str], *, changed: bool, require_reliable: bool
) -> None:
    """Print written files, quality and next steps; exits with code 3 if the scene must be reliable and is not."""
    from st4rtrack.cli.process import command_line, viewing_command
    from st4rtrack.cli.reporter import UNRELIABLE, print_quality, reporter, say, wrote
    from st4rtrack.io.formats.common import lengths

    if not changed:
        reporter().event("already_complete", path=str(folder))
        say(f"{folder} is already complete; use --overwrite to make it again")
    if files:
        wrote(*files)
    reliable = print_quality(scene)
    say(f"look at {folder / 'overview.png'}")
    further = next(name for name in ("ply", "html", "colmap", "FORMAT") if name not in formats)
    say(f"in the browser: {viewing_command(folder)}; for other tools: {command_line('export', folder, further)}")
    say(lengths(scene.info))
    if require_reliable and not reliable:
        sys.exit(UNRELIABLE)


def _changed_at(folder: Path) -> int:
    """Modification time of a scene's description in nanoseconds; 0 if it is missing."""
    from st4rtrack.io.scene import SCENE_JSON

    path = folder / SCENE_JSON
    return path.stat().st_mtime_ns if path.exists() else 0


def write_beside(scene: "Scene", folder: Path, changed: bool, formats: Sequence[str]) -> list[Path]:
    """Write overview and exports of a scene: all if it has changed, else those that are missing or older than it."""
    from st4rtrack.formats import FORMATS
    from st4rtrack.formats import export as write_export
    from st4rtrack.io.scene import OVERVIEW
    from st4rtrack.render.overview import write_overview

    made_at = _changed_at(folder)

    def due(path: Path) -> bool:
        return changed or not path.exists() or path.stat().st_mtime_ns < made_at

    wrote = [write_overview(scene, folder / OVERVIEW)] if due(folder / OVERVIEW) else []
    exports = [(name, folder / f"scene{FORMATS[name].endings[0]}") for name in formats]
    return wrote + [write_export(scene, path, format=name, overwrite=True) for name, path in exports if due(path)]


def demo(
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="DIR")] = Path("demo_st4rtrack"),
    overwrite: bool = False,
) -> None:
    """Reconstruct a short clip that the package contains, with the embedded model: a first run after the installation.

    Args:
        output: Scene folder; an interrupted run is resumed.
        overwrite: Replace an existing scene.
    """
    from importlib.resources import as_file, files

    from st4rtrack.cli.process import command_line
    from st4rtrack.cli.reporter import say

    with as_file(files("st4rtrack").joinpath("data", "demo.mp4")) as clip:
        run(str(clip), output, results=ResultOptions(export="ply", overwrite=overwrite))
    say(f"with your own video: {command_line('run', 'VIDEO')}")
