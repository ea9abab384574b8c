"""Worker process of a batch: loads the model once, then makes one scene after another."""

import logging
import os
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from st4rtrack.batch.jobs import Job
from st4rtrack.batch.outcome import Outcome
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
