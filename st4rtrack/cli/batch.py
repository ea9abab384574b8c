"""`st4rtrack batch`: reconstruct many videos into scene folders, on one machine or a Ray cluster."""

import contextlib
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from st4rtrack.cli.run import ResultOptions, write_beside
from st4rtrack.options import DeviceOptions, FrameSelection, KnownGeometry, ReconstructOptions

if TYPE_CHECKING:
    from tqdm import tqdm

    from st4rtrack.batch.jobs import Outcome, Status


def batch(
    videos: tyro.conf.Positional[tuple[str, ...]],
    /,
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="DIR")],
    model: str = "tiny",
    scene: ReconstructOptions = ReconstructOptions(),
    frames: FrameSelection = FrameSelection(),
    device: DeviceOptions = DeviceOptions(),
    known: KnownGeometry = KnownGeometry(),
    workers: str = "auto",
    ray: str | None = None,
    results: ResultOptions = ResultOptions(),
) -> None:
    """Track and reconstruct many videos, several at a time (docs/batch.md). The same command resumes.

    Args:
        videos: Video files, folders of images, folders of videos, or globs of these in quotes: "clips/**/*.mp4".
        output: Folder of the scene folders; batch.json lists the results.
        model: Name (st4rtrack models), checkpoint file, model folder or hub id.
        workers: Videos at a time, one process each; auto: one per GPU, or per two cores.
        ray: Address of a Ray cluster, or auto: the cluster of this machine, or a new local one.
    """
    from st4rtrack.batch.run import reconstruct_videos
    from st4rtrack.batch.worker import BatchOptions
    from st4rtrack.cli.options import checked, export_formats
    from st4rtrack.cli.reporter import UNRELIABLE
    from st4rtrack.model.named import NAMED
    from st4rtrack.options import positive_int

    formats = export_formats(results.export)
    chosen = BatchOptions(
        **vars(replace(checked(scene), depth_prior=_absolute(scene.depth_prior))),
        model=model if model in NAMED else _absolute(model),
        dtype=device.dtype,
        deterministic=device.deterministic,
        known=known.absolute(),
        frames=frames,
        overwrite=results.overwrite,
        finish=partial(write_beside, formats=formats),
    )
    count = None if workers == "auto" else positive_int(workers, "--workers")
    often = 0.5 if sys.stderr.isatty() else 10.0  # less often in a log file
    with BatchProgress() as progress:
        outcomes = reconstruct_videos(
            videos, output, chosen, device=device.device, workers=count, ray=ray, progress=progress, interval_s=often
        )
    _summarise(outcomes, output)
    if any(outcome.state == "failed" for outcome in outcomes):
        sys.exit(1)
    if results.require_reliable and any(outcome.quality is None or not outcome.quality.reliable for outcome in outcomes):
        sys.exit(UNRELIABLE)


def _absolute(source: str) -> str:
    """Make a path absolute, so that it is valid in every process; keywords and hub ids are unchanged."""
    is_path = "{name}" in source or (source not in ("auto", "builtin", "none") and Path(source).exists())
    return str(Path(source).absolute()) if is_path else source


class BatchProgress(contextlib.ExitStack):
    """Progress bar of all videos, with fractions of running ones; the remaining time ignores what existed before."""

    _FORMAT = "{desc}: {percentage:3.0f}%|{bar}| [{elapsed}<{remaining}{postfix}]"

    _bar: "tqdm | None" = None

    def __call__(self, status: "Status") -> None:
        from tqdm import tqdm

        from st4rtrack.cli.reporter import reporter

        reporter().progress(
            status.share, status.videos, "video", done_videos=status.done, failed=status.failed, frames=status.frames
        )
        if reporter().mode != "plain":
            return
        if self._bar is None:
            bar = tqdm(total=status.videos, bar_format=self._FORMAT, smoothing=0, file=sys.stderr, dynamic_ncols=True)
            self._bar = self.enter_context(bar)
        rate = status.frames / max(self._bar.format_dict["elapsed"], 1e-9)
        failed = f" ({status.failed} failed)" if status.failed else ""
        self._bar.set_description_str(f"{status.done} of {status.videos} videos{failed}", refresh=False)
        self._bar.set_postfix_str(f"{status.frames} frames, {rate:.1f}/s", refresh=False)
        self._bar.n, self._bar.initial = status.share, status.found
        self._bar.refresh()


def _summarise(outcomes: "list[Outcome]", output: Path) -> None:
    from st4rtrack.batch.jobs import BATCH_JSON
    from st4rtrack.cli.process import viewing_command
    from st4rtrack.cli.reporter import answer, reporter, say, wrote

    states = {state: [outcome for outcome in outcomes if outcome.state == state] for state in ("made", "already there", "failed")}
    names = {"already there": "already complete"}
    counts = ", ".join(f"{len(of_state)} {names.get(state, state)}" for state, of_state in states.items() if of_state)
    frames = sum(outcome.frames for outcome in outcomes)
    unreliable = sum(outcome.quality is not None and not outcome.quality.reliable for outcome in outcomes)
    counts += f"; {unreliable} unreliable" if unreliable else ""
    answer(f"{len(outcomes)} video{'s' * (len(outcomes) != 1)}: {counts}; {frames} frames in {output}")
    for outcome in outcomes:
        if outcome.quality is not None:
            put = say if outcome.quality.reliable else answer
            put(f"  {outcome.name}: {outcome.quality.summary(outcome.frames)}")
    for outcome in states["already there"]:
        reporter().event("already_complete", path=outcome.folder)
    for outcome in states["failed"]:
        answer(f"  failed: {outcome.video}: {outcome.reason}")
    wrote(output / BATCH_JSON)
    if there := states["made"] + states["already there"]:
        say(f"look at {Path(there[0].folder) / 'overview.png'}; in the browser: {viewing_command(there[0].folder)}")
