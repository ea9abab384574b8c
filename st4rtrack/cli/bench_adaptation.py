"""`st4rtrack bench adaptation`: gain from adaptation on sequences with ground truth, and its ablation (paper Table 6)."""

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from st4rtrack.options import AdaptOptions, LearningOptions

if TYPE_CHECKING:
    from st4rtrack.io.worldtrack import WorldTrackSequence
    from st4rtrack.model.network import St4RTrack

ROWS = (
    *("feed-forward", "instance", "domain"),
    *("without-trajectory", "without-depth", "without-alignment", "without-pretraining"),
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
    from st4rtrack.bench.methods.pairwise import predict_sequence
    from st4rtrack.bench.predictions import write_prediction
    from st4rtrack.bench.protocol import protocol_named
    from st4rtrack.bench.report import write_report
    from st4rtrack.bench.score_files import score as score_folder
    from st4rtrack.cli.options import checked, names_among
    from st4rtrack.cli.reporter import wrote
    from st4rtrack.io.worldtrack import find_worldtrack, read_worldtrack
    from st4rtrack.options import MethodOptions
    from st4rtrack.pipeline.reconstruct import reconstruct
    from st4rtrack.render.adaptation import write_adaptation
    from st4rtrack.types import UserError

    options, counted = checked(adaptations), protocol_named(protocol)
    learning = {name: getattr(options, name) for name in ("tracks", "depth", "loss", "batch_size")}
    stored = {**learning, "model": model, "config": options.config(), "data": str(data), "protocol": protocol}
    _require_same(output, {**stored, "output": None, "device": None})
    chosen, paths = names_among(rows, ROWS, "--rows"), dict(find_worldtrack(data))
    if figure and figure not in paths:
        raise UserError(f"--figure must be one of the sequences {', '.join(paths)}, got {figure}")
    files, scenes = [], {}
    for row in chosen:
        for names in _groups(row, list(paths)):
            missing = [name for name in names if not (output / "predictions" / row / f"{name}.npz").exists()]
            if not missing and figure not in names:
                continue
            opened = {name: read_worldtrack(paths[name], name=name, num_frames=counted.num_frames) for name in names}
            network = _model(row, opened, output, model, options)
            for name in missing:
                prediction = predict_sequence(network, opened[name], MethodOptions(counted, refine=False))
                write_prediction(output / "predictions" / row / f"{name}.npz", prediction)
            if figure in names:
                scenes[row] = reconstruct(opened[figure].video, model=network, fit="stretch")
        files.append(output / "scores" / f"{row}.json")
        score_folder(data, output / "predictions" / row, files[-1], counted, name=row)
    wrote(*write_report(files, output))
    if figure:
        path, subtitle = output / f"figure_{figure.replace('/', '_')}.jpg", f"tracks: {options.tracks}, depth: {options.depth}"
        wrote(write_adaptation(path, scenes, [], title=figure, subtitle=subtitle))


def _require_same(output: Path, options: dict[str, Any]) -> None:
    """Check that all rows in a folder share their options, except those in their names."""
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


def _groups(row: str, names: list[str]) -> list[list[str]]:
    """Group the sequences that share a model: those of a set, or each alone."""
    from st4rtrack.bench.score_files import set_of

    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(set_of(name) if row == "domain" else name, []).append(name)
    return list(groups.values())


def _model(
    row: str, sequences: dict[str, "WorldTrackSequence"], output: Path, model: str, options: LearningOptions
) -> "St4RTrack":
    """Return the base model, or its adaptation to these sequences, stored in models/."""
    from st4rtrack.adapt import adapt_videos
    from st4rtrack.bench.truth import write_true_depth, write_true_tracks
    from st4rtrack.cli.progress import Progress
    from st4rtrack.cli.reporter import say
    from st4rtrack.model.checkpoint import load_model
    from st4rtrack.train.forward import new_model

    base = load_model(model, device=options.device, dtype="float32")
    if row == "without-pretraining":
        base = new_model(base.config, seed=0).to(base.device)
    if "truth" in (options.tracks, options.depth):
        sequences = {name: sequence for name, sequence in sequences.items() if sequence.tracks_world is not None}
    if row == "feed-forward" or not sequences:
        return base
    kept = output / "models" / row / f"{'_'.join(name.replace('/', '_') for name in sequences)[:100]}.safetensors"
    if kept.exists():
        return load_model(kept, device=options.device, dtype="float32")
    kept.parent.mkdir(parents=True, exist_ok=True)
    for kind, write in (("tracks", write_true_tracks), ("depth", write_true_depth)):
        if getattr(options, kind) == "truth":  # passed in files, like results of other tools
            folder = output / "truth" / kind
            folder.mkdir(parents=True, exist_ok=True)
            for name, sequence in sequences.items():
                write(sequence, folder / f"{Path(name).name}.npz")
            options = replace(options, **{kind: str(folder / "{name}.npz")})
    term = row.removeprefix("without-")
    without = [term] if term in ("trajectory", "depth", "alignment") else []
    with Progress("step") as progress:
        found = adapt_videos(
            [str(sequence.path) for sequence in sequences.values()],
            output=kept,
            model=base,
            options=AdaptOptions(**vars(options), without=without, fit="stretch", scenes="none"),
            progress=progress,
            stop=str(min(map(len, sequences.values()))),
        )
    say(f"{row}: {found.sentence}")
    return found.model
