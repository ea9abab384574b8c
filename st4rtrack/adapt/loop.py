"""Optimisation loop of an adaptation, with periodic held-out measurement, selection of the best weights and saved state.

The state is a file next to the output, from which an adaptation killed at any moment resumes.
"""

import json
import logging
import math
import pickle
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from st4rtrack.adapt.config import AdaptConfig
from st4rtrack.adapt.inputs import AdaptVideo
from st4rtrack.adapt.measure import Measurement, errors_of, measure
from st4rtrack.adapt.monocular import DepthTask
from st4rtrack.adapt.objective import StepLoss, batch, step_loss
from st4rtrack.io.files import whole_file
from st4rtrack.io.text import differences
from st4rtrack.losses.adaptation import AdaptationLoss
from st4rtrack.model.network import St4RTrack
from st4rtrack.types import UserError

logger = logging.getLogger(__name__)

LEAST_GAIN = 0.002
"""Minimum relative decrease of a held-out error that counts as improvement; smaller changes are seed noise."""

MAX_UNSUPERVISED = 0.01
"""Maximum median change of log depth of dynamic points whose depth no teacher knows: static points improve it by chance only."""

VERSION = 2
"""Version of the state file."""
MOST_SKIPPED = 10
"""Maximum number of consecutive steps skipped for a non-finite loss or gradient."""


@dataclass
class Progress:
    """Progress and history of an adaptation.

    Attributes:
        step: optimiser steps done.
        best_step, best_ratio: step with the lowest held-out errors, and their ratio to those of the base model, step 0.
        waited: measurements since then.
        skipped: consecutive steps with a non-finite loss or gradient.
        steps: one row per step, plain values: loss terms, gradient norm, number of unsolved frames.
        measurements: one row per measurement on the held-out tracks.
        seconds: duration of steps and measurements, over all runs.
    """

    step: int = 0
    best_step: int = 0
    best_ratio: float = 1.0
    waited: int = 0
    skipped: int = 0
    steps: list[dict[str, Any]] = field(default_factory=list)
    measurements: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0


@dataclass
class Learning:
    """Trainable parameters with optimiser, best values and progress.

    Attributes:
        parameters: trainable parameters by name.
        optimizer: optimiser of the parameters.
        best: their values at the lowest held-out error, on the CPU.
        progress: progress and history.
    """

    parameters: dict[str, nn.Parameter]
    optimizer: torch.optim.Optimizer
    best: dict[str, Tensor]
    progress: Progress = field(default_factory=Progress)

    def keep_best(self) -> None:
        """Store the current values as the best."""
        self.best = _on_cpu(self.parameters)

    @torch.no_grad()
    def take_best(self) -> None:
        """Copy the best values into the network."""
        for name, parameter in self.parameters.items():
            parameter.copy_(self.best[name])


@dataclass(frozen=True)
class PairTask:
    """Loss and measurement of a pair network on prepared videos, with the number of frames per step of each."""

    model: St4RTrack
    videos: Sequence[AdaptVideo]
    frames: Sequence[int]
    config: AdaptConfig
    weights: AdaptationLoss

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """Trained parts.

        Source: paper section 3.3 (the reconstruction branch is frozen). Parts shared by both branches (embeddings, the last norm)
        are frozen with it; the release's option of that name trains them.
        """
        trained = ("decoder.tracking_blocks.", "tracking_head.")
        if self.config.freeze == "encoder":
            trained = ("decoder.", "tracking_head.", "reconstruction_head.")
        return {name: parameter for name, parameter in self.model.named_parameters() if name.startswith(trained)}

    def loss(self, step: int) -> StepLoss:
        """Loss of a step (`objective.py`)."""
        lengths, tracks = [len(v.inputs) for v in self.videos], [int((~v.held_out).sum()) for v in self.videos]
        chosen = batch(step, lengths, tracks, list(self.frames), self.config)
        return step_loss(self.model, self.videos[chosen.video], chosen, self.config, self.weights)

    def measure(self) -> Measurement:
        """Measurement on the held-out tracks (`measure.py`)."""
        return measure(self.model, self.videos, self.frames, self.config.precision)


Task = PairTask | DepthTask
"""Trained parameters by name, loss of a step and held-out measurement of a network on its videos."""


def adapt(
    task: Task,
    config: AdaptConfig,
    *,
    state: Path,
    options: dict[str, Any],
    progress: Callable[[int, int], None] | None = None,
) -> Learning:
    """Adapt the network of a task, or resume from the file `state`.

    Args:
        task: with the base model, in float32; it is trained in place and ends with the best weights.
        config: configuration of the optimisation.
        state: file of an unfinished adaptation; the caller removes it once the result is saved.
        options: plain values that affect the result, compared on resume.
        progress: called with (steps done, total steps); with a time budget the total is estimated.
    Returns:
        Trained parameters with their history. `best_step` 0 is the base model.
    Raises:
        UserError: no focal length fits the anchor pointmap, the memory is too small, or the state belongs to another adaptation.
        KeyboardInterrupt: passed on; the saved state is that of the last measurement.
    """
    task.model.requires_grad_(False)
    parameters = task.parameters
    for parameter in parameters.values():
        parameter.requires_grad_(True)
    learning = Learning(parameters, make_optimizer(parameters, config), {})
    learning.keep_best()
    with messages_once("st4rtrack.pipeline.cameras"):
        if load_state(state, learning, options):
            logger.info("resuming at step %d", learning.progress.step)
        else:
            _measure(task, learning)
            save_state(state, learning, options)
        while not _ended(learning, config):
            _step(task, config, learning)
            if learning.progress.step % config.measure_every == 0 or _done_share(learning.progress, config) >= 1:
                _measure(task, learning)
                save_state(state, learning, options)
            if progress:
                step = learning.progress.step
                progress(step, max(step, math.ceil(step / min(1.0, _done_share(learning.progress, config)))))
    learning.take_best()
    task.model.eval()
    return learning


def _done_share(now: Progress, config: AdaptConfig) -> float:
    """Share of the steps, or of the time budget, that is used."""
    by_time = 0.0 if config.minutes is None else now.seconds / (60 * config.minutes)
    return max(now.step / config.steps, by_time)


def _ended(learning: Learning, config: AdaptConfig) -> bool:
    now = learning.progress
    return _done_share(now, config) >= 1 or now.waited >= config.patience or now.skipped > MOST_SKIPPED


def _step(task: Task, config: AdaptConfig, learning: Learning) -> None:
    """Run one optimiser step; skip the update if the loss or its gradient is not finite."""
    start, now = time.monotonic(), learning.progress
    task.model.train()
    learning.optimizer.zero_grad(set_to_none=True)
    try:
        found = task.loss(now.step)
    except torch.OutOfMemoryError as error:
        raise UserError(f"a step does not fit into the memory of {task.model.device}; reduce --batch-size or --size") from error
    finite, norm = False, math.nan
    if math.isfinite(float(found.total.detach())):
        found.total.backward()
        norm = float(nn.utils.clip_grad_norm_(learning.parameters.values(), config.clip_norm))
        finite = math.isfinite(norm)
    if finite:
        for group in learning.optimizer.param_groups:
            group["lr"] = learning_rate(now.step, config, _done_share(now, config))
        learning.optimizer.step()
    now.skipped = 0 if finite else now.skipped + 1
    if now.skipped == 1:
        logger.warning("step %d: the loss or its gradient is not finite; skipped the step", now.step + 1)
    if now.skipped > MOST_SKIPPED:
        logger.warning(
            "stopped after %d non-finite steps in a row, kept the best weights; try a lower --learning-rate", now.skipped
        )
    now.step += 1
    now.seconds += time.monotonic() - start
    row = {"step": now.step, "video": found.video, "total": float(found.total.detach()), **found.parts}
    now.steps.append({**row, "gradient_norm": norm, "cameras_not_found": found.cameras_not_found})


def _measure(task: Task, learning: Learning) -> None:
    """Measure the held-out tracks and keep the weights if they are the best."""
    start, now = time.monotonic(), learning.progress
    task.model.eval()
    found = task.measure()
    now.measurements.append({"step": now.step, **asdict(found)})
    ratio = error_ratio(now.measurements[0], now.measurements[-1])
    if ratio < now.best_ratio * (1 - LEAST_GAIN):
        now.best_ratio, now.best_step, now.waited = ratio, now.step, 0
        learning.keep_best()
    elif now.step:
        now.waited += 1
    now.seconds += time.monotonic() - start
    logger.info("step %d: track error %.3f px held out, %.3f px training", now.step, found.error_px, found.learnt_px)


def error_ratio(base: dict[str, Any], now: dict[str, Any], least: float = LEAST_GAIN) -> float:
    """Geometric mean of the ratios of the errors in 2D and in depth to those of the base model.

    Infinite if one of them falls by less than the share `least`, or if dynamic points without teacher depth change their depth.
    """
    pairs = zip(errors_of(base), errors_of(now), strict=True)
    ratios = [after / before for before, after in pairs if before and after is not None and math.isfinite(after / before)]
    improves = bool(ratios) and max(ratios) < 1 - least and (now["unsupervised"] or 0) < MAX_UNSUPERVISED
    return math.exp(sum(math.log(max(ratio, 1e-9)) for ratio in ratios) / len(ratios)) if improves else math.inf


@contextmanager
def messages_once(name: str) -> Iterator[None]:
    """Log each message of a logger only once, not at every step."""
    logged: set[object] = set()

    def new(record: logging.LogRecord) -> bool:
        known = record.msg in logged
        logged.add(record.msg)
        return not known

    target = logging.getLogger(name)
    target.addFilter(new)
    try:
        yield
    finally:
        target.removeFilter(new)


def make_optimizer(parameters: dict[str, nn.Parameter], config: AdaptConfig) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices only, as in the release."""
    groups = [
        {"params": [p for p in parameters.values() if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters.values() if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.95))


def learning_rate(step: int, config: AdaptConfig, done: float) -> float:
    """Learning rate of a step: linear warm-up, then half-cosine decay to `final_share` of the peak."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    first = config.warmup_steps / config.steps
    progress = min(1.0, max(0.0, done - first) / max(1 / config.steps, 1 - first))
    return config.learning_rate * (config.final_share + (1 - config.final_share) * 0.5 * (1 + math.cos(math.pi * progress)))


def save_state(path: Path, learning: Learning, options: dict[str, Any]) -> None:
    """Write the state atomically.

    Args:
        options: plain values that affect the result.
    """
    state = {
        "version": VERSION,
        "options": json.dumps(options),
        "progress": json.dumps(vars(learning.progress)),
        "weights": _on_cpu(learning.parameters),
        "best": learning.best,
        "optimizer": learning.optimizer.state_dict(),
    }
    with whole_file(path) as file:
        torch.save(state, file)


def load_state(path: Path, learning: Learning, options: dict[str, Any]) -> bool:
    """Load the state from a file, if it exists, and return whether it did.

    Raises:
        UserError: the file is damaged, or of an adaptation with other options.
    """
    if not path.exists():
        return False
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        before, progress = json.loads(state["options"]), json.loads(state["progress"])
        fits = state["version"] == VERSION and set(state["weights"]) == set(state["best"]) == set(learning.parameters)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError):
        raise UserError(f"could not read {path} as an unfinished adaptation; remove it, or restart with --overwrite") from None
    changes = differences(before, json.loads(json.dumps(options)))
    if changes or not fits:
        what = changes[0] if changes else "other trainable weights"
        raise UserError(f"{path} is an unfinished adaptation with other options: {what}; restart with --overwrite")
    with torch.no_grad():
        for name, parameter in learning.parameters.items():
            parameter.copy_(state["weights"][name])
    learning.best = state["best"]
    learning.optimizer.load_state_dict(state["optimizer"])
    learning.progress = Progress(**progress)
    return True


def _on_cpu(parameters: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    return {name: parameter.detach().to("cpu", copy=True) for name, parameter in parameters.items()}
