"""Workers as processes of this machine: each loads the model once, then makes one scene after another."""

import contextlib
import logging
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from st4rtrack.batch.jobs import Job, Outcome
from st4rtrack.io.system_errors import explain
from st4rtrack.options import FrameSelection, KnownGeometry, ReconstructOptions
from st4rtrack.scene import Scene
from st4rtrack.types import UserError

if TYPE_CHECKING:  # the worker imports PyTorch after setting its number of threads
    from st4rtrack.model.network import St4RTrack

Finish = Callable[[Scene, Path, bool], object]
"""`finish(scene, folder, changed)` writes the files beside a scene's arrays; `changed`: this call made frames."""


@dataclass(frozen=True)
class BatchOptions(ReconstructOptions):
    """Options of every video; {name} in a path of `known` and in `depth_prior` is the name of the scene folder."""

    model: str = "tiny"
    dtype: str = "auto"
    deterministic: bool = False
    known: KnownGeometry = KnownGeometry()
    frames: FrameSelection = FrameSelection()
    overwrite: bool = False
    finish: Finish | None = None


class Worker:
    """Reconstructs scenes with one model on one device."""

    def __init__(self, options: BatchOptions, device: str, threads: int) -> None:
        """Args: options, device name, and this worker's number of cores, unless the user has set OMP_NUM_THREADS."""
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))  # PyTorch reads it on import
        self._options, self._device = options, device

    @cached_property
    def model(self) -> "St4RTrack":
        """The network, loaded on first access."""
        import cv2

        from st4rtrack.model.checkpoint import load_model
        from st4rtrack.model.device import use_deterministic_algorithms

        if self._options.deterministic:
            use_deterministic_algorithms()
        cv2.setNumThreads(int(os.environ["OMP_NUM_THREADS"].split(",")[0]))
        return load_model(self._options.model, device=self._device, dtype=self._options.dtype)

    def reconstruct(self, job: Job) -> Outcome:
        """Make the scene of a video. Errors of the video are in the outcome; errors that would affect every video are raised."""
        from st4rtrack.pipeline.reconstruct import reconstruct

        model, options, start = self.model, self._options, time.monotonic()
        made = list[int]()
        with _notes() as notes:
            try:
                scene = reconstruct(
                    job.video,
                    model=model,
                    output=job.folder,
                    known=options.known.of_video(job.name),
                    overwrite=options.overwrite,
                    progress=lambda done, _: made.append(done),
                    options=replace(options, depth_prior=options.depth_prior.replace("{name}", job.name)),
                    frames=options.frames,
                )
                if options.finish:
                    options.finish(scene, job.folder, bool(made))
                found: dict[str, Any] = {"state": "made" if made else "already there", "frames": len(scene.time_s)}
                found["quality"] = scene.quality
            except UserError as error:
                found = {"state": "failed", "reason": str(error)}
            except Exception as error:
                reason = explain(error) or f"{type(error).__name__}: {error}"
                found = {"state": "failed", "reason": reason, "traceback": traceback.format_exc()}
        return Outcome.of(job, **found, seconds=round(time.monotonic() - start, 3), frames_made=len(made), notes=notes)


@contextmanager
def _notes() -> Iterator[list[str]]:
    """Collect the library's warnings, which many processes would otherwise print at once."""
    notes = list[str]()
    handler, logger = _Collect(notes), logging.getLogger("st4rtrack")
    before, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield notes
    finally:
        logger.removeHandler(handler)
        logger.propagate = before


class _Collect(logging.Handler):
    def __init__(self, notes: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._notes = notes

    def emit(self, record: logging.LogRecord) -> None:
        self._notes.append(record.getMessage())


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
