"""All videos of a batch to their workers, and what came of each."""

import contextlib
import logging
import queue
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from st4rtrack.batch.jobs import Job, find_jobs
from st4rtrack.batch.outcome import Outcome, Status, write_batch_json
from st4rtrack.batch.worker import BatchOptions
from st4rtrack.io.lock import locked
from st4rtrack.io.scene.description import read_json
from st4rtrack.io.scene.journal import JOURNAL, JOURNAL_RECORD
from st4rtrack.types import UserError

logger = logging.getLogger(__name__)


class AnyWorker(Protocol):
    """What makes scenes one at a time, somewhere."""

    device: str

    def __call__(self, job: Job) -> Outcome: ...

    def close(self) -> None: ...


def reconstruct_videos(
    patterns: Sequence[str],
    output: str | Path,
    options: BatchOptions | None = None,
    *,
    device: str = "auto",
    workers: int | None = None,
    ray: str | None = None,
    progress: Callable[[Status], None] | None = None,
    interval_s: float = 0.5,
) -> list[Outcome]:
    """Makes a scene of every video; what is complete is left as it is, what is incomplete is continued.

    Args:
        patterns: see `find_jobs`.
        output: folder of the scenes; `batch.json` there says what came of each video, also when the batch is interrupted.
        options: how each is made.
        device: see `local_workers` and `ray_workers`.
        workers: how many videos at a time; default by the devices.
        ray: address of a Ray cluster, or "auto"; `None` is processes of this machine.
        progress: called every `interval_s` seconds.
        interval_s: see `progress`.
    Returns:
        What came of each video, in the order of `find_jobs`.
    Raises:
        UserError: there is no video, no worker can do its work (a model that cannot be loaded, a device that is not there), or
            another batch writes to `output`.
    """
    output, options = Path(output), options or BatchOptions()
    if output.exists() and not output.is_dir():
        raise UserError(f"{output} is a file, not a folder for scenes; choose another with -o")
    jobs = find_jobs(patterns, output)
    outcomes: dict[Job, Outcome] = {}
    start = time.monotonic()
    with locked(output), _workers(options, device, workers, ray, len(jobs)) as team:
        try:
            _run(jobs, team, outcomes, progress, interval_s, options.overwrite)
        finally:
            if outcomes:
                every = [outcomes.get(job) or Outcome.of(job, "not finished") for job in jobs]
                seconds, devices = round(time.monotonic() - start, 3), [worker.device for worker in team]
                write_batch_json(output, every, seconds=seconds, workers=devices)
    return [outcomes[job] for job in jobs]


@contextlib.contextmanager
def _workers(
    options: BatchOptions, device: str, workers: int | None, ray: str | None, videos: int
) -> Iterator[Sequence[AnyWorker]]:
    if ray is None:
        from st4rtrack.batch.local import local_workers

        yield local_workers(options, device=device, workers=workers, videos=videos)
        return
    from st4rtrack.batch.cluster import ray_workers

    with ray_workers(options, address=ray, device=device, workers=workers, videos=videos) as team:
        yield team


def _run(
    jobs: Sequence[Job],
    team: Sequence[AnyWorker],
    outcomes: dict[Job, Outcome],
    progress: Callable[[Status], None] | None,
    interval_s: float,
    overwrite: bool,
) -> None:
    """Every worker has a thread that waits for it; a thread that is free takes the next video."""
    free = queue.SimpleQueue[AnyWorker]()
    for worker in team:
        free.put(worker)
    under_way: dict[Job, int] = {}  # frames that its scene had before

    def make(job: Job) -> Outcome:
        worker = free.get()
        under_way[job] = 0 if overwrite else frames_written(job.folder)[0]
        try:
            return worker(job)
        finally:
            if len(under_way) < len(jobs):
                free.put(worker)
            else:  # no video waits: what it holds may be what another worker of a cluster waits for
                worker.close()

    with ThreadPoolExecutor(len(team)) as threads:
        pending: dict[Future[Outcome], Job] = {threads.submit(make, job): job for job in jobs}
        try:
            while pending:
                done, _ = wait(pending, timeout=interval_s, return_when=FIRST_COMPLETED)
                for future in done:
                    job = pending.pop(future)
                    outcomes[job] = _told_by(future.result(), under_way[job])
                    _tell(outcomes[job])
                if progress:
                    progress(_status(len(jobs), outcomes, under_way))
        finally:  # at the end, or because of an error or Ctrl-C: then the threads must not wait for what is under way
            for future in pending:
                future.cancel()
            for worker in team:
                worker.close()


def _told_by(outcome: Outcome, frames_before: int) -> Outcome:
    """A worker that was killed after the last frame left a complete scene, and the next one cannot know since when it is there."""
    made_now = outcome.state == "already there" and frames_before < outcome.frames
    return replace(outcome, state="made") if made_now else outcome


def _tell(outcome: Outcome) -> None:
    for note in outcome.notes:
        logger.warning("%s: %s", outcome.name, note)
    if outcome.state == "failed":
        logger.warning("%s failed: %s", outcome.name, outcome.reason)


def _status(videos: int, outcomes: dict[Job, Outcome], under_way: dict[Job, int]) -> Status:
    share, found, frames = float(len(outcomes)), 0.0, 0
    for job, before in list(under_way.items()):
        outcome = outcomes.get(job)
        if outcome is None:
            written, total = frames_written(job.folder)
            share += written / total if total else 0.0
        else:
            written, total = (outcome.frames,) * 2
        found += min(before, written) / total if total else 0.0
        frames += max(0, written - before)
    failed = sum(outcome.state == "failed" for outcome in outcomes.values())
    return Status(videos, len(outcomes), failed, share, found, frames)


def frames_written(folder: Path) -> tuple[int, int]:
    """(frames done, frames in all) of a scene that may be unfinished, from its folder alone; (0, 0) where there is none."""
    try:
        scene = read_json(folder)
        total = int(scene["num_frames"])
        if scene["status"] == "complete":
            return total, total
        journal = folder / JOURNAL
        records = journal.stat().st_size // JOURNAL_RECORD.itemsize if journal.exists() else 0
        return min(records, total), total
    except (UserError, KeyError, TypeError, ValueError, OSError):
        return 0, 0
