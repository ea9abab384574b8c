"""`st4rtrack bench`: WorldTrack benchmark in stages on disk."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import tyro

from st4rtrack.options import MethodOptions


def predict(
    data: Path,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="DIR")],
    method: str = "st4rtrack",
    prediction: MethodOptions = MethodOptions(),
    workers: int = 1,
    overwrite: bool = False,
) -> None:
    """Run a method on WorldTrack sequences: one prediction file each.

    Args:
        data: Folder of WorldTrack .npz sequences; sub-folders are mirrored.
        output: Folder of predictions.
        method: Method (docs/benchmark.md): st4rtrack, {dust3r,mast3r,monst3r}[-ga], spatracker[-procrustes,-monst3r], sfm, plane or static.
        workers: Number of worker processes, each with its own copy of the method.
        overwrite: Replace existing predictions.
    """
    from st4rtrack.bench.predict import predict as predict_folder
    from st4rtrack.bench.protocol import protocol_named
    from st4rtrack.cli.options import checked
    from st4rtrack.cli.progress import Progress
    from st4rtrack.cli.reporter import say
    from st4rtrack.options import positive_int

    protocol = prediction.protocol
    options = replace(checked(prediction), protocol=protocol_named(protocol))
    with Progress("sequence") as progress:
        paths = predict_folder(
            data,
            output,
            method,
            options,
            workers=positive_int(workers, "--workers"),
            overwrite=overwrite,
            progress=progress,
        )
    say(f"{output} holds the predictions of {len(paths)} sequences")
    say(f"next: st4rtrack bench score --data {data} --predictions {output} --protocol {protocol} -o {output}.json")


def score(
    data: Path,
    predictions: Annotated[Path, tyro.conf.arg(metavar="DIR")],
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="FILE")],
    protocol: Literal["published", "corrected", "tapvid3d"] = "published",
    name: str | None = None,
    bounds: bool = True,
    workers: int = 1,
) -> None:
    """Score the predictions of any method against the ground truth: one JSON file.

    Args:
        data: Folder of WorldTrack .npz sequences.
        predictions: Folder with one .npz per sequence, named as the sequence (docs/benchmark.md).
        output: Score file, .json.
        protocol: Evaluation protocol: of WorldTrack as released (published) or corrected, or of TAPVid-3D (camera frame).
        name: Name of the method in tables. Default: the stored name, or the folder's.
        bounds: Score two bounds on the same sequences too (plane, static), for the report.
        workers: Number of worker processes.
    """
    from st4rtrack.bench.protocol import protocol_named
    from st4rtrack.bench.score_files import score as score_folder
    from st4rtrack.bench.score_files import summary
    from st4rtrack.cli.progress import Progress
    from st4rtrack.cli.reporter import answer, say, wrote
    from st4rtrack.options import positive_int

    with Progress("sequence") as progress:
        scores = score_folder(
            data,
            predictions,
            output,
            protocol_named(protocol),
            name=name,
            bounds=bounds,
            workers=positive_int(workers, "--workers"),
            progress=progress,
        )
    answer(summary(scores))
    wrote(output)
    say(f"tables and plots: st4rtrack bench report {output}")


def table(
    data: Path,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="DIR")],
    methods: str = "plane,static,sfm,st4rtrack",
    model: str | None = None,
    protocols: str = "published,corrected",
    workers: int = 1,
) -> None:
    """Predict, score and report several methods under one or both protocols: one folder with the tables.

    Args:
        data: Folder of WorldTrack .npz sequences.
        output: Folder for predictions/, scores/ (one file per protocol and method) and the report.
        methods: Methods, separated by commas; only those that need no input except --model.
        model: Name (st4rtrack models), checkpoint, folder or hub id. Default: tiny, for st4rtrack.
        protocols: Protocols, separated by commas.
        workers: Number of worker processes.
    """
    from st4rtrack.bench.methods import METHODS, PROTOCOL_DEPENDENT
    from st4rtrack.bench.predict import predict as predict_folder
    from st4rtrack.bench.protocol import PROTOCOLS, protocol_named
    from st4rtrack.bench.report import write_report
    from st4rtrack.bench.score_files import BOUNDS
    from st4rtrack.bench.score_files import score as score_folder
    from st4rtrack.cli.options import names_among
    from st4rtrack.cli.progress import Progress
    from st4rtrack.cli.reporter import say, wrote
    from st4rtrack.options import positive_int

    workers = positive_int(workers, "--workers")
    files, chosen = [], names_among(methods, METHODS, "--methods")
    for method in chosen:
        bounds = method == chosen[0] and not set(chosen) >= BOUNDS.keys()  # once is enough
        for protocol in map(protocol_named, names_among(protocols, PROTOCOLS, "--protocols")):
            made_for = f"-{protocol.name}" if method in PROTOCOL_DEPENDENT else ""
            predictions = output / "predictions" / f"{method}{made_for}"
            say(f"{method}, {protocol.name} protocol")
            with Progress("sequence") as progress:
                predict_folder(data, predictions, method, MethodOptions(protocol, model), workers=workers, progress=progress)
            files.append(output / "scores" / f"{method}-{protocol.name}.json")
            score_folder(data, predictions, files[-1], protocol, bounds=bounds, workers=workers)
    for path in write_report(files, output):
        wrote(path)


def report(
    scores: Annotated[tyro.conf.Positional[tuple[Path, ...]], tyro.conf.arg(metavar="SCORES...")],
    /,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="DIR")] = Path("report"),
) -> None:
    """Make tables and plots of score files, beside bounds and published scores: report.md, tables.csv, tables.tex, PNG and PDF.

    Args:
        scores: Score files of bench score; protocols are reported separately.
        output: Folder of the report; an earlier report is replaced.
    """
    from st4rtrack.bench.report import write_report
    from st4rtrack.cli.reporter import wrote

    for path in write_report(scores, output):
        wrote(path)


def build(
    dataset: tyro.conf.Positional[Literal["adt", "pstudio", "po", "dr", "tum", "7scenes", "bonn", "kitti"]],
    raw: tyro.conf.Positional[Path],
    /,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="DIR")],
    count: int = 50,
    seed: int = 0,
    listed: Annotated[Path | None, tyro.conf.arg(name="list", metavar="FILE")] = None,
    overwrite: bool = False,
) -> None:
    """Build a set of sequences from a raw data set: .npz files in WorldTrack format and their list.

    Args:
        dataset: Data set: adt, pstudio (TAPVid-3D with images), po (Point Odyssey), dr (Dynamic Replica), tum
            (TUM-Dynamics); with depth and cameras only: 7scenes, bonn, kitti.
        raw: Folder of the unpacked raw data set (docs/build-worldtrack.md).
        output: Folder of WorldTrack; the set is written to a sub-folder (adt_mini, ...).
        count: Number of sequences to draw, of all that pass the filters.
        seed: Random seed of the draw.
        listed: Text file of the sequences to build, instead of drawing them (sequences.txt of another build).
        overwrite: Replace another build.
    """
    from st4rtrack.bench.build import LIST, build_worldtrack, read_list
    from st4rtrack.bench.recipes import RECIPES
    from st4rtrack.cli.progress import Progress
    from st4rtrack.cli.reporter import say
    from st4rtrack.options import positive_int
    from st4rtrack.types import UserError

    if seed < 0:
        raise UserError(f"--seed must be 0 or more, got {seed}")
    with Progress("sequence") as progress:
        paths = build_worldtrack(
            RECIPES[dataset],
            raw,
            output,
            count=positive_int(count, "--count"),
            seed=seed,
            chosen=None if listed is None else read_list(listed),
            overwrite=overwrite,
            progress=progress,
        )
    say(f"{paths[0].parent} holds {len(paths)} sequences; {LIST} says how they were chosen")
    say(f"next: st4rtrack bench predict --data {output} -o predictions")
