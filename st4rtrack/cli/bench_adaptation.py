"""`st4rtrack bench adaptation`: gain from adaptation on sequences with ground truth, and its ablation (paper Table 6)."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from st4rtrack.options import AdaptOptions, LearningOptions

if TYPE_CHECKING:
    from st4rtrack.io.worldtrack import WorldTrackSequence
    from st4rtrack.model.network import St4RTrack

ROWS = (
    "feed-forward",
    "instance",
    "domain",
    "without-trajectory",
    "without-depth",
    "without-alignment",
    "without-pretraining",
)
"""Rows as in the paper. All but the first two differ from "instance" as their name says; "domain" adapts one model per set."""

OPTIONS = "adaptation.json"
"""File in the table's folder with the options of the table."""


def adaptation(
    data: Path,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="DIR")],
    rows: str = ",".join(ROWS),
    model: str = "tiny",
    adaptations: LearningOptions = LearningOptions(),
    protocol: Literal["published", "corrected"] = "published",
    figure: Annotated[str, tyro.conf.arg(metavar="NAME")] = "",
) -> None:
    """Make the adaptation table: adapt in several ways, predict and score (paper Table 6). The same command resumes.

    `--tracks truth` and `--depth truth` use the ground truth as teacher.

    Args:
        data: Folder of WorldTrack .npz sequences; its sub-folders are the sets.
        output: Folder for models/, predictions/, scores/ (one file per row) and the report.
        rows: Rows of the table, separated by commas.
        model: Base model: name (st4rtrack models), checkpoint file, model folder or hub id.
        protocol: Protocol of the scores.
        figure: Draw figure_NAME.jpg of this sequence with the model of each row (paper Figure 5).
    """
    from st4rtrack.bench.protocol import protocol_named
    from st4rtrack.bench.report import write_report
    from st4rtrack.bench.score_files import score as score_folder
    from st4rtrack.cli.options import checked, names_among
    from st4rtrack.cli.progress import log_to_stderr
    from st4rtrack.cli.reporter import wrote
    from st4rtrack.io.worldtrack import find_worldtrack

    log_to_stderr()
    options = checked(adaptations)
    run = AdaptationRun(output, model, options)
    counted = protocol_named(protocol)
    learning = {name: getattr(options, name) for name in ("tracks", "depth", "loss", "batch_size")}
    stored = {**learning, "model": model, "config": options.config(), "data": str(data), "protocol": protocol}
    _require_same(output, {**stored, "output": None, "device": None})
    files = []
    chosen = names_among(rows, ROWS, "--rows")
    _require_known(figure, find_worldtrack(data))
    for row in chosen:
        for names in _together(row, find_worldtrack(data)):
            _predict(row, names, run, counted)
        files.append(output / "scores" / f"{row}.json")
        score_folder(data, output / "predictions" / row, files[-1], counted, name=row)
    for path in [*write_report(files, output), *([_write_figure(figure, chosen, data, run)] if figure else [])]:
        wrote(path)


def _require_known(figure: str, sequences: list[tuple[str, Path]]) -> None:
    from st4rtrack.types import UserError

    names = [name for name, _ in sequences]
    if figure and figure not in names:
        raise UserError(f"--figure must be one of the sequences {', '.join(names)}, got {figure}")


@dataclass(frozen=True)
class AdaptationRun:
    """Adaptation settings of all rows: options of the command."""

    output: Path
    model: str
    options: LearningOptions


def _write_figure(name: str, rows: list[str], data: Path, run: AdaptationRun) -> Path:
    """Write a picture of the scene of one sequence, reconstructed with the model of every row."""
    from st4rtrack.io.worldtrack import find_worldtrack, read_worldtrack
    from st4rtrack.pipeline.reconstruct import reconstruct
    from st4rtrack.render.adaptation import write_adaptation

    paths = dict(find_worldtrack(data))
    scenes = {}
    for row in rows:
        together = next(group for group in _together(row, list(paths.items())) if name in dict(group))
        opened = {each: read_worldtrack(path, name=each) for each, path in together}
        model = _model(row, opened, dict(together), run)
        scenes[row] = reconstruct(opened[name].video, model=model, fit="stretch")
    path = run.output / f"figure_{name.replace('/', '_')}.jpg"
    return write_adaptation(path, scenes, [], title=name, subtitle=f"tracks: {run.options.tracks}, depth: {run.options.depth}")


def _require_same(output: Path, options: dict[str, Any]) -> None:
    """Check that all rows in a folder share their options, apart from what their names say.

    Raises:
        UserError: the folder was made with other options.
    """
    import json

    from st4rtrack.io.files import write_whole
    from st4rtrack.io.text import differences
    from st4rtrack.types import UserError

    path = output / OPTIONS
    if path.exists():
        try:
            changes = differences(json.loads(path.read_text()), options)
        except (ValueError, TypeError, OSError):
            changes = ["its options cannot be read"]
        if changes:
            raise UserError(f"{output} holds a table made with other options: {changes[0]}; choose another folder with -o")
    output.mkdir(parents=True, exist_ok=True)
    write_whole(path, (json.dumps(options, indent=1) + "\n").encode())


def _together(row: str, sequences: list[tuple[str, Path]]) -> list[list[tuple[str, Path]]]:
    """Group the sequences that share a model: those of a set, or each alone."""
    from st4rtrack.bench.score_files import set_of

    if row != "domain":
        return [[each] for each in sequences]
    sets: dict[str, list[tuple[str, Path]]] = {}
    for name, path in sequences:
        sets.setdefault(set_of(name), []).append((name, path))
    return list(sets.values())


def _predict(row: str, sequences: list[tuple[str, Path]], run: AdaptationRun, protocol: Any) -> None:
    """Make the missing predictions of sequences that share a model."""
    from st4rtrack.bench.methods.pairwise import predict_sequence
    from st4rtrack.bench.predictions import write_prediction
    from st4rtrack.io.worldtrack import read_worldtrack
    from st4rtrack.options import MethodOptions

    missing = [(name, path, run.output / "predictions" / row / f"{name}.npz") for name, path in sequences]
    missing = [each for each in missing if not each[2].exists()]
    if not missing:
        return
    opened = {name: read_worldtrack(path, name=name, num_frames=protocol.num_frames) for name, path in sequences}
    model = _model(row, opened, dict(sequences), run)
    for name, _, file in missing:
        write_prediction(file, predict_sequence(model, opened[name], MethodOptions(protocol, refine=False)))


def _model(row: str, sequences: dict[str, "WorldTrackSequence"], paths: dict[str, Path], run: AdaptationRun) -> "St4RTrack":
    """Return the base model, or its adaptation to these sequences, stored in models/."""
    from st4rtrack.adapt import adapt_videos
    from st4rtrack.cli.progress import Progress
    from st4rtrack.cli.reporter import say
    from st4rtrack.model.checkpoint import load_model
    from st4rtrack.train.forward import new_model

    base = load_model(run.model, device=run.options.device, dtype="float32")
    if row == "without-pretraining":
        base = new_model(base.config, seed=0).to(base.device)
    taught = [
        name
        for name in sequences
        if "truth" not in (run.options.tracks, run.options.depth) or sequences[name].tracks_world is not None
    ]
    if row == "feed-forward" or not taught:
        return base
    kept = run.output / "models" / row / f"{'_'.join(name.replace('/', '_') for name in taught)[:100]}.safetensors"
    if kept.exists():
        return load_model(kept, device=run.options.device, dtype="float32")
    kept.parent.mkdir(parents=True, exist_ok=True)
    tracks, depth = _teachers(run, {name: sequences[name] for name in taught})
    term = row.removeprefix("without-")
    with Progress("step") as progress:
        found = adapt_videos(
            [str(paths[name]) for name in taught],
            output=kept,
            model=base,
            options=AdaptOptions(
                **vars(replace(run.options, tracks=tracks, depth=depth)),
                without=[term] if term in ("trajectory", "depth", "alignment") else [],
                fit="stretch",
                scenes="none",
            ),
            progress=progress,
            stop=str(min(len(sequences[name]) for name in taught)),
        )
    say(f"{row}: {found.sentence}")
    return found.model


def _teachers(run: AdaptationRun, sequences: dict[str, "WorldTrackSequence"]) -> tuple[str, str]:
    """Teacher options for `adapt_videos`; ground truth is passed in files, like results of other tools."""
    folder = run.output / "truth"
    words = []
    for word, kind, write in (
        (run.options.tracks, "tracks", _write_true_tracks),
        (run.options.depth, "depth", _write_true_depth),
    ):
        if word != "truth":
            words.append(word)
            continue
        _write_all(folder / kind, sequences, write)
        words.append(str(folder / kind / "{name}.npz"))
    return words[0], words[1]


def _write_all(
    folder: Path, sequences: dict[str, "WorldTrackSequence"], write: Callable[["WorldTrackSequence", Path], None]
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, sequence in sequences.items():
        write(sequence, folder / f"{Path(name).name}.npz")


def _write_true_tracks(sequence: "WorldTrackSequence", path: Path) -> None:
    """Write projections of the tracks that are visible in frame 0, as an exact tracker would return them."""
    import numpy as np

    from st4rtrack.geometry.camera import project_world

    assert sequence.tracks_world is not None and sequence.visible is not None and sequence.query_px is not None
    seen = sequence.visible[0]
    pixels, _ = project_world(sequence.tracks_world[:, seen], sequence.world_from_camera, sequence.intrinsics)
    known = np.isfinite(pixels[..., 0])
    height, width = sequence.video.height, sequence.video.width
    np.savez(
        path,
        query_px=sequence.query_px[seen],
        tracks_px=np.where(known[..., None], pixels, 0.0).astype(np.float32),
        visible=sequence.visible[:, seen] & known,
        width=width,
        height=height,
    )


def _write_true_depth(sequence: "WorldTrackSequence", path: Path) -> None:
    import numpy as np

    depth = sequence.read_depth()
    known = np.where(np.isfinite(depth) & (depth > 0), depth, 0.0).astype(np.float32)
    np.savez(path, depth=known, world_from_camera=sequence.world_from_camera)
