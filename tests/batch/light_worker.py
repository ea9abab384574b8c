"""Stands in for a worker process; imports no network, so that it starts in a moment."""

import os
from multiprocessing.connection import Connection

from st4rtrack.batch.jobs import Outcome
from st4rtrack.batch.worker import BatchOptions
from st4rtrack.types import QualityReport, QualityWarning, UserError

QUALITY = {
    "sharp": QualityReport(1.0, 0.5, parallax="good"),
    "dark": QualityReport(0.5, warnings=(QualityWarning("low_light", (), "too dark"),)),
}


def serve_without_network(connection: Connection, options: BatchOptions, device: str, threads: int) -> None:
    """Makes nothing, dies of the video "deadly" always and of "once" once, and has a fault at "faulty"."""
    if options.model == "refused":
        connection.send(UserError("no such model"))
        return
    connection.send(None)
    while True:
        job = connection.recv()
        first = not job.folder.exists()
        job.folder.mkdir(parents=True, exist_ok=True)
        if job.name == "deadly" or (job.name == "once" and first):
            os.kill(os.getpid(), 9)
        notes = [f"process {os.getpid()}"]
        if job.name == "faulty":
            connection.send(Outcome.of(job, "failed", reason="RuntimeError: x", traceback="x", notes=notes))
        elif job.name in QUALITY:
            connection.send(Outcome.of(job, "made", frames=10, quality=QUALITY[job.name]))
        else:
            connection.send(Outcome.of(job, "made", notes=notes))
