"""Workers as processes of this machine: one per GPU, or several that share the cores.

Every worker has its own process instead of a pool: if one process of a pool is killed, the pool ends the others too.
"""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from multiprocessing.context import SpawnProcess
from typing import Any

from st4rtrack.batch.jobs import Job
from st4rtrack.batch.outcome import Outcome
from st4rtrack.batch.worker import BatchOptions, Worker
from st4rtrack.types import UserError

CORES_PER_WORKER = 2
KILLED = "its worker was killed twice on this video ({how}), perhaps out of memory; try fewer --workers or a smaller --size"

_spawn = multiprocessing.get_context("spawn")  # fork would copy the locks of PyTorch's and OpenCV's threads


class LocalWorker:
    """Process that starts with its first video, and restarts if it is killed; that video is then retried once."""

    def __init__(self, options: BatchOptions, device: str, threads: int) -> None:
        self.device = device
        self._arguments = (options, device, threads)
        self._process: SpawnProcess | None = None
        self._connection: Any = None  # its type depends on the system
        self._was_ready = self._closed = False

    def __call__(self, job: Job) -> Outcome:
        """Return the outcome of a video; errors of the worker itself, such as a model that cannot be loaded, are raised."""
        killed = ""
        for _ in range(2):
            try:
                connection = self._connection or self._start()
                connection.send(job)
                outcome = self._receive(connection)
            except (EOFError, ConnectionError):
                killed = self._how_it_ended()
                continue
            if outcome.traceback:  # an internal error may leave a GPU unusable for this process
                self._stop()
            return outcome
        return Outcome.of(job, "failed", reason=KILLED.format(how=killed))

    def close(self) -> None:
        """End the process, whatever it is doing; a thread that waits for its answer gets the end of the connection."""
        self._closed = True
        if (process := self._process) is not None:
            process.kill()
            process.join()

    def _start(self) -> Any:
        if self._closed:
            raise RuntimeError("the worker is closed")
        self._connection, theirs = _spawn.Pipe()
        process = _spawn.Process(target=_serve, args=(theirs, *self._arguments), daemon=True)
        with _sigint_blocked():
            process.start()
        self._process = process
        theirs.close()
        try:
            self._receive(self._connection)  # ready message
        except (EOFError, ConnectionError):
            if self._was_ready or self._closed:
                raise
            how = self._how_it_ended()
            raise UserError(f"a worker ended while loading the model ({how}); if out of memory, use fewer --workers") from None
        self._was_ready = True
        return self._connection

    @staticmethod
    def _receive(connection: Any) -> Outcome:
        answer = connection.recv()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _how_it_ended(self) -> str:
        if self._closed:
            raise RuntimeError("the worker is closed")
        assert self._process is not None
        self._process.join()
        code = self._process.exitcode or 0
        self._stop()
        return f"signal {-code}" if code < 0 else f"exit code {code}"

    def _stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
        if self._connection is not None:
            self._connection.close()
        self._process = self._connection = None


@contextlib.contextmanager
def _sigint_blocked() -> Iterator[None]:
    """Block Ctrl-C in processes started here, also while they import; the parent decides."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(connection: Any, options: BatchOptions, device: str, threads: int) -> None:
    """Main loop of the process: report that the model is loaded, then answer videos with outcomes until the connection ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides
    threading.Thread(target=_end_with_parent, daemon=True).start()
    worker = Worker(options, device, threads)
    try:
        _ = worker.model
    except Exception as error:
        connection.send(error if isinstance(error, UserError) else RuntimeError(f"{type(error).__name__}: {error}"))
        return
    with contextlib.suppress(EOFError, ConnectionError):
        connection.send(None)
        while True:
            connection.send(worker.reconstruct(connection.recv()))


def _end_with_parent() -> None:
    """End with the parent: a worker that outlives a killed command would write to the same scene as its successor."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def local_workers(options: BatchOptions, *, device: str, workers: int | None, videos: int) -> list[LocalWorker]:
    """Create workers of this machine, not started yet.

    Args:
        options: options of all videos.
        device: "auto" and "cuda": all GPUs; or device names separated by commas.
        workers: number of workers. Default: one per GPU, or one for every two cores.
        videos: number of videos; there are at most as many workers.
    Raises:
        UserError: the machine has no such device.
    """
    devices, cores = _devices(device), _cores()
    usual = max(1, cores // CORES_PER_WORKER) if devices == ["cpu"] else len(devices)
    count = min(workers or usual, videos)
    return [LocalWorker(options, devices[k % len(devices)], max(1, cores // count)) for k in range(count)]


def _devices(device: str) -> list[str]:
    if device == "cpu":
        return [device]
    import torch  # slow import, not needed for the processor alone

    from st4rtrack.model.device import choose_device

    if device in ("auto", "cuda") and torch.cuda.is_available():
        return [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    return [str(choose_device(name.strip())) for name in device.split(",")]


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
