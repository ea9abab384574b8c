"""Guards that stop a run in a resumable state: for a non-finite loss or gradient, or a signal."""

import dataclasses
import logging
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
from torch import Tensor

from st4rtrack.io.files import whole_file
from st4rtrack.options import RunConfig
from st4rtrack.train.examples import Examples
from st4rtrack.train.parallel import Processes
from st4rtrack.types import UserError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Suspect:
    """A micro-batch of a non-finite step: index in the run, examples, and whether its loss is finite."""

    index: int
    examples: Examples
    finite: bool


class NonFiniteGuard:
    """Handles steps with a non-finite loss or gradient, whose update was not applied: stops, or skips up to a limit."""

    def __init__(self, folder: Path, config: RunConfig, processes: Processes) -> None:
        self.folder, self.config, self.processes = folder, config, processes
        self.in_a_row = 0  # non-finite steps; the loop resets it

    def failed(self, step: int, micro_batch: int, suspects: Sequence[Suspect]) -> None:
        """Stop or skip. Saves the micro-batches with a non-finite loss, or all if only the gradient is non-finite."""
        any_loss = any(self.processes.gather(not all(s.finite for s in suspects)))
        blamed = [s for s in suspects if not (any_loss and s.finite)]
        lines = [
            (
                f"{'loss' if any_loss else 'gradient'} of samples {s.index * micro_batch} to {(s.index + 1) * micro_batch - 1} "
                f"({', '.join(s.examples.names)})",
                str(save_examples(self.folder / f"step{step:06d}_batch{s.index}.npz", s.examples)),
            )
            for s in blamed
        ]
        found = [line for part in self.processes.gather(lines) for line in part]
        self.in_a_row += 1
        sentence = (
            f"step {step}: not finite: {'; '.join(line for line, _ in found)}; saved in {', '.join(path for _, path in found)}"
        )
        if self.config.on_non_finite == "stop":
            raise UserError(f"{sentence}; inspect them, or resume with --on-non-finite skip or a lower --learning-rate")
        if self.in_a_row > self.config.skip_limit:
            raise UserError(
                f"{sentence}; {self.in_a_row} steps in a row exceed --skip-limit; resume with a lower --learning-rate"
            )
        if self.processes.first:
            logger.warning("%s; skipped", sentence)


def save_examples(path: Path, examples: Examples) -> Path:
    """Save a micro-batch as an `.npz` of plain arrays, named by field (`supervision.truth.tracking.points_world`)."""
    with whole_file(path) as file:
        np.savez_compressed(file, allow_pickle=False, **dict(_arrays(examples)))
    return path


def _arrays(value: Any, name: str = "") -> Iterator[tuple[str, np.ndarray]]:
    if isinstance(value, Tensor):
        yield name, value.detach().cpu().numpy()
    elif dataclasses.is_dataclass(value):
        for field in dataclasses.fields(value):
            yield from _arrays(getattr(value, field.name), f"{name}.{field.name}".lstrip("."))
    elif isinstance(value, (int, float, list)):
        yield name, np.array(value)


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Record Ctrl-C and SIGTERM, which the loop polls between steps. A second Ctrl-C stops at once."""
    received: list[int] = []

    def handle(number: int, frame: FrameType | None) -> None:
        if received and number == signal.SIGINT:
            raise KeyboardInterrupt
        received.append(number)

    before = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
