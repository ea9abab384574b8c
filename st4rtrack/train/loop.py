"""Training loop: prediction, loss, optimiser step, EMA, validation, saving. Read this module of the package first."""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, fields
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor, nn

from st4rtrack.losses.objective import objective
from st4rtrack.losses.regression import LossParts
from st4rtrack.model.config import ModelConfig
from st4rtrack.model.efficientnet import EfficientNetLite0
from st4rtrack.model.network import St4RTrack
from st4rtrack.options import RunConfig
from st4rtrack.train.checkpoint import Average, RunFolder, Training, average_decay
from st4rtrack.train.config import TrainConfig
from st4rtrack.train.examples import Examples, to_device
from st4rtrack.train.forward import predict, prepare
from st4rtrack.train.guard import NonFiniteGuard, Suspect, stop_requests
from st4rtrack.train.parallel import Processes, check_split, distribute, gradients_shared, whole
from st4rtrack.train.source import ExampleSource, read_ahead
from st4rtrack.train.validate import HeldOut, Score, validate
from st4rtrack.train.watch import Curves, Meter, sample_picture
from st4rtrack.types import Pointmap, UserError

logger = logging.getLogger(__name__)

PRETRAINED_BIAS = 0.1
"""Assumed scale of the biases of a pretrained backbone, for their learning rate."""


class StageScore(Protocol):
    """Dataclass of validation metrics; `str` formats it in one line."""

    @property
    def overall(self) -> float:
        """The metric that selects the best weights, higher is better."""
        ...


class Stage(Protocol):
    """A kind of training: its network, loss and validation."""

    def network(self, config: TrainConfig, device: torch.device, *, compile: bool) -> nn.Module:
        """Create the network on its device, float32, with initial weights."""
        ...

    def build(self) -> nn.Module:
        """Create a network of the same configuration without weights, for saving (`model.checkpoint.save_model`)."""
        ...

    def loss(self, network: nn.Module, examples: Any, config: TrainConfig) -> Any:
        """Compute the loss of a micro-batch: a dataclass of tensors with a differentiable `total`."""
        ...

    def validate(self, network: nn.Module, device: torch.device, precision: str) -> StageScore:
        """Compute the score on the validation data."""
        ...

    def pictures(self, network: nn.Module, device: torch.device, precision: str) -> list[np.ndarray]:
        """Render validation predictions as images [height, width, 3] uint8 RGB."""
        ...


@dataclass(frozen=True)
class PairStage:
    """Training on image pairs."""

    model: St4RTrack  # network with initial weights (`forward.new_model`, or `load_model`); trained in place
    held_out: Sequence[HeldOut]  # validation pairs; may be empty

    def network(self, config: TrainConfig, device: torch.device, *, compile: bool) -> nn.Module:
        return prepare(self.model.to(device), config, compile=compile)

    def build(self) -> nn.Module:
        return St4RTrack(self.model.config)

    def loss(self, network: nn.Module, examples: Examples, config: TrainConfig) -> LossParts:
        return compute_loss(network, examples, config)

    def validate(self, network: nn.Module, device: torch.device, precision: str) -> Score:
        return validate(network, self.held_out, device, precision=precision)

    def pictures(self, network: nn.Module, device: torch.device, precision: str) -> list[np.ndarray]:
        return [sample_picture(network, to_device(each.examples, device), precision) for each in self.held_out[:2]]


@dataclass(frozen=True)
class TrainingJob:
    """Training task: network, loss and data."""

    stage: Stage
    model: ModelConfig  # configuration of the network
    source: ExampleSource  # each micro-batch is requested once, in order
    options: dict[str, Any] = field(default_factory=dict)  # other values that affect the result, such as the data


def train_stage(
    job: TrainingJob, config: TrainConfig, run: RunConfig, *, output: Path, processes: Processes, change_options: bool = False
) -> StageScore:
    """Train a network, or resume the run in `output`.

    Args:
        job: what is trained, on which data.
        config: configuration of the optimisation.
        run: configuration of the execution.
        output: output folder of the run.
        processes: training processes (`parallel.process_group`).
        change_options: resume even if `config` or the options of the job differ from those of the run.
    Returns:
        Last validation score of the EMA weights.
    Raises:
        UserError: the folder has another run, data cannot be read, or a loss is not finite.
        KeyboardInterrupt: SIGINT or SIGTERM was received; the state was saved.
    """
    check_split(config.micro_batches, processes)
    with closing(RunFolder(output, job.model, processes, job.stage.build)) as folder:
        folder.claim({"model": job.model.to_dict(), "train": asdict(config), **job.options}, change=change_options)
        network = job.stage.network(config, processes.device, compile=run.compile_network)
        network = distribute(network, processes, run.parallel)
        training = Training(network, make_optimizer(network, config), Average(network))
        if folder.load(training) and processes.first:
            logger.info("resuming at step %d", training.step)
        first = training.step * config.micro_batches + processes.rank
        numbers = range(first, config.steps * config.micro_batches, processes.count)
        watch = _Watch(folder, config, run, job.stage, training)
        with stop_requests() as stop_requested:
            examples = read_ahead(job.source, numbers, workers=run.workers)
            _steps(training, zip(numbers, examples), config, run, watch, stop_requested)
        return watch.finish(training)


def _steps(
    training: Training,
    numbered: Iterator[tuple[int, Any]],
    config: TrainConfig,
    run: RunConfig,
    watch: "_Watch",
    stop_requested: Callable[[], bool],
) -> None:
    """Run all remaining steps."""
    processes = watch.folder.processes
    guard = NonFiniteGuard(watch.folder.path / "not_finite", run, processes)
    own_micro_batches = config.micro_batches // processes.count
    while training.step < config.steps:
        mine = [(number, to_device(examples, processes.device)) for number, examples in islice(numbered, own_micro_batches)]
        outcome = training_step(
            training, [examples for _, examples in mine], config, processes, loss=watch.stage.loss, stop=stop_requested()
        )
        if outcome.finite:
            guard.in_a_row = 0
            watch.meter.add(outcome.figures, outcome.pairs)
        else:
            suspects = [Suspect(n, examples, ok) for (n, examples), ok in zip(mine, outcome.finite_losses, strict=True)]
            guard.failed(training.step, config.micro_batch, suspects)
        training.step += 1
        watch.after_step(training)
        if outcome.stop and training.step < config.steps:
            watch.save(training)
            watch.curves.close()
            raise KeyboardInterrupt


@dataclass(frozen=True)
class StepResult:
    """Result of one step, equal on every process except `finite_losses`."""

    figures: dict[str, float]  # parts of the loss, averaged over all micro-batches, and the gradient norm
    finite: bool  # whether loss and gradient are finite, so that the weights were updated
    finite_losses: list[bool]  # whether the loss is finite, for each micro-batch of this process
    pairs: int  # number of pairs in the step, over all processes
    stop: bool  # whether any process received a stop request


def training_step(
    training: Training,
    micro_batches: Sequence[Any],
    config: TrainConfig,
    processes: Processes,
    *,
    loss: Callable[[nn.Module, Any, TrainConfig], Any] | None = None,
    stop: bool = False,
) -> StepResult:
    """Run one optimiser step on the mean loss of all micro-batches of all processes.

    Each micro-batch has its own normalised loss and every process has equally many, so the gradient does not depend on the number
    of processes. If the loss or the gradient is not finite, the weights are not updated.
    """
    network, optimizer = training.network, training.optimizer
    network.train()
    optimizer.zero_grad(set_to_none=True)
    figures = []
    for position, examples in enumerate(micro_batches):
        with gradients_shared(network, position == len(micro_batches) - 1):
            parts = (loss or compute_loss)(network, examples, config)
            (parts.total / len(micro_batches)).backward()
        figures.append(loss_figures(parts))
    names, table = list(figures[0]), torch.stack([torch.stack(list(row.values())) for row in figures])
    pairs = float(sum(len(examples) for examples in micro_batches))
    shared = processes.mean(torch.cat([table.mean(0), table.new_tensor([pairs, float(stop)])])).tolist()
    norm = float(whole(nn.utils.clip_grad_norm_([p for p in network.parameters() if p.requires_grad], config.clip_norm)))
    finite = math.isfinite(norm) and math.isfinite(shared[names.index("total")])
    if finite:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(training.step, config) * group.get("rate", 1.0)
        optimizer.step()
        training.average.update(average_decay(training.step, config.average))
    return StepResult(
        figures=dict(zip(names, shared)) | {"gradient_norm": norm},
        finite=finite,
        finite_losses=table[:, names.index("total")].isfinite().tolist(),
        pairs=round(shared[-2] * processes.count),
        stop=shared[-1] > 0,
    )


def compute_loss(network: nn.Module, examples: Examples, config: TrainConfig) -> LossParts:
    """Compute the loss of a micro-batch; `total` is differentiable."""
    maps = predict(network, examples, config.precision)
    asked = config.loss.motion_weight or config.loss.anchor_weight
    anchor = _anchor(maps.tracking, examples) if asked else None
    return objective(maps, examples.supervision, config.loss, predicted_anchor=anchor)


def _anchor(first: Pointmap, examples: Examples) -> Pointmap:
    """Tracking points at the anchor time for each pair, from the first pair of its clip."""
    frames = examples.supervision.frames_per_clip
    if not torch.equal(examples.anchor_index[::frames], examples.frame_index[::frames]):
        raise UserError("a loss with a motion or anchor term needs clips that begin with the pair (anchor, anchor)")
    assert first.confidence is not None
    points, confidence = (m[::frames].repeat_interleave(frames, dim=0) for m in (first.points_world, first.confidence))
    return Pointmap(points, confidence)


def loss_figures(parts: Any) -> dict[str, Tensor]:
    """Scalar parts of a loss by name, detached."""
    values = {each.name: getattr(parts, each.name) for each in fields(parts)}
    return {name: value.detach().float() for name, value in values.items() if isinstance(value, Tensor) and value.ndim == 0}


def pretrained_weights(network: nn.Module) -> list[nn.Parameter]:
    """Parameters of convolutional backbones, which are initialised from an image classifier."""
    backbones = (module for module in network.modules() if isinstance(module, EfficientNetLite0))
    return [parameter for backbone in backbones for parameter in backbone.parameters()]


def make_optimizer(network: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW on trainable parameters with weight decay on matrices only, as in the release."""
    learns = [p for p in network.parameters() if p.requires_grad]
    pretrained = {id(p): p for p in pretrained_weights(network) if p.requires_grad}
    learns = [p for p in learns if id(p) not in pretrained]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in learns if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in learns if p.ndim < 2], "weight_decay": 0.0},
    ]
    for parameter in pretrained.values():  # after folding batch norm, scales differ a hundredfold between layers
        scale = float(parameter.detach().square().mean().sqrt()) if parameter.ndim >= 2 else PRETRAINED_BIAS
        rate = config.pretrained_rate * max(scale, 1e-3)
        groups.append({"params": [parameter], "weight_decay": 0.0, "rate": rate})
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.95), fused=True)


def learning_rate(step: int, config: TrainConfig) -> float:
    """Learning rate of a step: linear warm-up, then half-cosine decay to the final rate."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    share = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return config.final_learning_rate + (config.learning_rate - config.final_learning_rate) * share


class _Watch:
    """Periodic actions of a run: progress report and curves, validation and images, saving the state."""

    def __init__(self, folder: RunFolder, config: TrainConfig, run: RunConfig, stage: Stage, training: Training) -> None:
        self.folder, self.config, self.run, self.stage = folder, config, run, stage
        self.meter = Meter(training.step)
        self.curves = Curves(folder.path if folder.processes.first else None, training.step)
        self.score: StageScore | None = None

    def after_step(self, training: Training) -> None:
        """Run the actions that are due after `training.step` steps."""
        step, last = training.step, training.step == self.config.steps
        if step % self.run.report_every == 0 or last:
            self._report(step)
        if step % self.run.validate_every == 0 or last:
            self._validate(training)
        if step % self.run.save_every == 0 or last:
            self.save(training)

    def save(self, training: Training) -> None:
        """Save the state and the EMA weights."""
        self.folder.save(training)
        self._save_weights(training, "model")

    def finish(self, training: Training) -> StageScore:
        """Return the last score. A run that was complete is validated and saved now: it may have been killed before that."""
        if self.score is None:
            self._validate(training)
            self._save_weights(training, "model")
        self.curves.close()
        assert self.score is not None
        return self.score

    def _report(self, step: int) -> None:
        means = self.meter.means()
        self.curves.figures("train", means | {"learning_rate": learning_rate(step - 1, self.config)}, step)
        self.folder.log({"step": step, **means})
        if self.folder.processes.first:
            logger.info("%s", self.meter.line(step, means, self.config))

    def _validate(self, training: Training) -> None:
        network, precision, device = training.network, self.config.precision, self.folder.processes.device
        with training.average.in_place():
            self.score = self.stage.validate(network, device, precision)
            pictures = self.stage.pictures(network, device, precision)
        for number, picture in enumerate(pictures):
            self.curves.picture(f"held_out_{number}", picture, training.step)
        metrics = asdict(cast(Any, self.score))
        self.curves.figures("held_out", metrics, training.step)
        self.folder.log({"step": training.step, "score": metrics})
        if self.folder.processes.first:
            logger.info("step %d, held out: %s", training.step, self.score)
        if self.score.overall > training.best:
            training.best = self.score.overall
            self._save_weights(training, "best")

    def _save_weights(self, training: Training, name: str) -> None:
        info = {"training": f"step {training.step} of {self.config.steps}"}
        self.folder.save_weights(training, name, dtype=getattr(torch, self.run.save_dtype), info=info)
