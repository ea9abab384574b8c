"""Optimisation loop of an adaptation, with periodic held-out measurement, selection of the best weights and saved state."""

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from st4rtrack.adapt.batches import Batch, batch
from st4rtrack.adapt.config import AdaptConfig, Freeze
from st4rtrack.adapt.inputs import AdaptVideo
from st4rtrack.adapt.measure import Measurement, measure
from st4rtrack.adapt.objective import step_loss
from st4rtrack.adapt.state import Learning, load_state, save_state
from st4rtrack.losses.adaptation import AdaptationLoss
from st4rtrack.model.network import St4RTrack
from st4rtrack.types import UserError

logger = logging.getLogger(__name__)

LEAST_GAIN = 0.002
"""Minimum relative decrease of the held-out error that counts as improvement; smaller changes are seed noise."""

MOST_SKIPPED = 10
"""Maximum number of consecutive steps skipped for a non-finite loss or gradient."""


def adapt(
    model: St4RTrack,
    videos: Sequence[AdaptVideo],
    config: AdaptConfig,
    loss: AdaptationLoss,
    *,
    frames: Sequence[int],
    state: Path,
    options: dict[str, Any],
    progress: Callable[[int, int], None] | None = None,
) -> Learning:
    """Adapt a network to videos, or resume from the file `state`.

    Args:
        model: base model, float32; trained in place, ends with the best weights.
        videos: prepared with this model.
        config: configuration of the optimisation.
        loss: weights and form of the loss.
        frames: frames per step of each video.
        state: file of an unfinished adaptation; the caller removes it once the result is saved.
        options: plain values that affect the result, compared on resume.
        progress: called with (steps done, total steps).
    Returns:
        Trained parameters with their history. `best_step` 0 is the base model.
    Raises:
        UserError: no focal length fits the anchor pointmap, or the state belongs to another adaptation.
        KeyboardInterrupt: passed on; the saved state is that of the last measurement.
    """
    parameters = learning_parameters(model, config.freeze)
    learning = Learning(parameters, make_optimizer(parameters, config), {})
    learning.keep_best()
    with messages_once("st4rtrack.pipeline.cameras"):
        if load_state(state, learning, options):
            logger.info("resuming at step %d", learning.progress.step)
        else:
            _measure(model, videos, frames, config, learning)
            save_state(state, learning, options)
        while not _ended(learning, config):
            _step(model, videos, frames, config, loss, learning)
            if learning.progress.step % config.measure_every == 0 or learning.progress.step == config.steps:
                _measure(model, videos, frames, config, learning)
                save_state(state, learning, options)
            if progress:
                progress(learning.progress.step, config.steps)
    learning.take_best()
    model.eval()
    return learning


def _ended(learning: Learning, config: AdaptConfig) -> bool:
    now = learning.progress
    return now.step >= config.steps or now.waited >= config.patience or now.skipped > MOST_SKIPPED


def _step(
    model: St4RTrack,
    videos: Sequence[AdaptVideo],
    frames: Sequence[int],
    config: AdaptConfig,
    loss: AdaptationLoss,
    learning: Learning,
) -> None:
    """Run one optimiser step; skip the update if the loss or its gradient is not finite."""
    start, now = time.monotonic(), learning.progress
    chosen = batch(now.step, [len(v.inputs) for v in videos], [v.moving[~v.held_out] for v in videos], list(frames), config)
    model.train()
    learning.optimizer.zero_grad(set_to_none=True)
    found = _loss(model, videos[chosen.video], chosen, config, loss)
    finite, norm = False, math.nan
    if math.isfinite(float(found.total.detach())):
        found.total.backward()
        norm = float(nn.utils.clip_grad_norm_(learning.parameters.values(), config.clip_norm))
        finite = math.isfinite(norm)
    if finite:
        for group in learning.optimizer.param_groups:
            group["lr"] = learning_rate(now.step, config)
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
    now.steps.append(
        {
            "step": now.step,
            "video": chosen.video,
            "total": float(found.total.detach()),
            **found.parts,
            "gradient_norm": norm,
            "cameras_not_found": found.cameras_not_found,
        }
    )


def _loss(model: St4RTrack, video: AdaptVideo, chosen: Batch, config: AdaptConfig, loss: AdaptationLoss) -> Any:
    try:
        return step_loss(model, video, chosen, config, loss)
    except torch.OutOfMemoryError:
        raise UserError(
            f"{len(chosen.frames)} frames of {video.inputs.name} do not fit into the memory of {model.device}; "
            "reduce --batch-size or --size"
        ) from None


def _measure(
    model: St4RTrack, videos: Sequence[AdaptVideo], frames: Sequence[int], config: AdaptConfig, learning: Learning
) -> Measurement:
    """Measure the held-out tracks and keep the weights if they are the best."""
    start, now = time.monotonic(), learning.progress
    model.eval()
    found = measure(model, videos, frames, config.precision)
    now.measurements.append({"step": now.step, **found.to_dict()})
    if found.error_px < now.best_error * (1 - LEAST_GAIN):
        now.best_error, now.best_step, now.waited = found.error_px, now.step, 0
        learning.keep_best()
    else:
        now.waited += 1
    now.seconds += time.monotonic() - start
    logger.info("step %d: track error %.3f px held out, %.3f px training", now.step, found.error_px, found.learnt_px)
    return found


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


def learning_parameters(model: St4RTrack, freeze: Freeze) -> dict[str, nn.Parameter]:
    """Select the trainable parameters and freeze the rest, always including the encoder, whose output is precomputed.

    Returns:
        Trainable parameters by their name in `model.state_dict()`.

    Source: paper section 3.3 (the reconstruction branch is frozen). Parts shared by both branches (embeddings, the last norm) are
    frozen with it; the release's option of that name trains them.
    """
    model.requires_grad_(False)
    learning: list[nn.Module] = [model.decoder.tracking_blocks, model.tracking_head]
    if freeze == "encoder":
        learning = [model.decoder, model.tracking_head, model.reconstruction_head]
    for module in learning:
        module.requires_grad_(True)
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def make_optimizer(parameters: dict[str, nn.Parameter], config: AdaptConfig) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices only, as in the release."""
    groups = [
        {"params": [p for p in parameters.values() if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters.values() if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.95))


def learning_rate(step: int, config: AdaptConfig) -> float:
    """Learning rate of a step: linear warm-up, then half-cosine decay to `final_share` of the peak."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = min(1.0, (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps))
    return config.learning_rate * (config.final_share + (1 - config.final_share) * 0.5 * (1 + math.cos(math.pi * progress)))
