"""The steps of an adaptation: batch, loss, step; every so often what is held out is measured, the best is kept, the state saved."""

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
"""Share by which the held-out error must fall to be a gain: less is the noise of a seed."""

MOST_SKIPPED = 10
"""Steps in a row that may be skipped because a loss or gradient is not finite."""


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
    """Adapts a network to videos, or goes on where `state` says.

    Args:
        model: the base, float32; what learns of it is changed in place, and is the best at the end.
        videos: made ready by this model.
        config: the optimisation.
        loss: what is learnt from.
        frames: of each video per step.
        state: file of an unfinished adaptation; left there, the caller removes it when the result is safe.
        options: plain values that decide the result, compared when an adaptation goes on.
        progress: called with (steps done, steps in all).
    Returns:
        What learnt, with its history. `best_step` 0 is the base itself.
    Raises:
        UserError: the anchor's pointmap fits no camera, or the state is of something else.
        KeyboardInterrupt: passed on; the state is that of the last measurement.
    """
    parameters = learning_parameters(model, config.freeze)
    learning = Learning(parameters, make_optimizer(parameters, config), {})
    learning.keep_best()
    with said_once("st4rtrack.pipeline.cameras"):
        if load_state(state, learning, options):
            logger.info("going on at step %d", learning.progress.step)
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
    """One step; the weights stay as they were where the loss or its gradient is not finite."""
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
        logger.warning("step %d: the loss or its gradient is not finite; the step is skipped", now.step + 1)
    if now.skipped > MOST_SKIPPED:
        logger.warning("%d steps in a row were not finite; the best so far is kept; try a lower --learning-rate", now.skipped)
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
            "give fewer with --batch-size, or a smaller --size"
        ) from None


def _measure(
    model: St4RTrack, videos: Sequence[AdaptVideo], frames: Sequence[int], config: AdaptConfig, learning: Learning
) -> Measurement:
    """Held-out figures; keeps the weights if they are the best."""
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
    logger.info("step %d: held-out tracks are %.3f pixels off, the others %.3f", now.step, found.error_px, found.learnt_px)
    return found


@contextmanager
def said_once(name: str) -> Iterator[None]:
    """What a logger says of the first step need not be said of five hundred."""
    said: set[object] = set()

    def new(record: logging.LogRecord) -> bool:
        known = record.msg in said
        said.add(record.msg)
        return not known

    target = logging.getLogger(name)
    target.addFilter(new)
    try:
        yield
    finally:
        target.removeFilter(new)


def learning_parameters(model: St4RTrack, freeze: Freeze) -> dict[str, nn.Parameter]:
    """Freezes the rest; the encoder and its last norm never learn, since their output is computed once.

    Returns:
        What learns, by its name in `model.state_dict()`.

    Source: paper section 3.3 (the reconstruction branch is frozen). What both branches share (embeddings, the last norm) is frozen
    with it: the release's option of that name leaves it free.
    """
    model.requires_grad_(False)
    learning: list[nn.Module] = [model.decoder.tracking_blocks, model.tracking_head]
    if freeze == "encoder":
        learning = [model.decoder, model.tracking_head, model.reconstruction_head]
    for module in learning:
        module.requires_grad_(True)
    return {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}


def make_optimizer(parameters: dict[str, nn.Parameter], config: AdaptConfig) -> torch.optim.AdamW:
    """AdamW with decay on matrices only, as the release trains."""
    groups = [
        {"params": [p for p in parameters.values() if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters.values() if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.95))


def learning_rate(step: int, config: AdaptConfig) -> float:
    """Linear warm-up, then half a cosine down to `final_share`."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = min(1.0, (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps))
    return config.learning_rate * (config.final_share + (1 - config.final_share) * 0.5 * (1 + math.cos(math.pi * progress)))
