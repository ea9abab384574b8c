"""`st4rtrack bench`: WorldTrack in three stages on disk, each of which can be stopped and goes on with the same command."""

from pathlib import Path
from typing import Annotated, Literal

import tyro


def predict(
    data: Path,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    method: str = "st4rtrack",
    model: str | None = None,
    protocol: Literal["published", "corrected"] = "corrected",
    device: str = "auto",
    dtype: Literal["auto", "float32", "bfloat16"] = "auto",
    size: int | None = None,
    refine: bool = True,
    tracks: Path | None = None,
    cameras: Path | None = None,
    flow: Path | None = None,
    graph: str = "swinstride-5-noncyclic",
    iterations: int = 300,
    workers: int = 1,
    overwrite: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
) -> None:
    """Run a method on WorldTrack sequences: one prediction file each.

    Args:
        data: Folder of WorldTrack .npz sequences; sub-folders are mirrored.
        output: Folder of predictions.
        method: st4rtrack, dust3r, mast3r, monst3r (feed-forward), the last three with -ga (global alignment), spatracker,
            spatracker-procrustes, spatracker-monst3r, sfm, plane, static; docs/benchmark.md says what each is.
        model: Checkpoint of the methods that run a network. Default: the embedded model, for st4rtrack.
        protocol: published reads pointmaps at the pixel that holds a query, corrected between pixels.
        device: auto, cpu, cuda, cuda:1, mps.
        dtype: Type the network computes in.
        size: Long side in pixels at the network. Default: the model's own.
        refine: As of `st4rtrack run`, for the method st4rtrack.
        tracks: Folder of SpatialTracker's tracks (docs/spatracker.md).
        cameras: Folder of predictions whose cameras spatracker-monst3r takes.
        flow: Folder of optical flow for monst3r-ga (docs/benchmark.md).
        graph: Pairs for global alignment: complete, swin-K, swinstride-K, logwin-K (each also -noncyclic), oneref-R.
        iterations: Of global alignment.
        workers: Processes, each with its own copy of the method.
        overwrite: Make predictions again that are there.
    """
    from st4rtrack.bench.methods.method import MethodOptions
    from st4rtrack.bench.predict import predict as predict_folder
    from st4rtrack.bench.protocol import protocol_named
    from st4rtrack.cli.options import positive_int
    from st4rtrack.cli.progress import Progress, log_to_stderr
    from st4rtrack.cli.voice import say

    log_to_stderr()
    options = MethodOptions(
        protocol=protocol_named(protocol),
        model=model,
        device=device,
        dtype=dtype,
        size=None if size is None else positive_int(size, "--size"),
        refine=refine,
        tracks=tracks,
        cameras=cameras,
        flow=flow,
        graph=graph,
        iterations=positive_int(iterations, "--iterations"),
    )
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
    predictions: Path,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    protocol: Literal["published", "corrected"] = "corrected",
    name: str | None = None,
    workers: int = 1,
) -> None:
    """Score predictions, anyone's, against the truth of the sequences: one JSON.

    Args:
        data: Folder of WorldTrack .npz sequences.
        predictions: Folder with one .npz per sequence, named as the sequence (docs/benchmark.md has the format).
        output: The score file, .json.
        protocol: published reproduces the released evaluation with its faults; corrected is without them.
        name: Of the method in tables. Default: what predicted, or the folder's name.
        workers: Processes.
    """
    from st4rtrack.bench.protocol import protocol_named
    from st4rtrack.bench.score_files import score as score_folder
    from st4rtrack.bench.score_files import summary
    from st4rtrack.cli.options import positive_int
    from st4rtrack.cli.progress import Progress, log_to_stderr
    from st4rtrack.cli.voice import answer, say, wrote

    log_to_stderr()
    with Progress("sequence") as progress:
        scores = score_folder(
            data,
            predictions,
            output,
            protocol_named(protocol),
            name=name,
            workers=positive_int(workers, "--workers"),
            progress=progress,
        )
    answer(summary(scores))
    wrote(output)
    say(f"tables and plots: st4rtrack bench report {output}")


def table(
    data: Path,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    methods: str = "plane,static,sfm,st4rtrack",
    model: str | None = None,
    protocols: str = "published,corrected",
    workers: int = 1,
) -> None:
    """Predict, score and report several methods under one or both protocols: one folder with the tables.

    Args:
        data: Folder of WorldTrack .npz sequences.
        output: Folder: predictions/, scores/ (one file per protocol and method), and the report.
        methods: Separated by commas; those that need nothing, or --model alone.
        model: Checkpoint of the methods that run a network. Default: the embedded model, for st4rtrack.
        protocols: published, corrected, or both.
        workers: Processes.
    """
    from st4rtrack.bench.methods import METHODS
    from st4rtrack.bench.methods.method import MethodOptions
    from st4rtrack.bench.predict import predict as predict_folder
    from st4rtrack.bench.protocol import PROTOCOLS, protocol_named
    from st4rtrack.bench.report import write_report
    from st4rtrack.bench.score_files import score as score_folder
    from st4rtrack.cli.options import names_among, positive_int
    from st4rtrack.cli.progress import Progress, log_to_stderr
    from st4rtrack.cli.voice import say, wrote

    log_to_stderr()
    workers = positive_int(workers, "--workers")
    files = []
    for method in names_among(methods, METHODS, "--methods"):
        for protocol in map(protocol_named, names_among(protocols, PROTOCOLS, "--protocols")):
            made_for = f"-{protocol.name}" if METHODS[method].reads_pointmaps else ""
            predictions = output / "predictions" / f"{method}{made_for}"
            say(f"{method}, {protocol.name} protocol")
            with Progress("sequence") as progress:
                predict_folder(data, predictions, method, MethodOptions(protocol, model), workers=workers, progress=progress)
            files.append(output / "scores" / f"{method}-{protocol.name}.json")
            score_folder(data, predictions, files[-1], protocol, workers=workers)
    for path in write_report(files, output):
        wrote(path)


def report(
    scores: tyro.conf.Positional[tuple[Path, ...]],
    /,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("report"),
) -> None:
    """Tables and plots of score files, with published figures beside them: report.md, tables.csv, tables.tex, PNG and PDF.

    Args:
        scores: Score files of bench score. Those of different protocols are kept apart.
        output: Folder of the report; an earlier report there is replaced.
    """
    from st4rtrack.bench.report import write_report
    from st4rtrack.cli.progress import log_to_stderr
    from st4rtrack.cli.voice import wrote

    log_to_stderr()
    for path in write_report(scores, output):
        wrote(path)


def build(
    dataset: tyro.conf.Positional[Literal["adt", "pstudio", "po", "dr", "tum"]],
    raw: tyro.conf.Positional[Path],
    /,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"])],
    count: int = 50,
    seed: int = 0,
    listed: Annotated[Path | None, tyro.conf.arg(name="list")] = None,
    overwrite: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
) -> None:
    """Build one set of WorldTrack from its raw data set: .npz sequences and the list of what was chosen.

    Args:
        dataset: adt, pstudio (TAPVid-3D with images), po (Point Odyssey), dr (Dynamic Replica), tum (TUM-Dynamics).
        raw: Folder into which the data set was unpacked (docs/build-worldtrack.md says which files are needed).
        output: Folder of WorldTrack; the set goes to adt_mini, pstudio_mini, po_mini, ds_mini or tum in it.
        count: Sequences to draw, of all that pass the filters.
        seed: Of the draw.
        listed: Text file with the sequences to build instead of drawing, such as the sequences.txt of another build.
        overwrite: Replace another build, and build again what is there.
    """
    from st4rtrack.bench.build import LIST, build_worldtrack, read_list
    from st4rtrack.bench.recipes import RECIPES
    from st4rtrack.cli.options import positive_int
    from st4rtrack.cli.progress import Progress, log_to_stderr
    from st4rtrack.cli.voice import say
    from st4rtrack.types import UserError

    log_to_stderr()
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
