"""Assigns all videos of a batch to workers, and collects the outcomes."""

import contextlib
import logging
import queue
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from st4rtrack.batch.jobs import Job, Outcome, Status, find_jobs, write_batch_json
from st4rtrack.batch.worker import BatchOptions
from st4rtrack.io.lock import locked
from st4rtrack.io.scene.arrays import JOURNAL, JOURNAL_RECORD
from st4rtrack.io.scene.description import read_json
from st4rtrack.types import UserError

logger = logging.getLogger(__name__)


class AnyWorker(Protocol):
    """Interface of workers: make one scene at a time."""

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
    """Make a scene of every video; complete scenes are kept, incomplete ones are resumed.

    Args:
        patterns: see `find_jobs`.
        output: folder of the scenes; `batch.json` in it lists the outcomes, also if the batch is interrupted.
        options: options of every video.
        device: see `local_workers` and `ray_workers`.
        workers: number of concurrent videos. Default: depends on the devices.
        ray: address of a Ray cluster, or "auto"; `None`: local processes.
        progress: called every `interval_s` seconds.
        interval_s: see `progress`.
    Returns:
        Outcomes of the videos, in the order of `find_jobs`.
    Raises:
        UserError: there is no video, no worker can start (model cannot be loaded, device is missing), or another batch
            writes to `output`.
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
        from st4rtrack.batch.worker import local_workers

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
    """Run jobs with one thread per worker, which waits for it; a free worker takes the next video."""
    free = queue.SimpleQueue[AnyWorker]()
    for worker in team:
        free.put(worker)
    under_way: dict[Job, int] = {}  # number of frames that its scene had before

    def make(job: Job) -> Outcome:
        worker = free.get()
        under_way[job] = 0 if overwrite else frames_written(job.folder)[0]
        try:
            return worker(job)
        finally:
            if len(under_way) < len(jobs):
                free.put(worker)
            else:  # no video is waiting: free its resources for another worker of the cluster
                worker.close()

    with ThreadPoolExecutor(len(team)) as threads:
        pending: dict[Future[Outcome], Job] = {threads.submit(make, job): job for job in jobs}
        try:
            while pending:
                done, _ = wait(pending, timeout=interval_s, return_when=FIRST_COMPLETED)
                for future in done:
                    job = pending.pop(future)
                    outcomes[job] = _state_corrected(future.result(), under_way[job])
                    for note in outcomes[job].notes:
                        logger.warning("%s: %s", job.name, note)
                    if outcomes[job].state == "failed":
                        logger.warning("%s failed: %s", job.name, outcomes[job].reason)
                if progress:
                    progress(_status(len(jobs), outcomes, under_way))
        finally:  # also on an error or Ctrl-C, when the threads must not wait for running videos
            for future in pending:
                future.cancel()
            for worker in team:
                worker.close()


def _state_corrected(outcome: Outcome, frames_before: int) -> Outcome:
    """Correct the state of a scene that a worker completed before it was killed: the next worker reports "already there"."""
    made_now = outcome.state == "already there" and frames_before < outcome.frames
    return replace(outcome, state="made") if made_now else outcome


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
    """Return (frames done, total frames) of a possibly unfinished scene, from its folder alone; (0, 0) without a scene."""
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
