"""The training loop: draw, predict, compare, step; average the weights; save so that a stopped run goes on at the same step."""

import copy
import json
import logging
import math
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from st4rtrack.losses.regression import LossParts, anchored_regression
from st4rtrack.model.checkpoint import save_model
from st4rtrack.model.config import ModelConfig
from st4rtrack.model.network import St4RTrack
from st4rtrack.train.batch import Batch
from st4rtrack.train.config import TrainConfig
from st4rtrack.train.pool import PairPool, make_batch
from st4rtrack.train.validate import Score, mean_pointmaps, validate, validate_constant, validate_still
from st4rtrack.types import Pointmap, TwoPointmaps

logger = logging.getLogger(__name__)


def train(model_config: ModelConfig, config: TrainConfig, *, pool: Path, validation: Path, output: Path) -> Score:
    """Train a network from scratch on a pool of pairs, or go on with the run that `output` holds.

    Args:
        model_config: the network.
        config: the optimisation.
        pool: folder of shards to train from; may still be growing.
        validation: folder of shards to measure on; made from other seeds.
        output: folder for `state.pt` (to go on), `model.safetensors` (averaged weights), `log.jsonl` and `train.json`.
    Returns:
        The last validation score of the averaged weights.
    """
    output.mkdir(parents=True, exist_ok=True)
    (output / "train.json").write_text(json.dumps({"model": model_config.to_dict(), "train": asdict(config)}, indent=1))
    torch.manual_seed(config.seed)
    model = St4RTrack(model_config)
    initialise(model)
    average = copy.deepcopy(model)
    optimizer = make_optimizer(model, config)
    step, pairs = _resume(output / "state.pt", model, average, optimizer)
    draws = PairPool(pool, seed=config.seed + 1 + step, still_share=config.still_share)
    held_out = validation_batches(validation)
    score = Score(*[math.nan] * 6)
    meter = _Meter(step)
    while step < config.steps:
        batch = draws.draw(config.batch_size)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, config)
        parts = training_step(model, optimizer, batch, config)
        step, pairs = step + 1, pairs + len(batch.unit)
        _average_weights(average, model, min(config.average, (1 + step) / (10 + step)))
        meter.add(parts)
        if step % 100 == 0:
            logger.info("%s", meter.line(step, pairs, config))
        if step % config.validate_every == 0 or step == config.steps:
            score = validate(average, held_out)
            _log(output, {"step": step, "pairs": pairs, "score": asdict(score)})
            logger.info("step %d, %d pairs: %s", step, pairs, score)
        if step % config.save_every == 0 or step == config.steps:
            _save(output, step, pairs, model, average, optimizer)
    return score


def training_step(model: St4RTrack, optimizer: torch.optim.Optimizer, batch: Batch, config: TrainConfig) -> LossParts:
    """One optimiser step.

    Raises:
        FloatingPointError: the loss is not finite; the weights are as they were.
    """
    model.train()
    with torch.autocast(model.device.type, torch.bfloat16):
        anchor, frame = model.encode(batch.anchor_images), model.encode(batch.frame_images)
        out = model.decode(anchor, frame, batch.hints if model.config.hints else None)
    halved = TwoPointmaps(_every_second(out.tracking), _every_second(out.reconstruction))
    parts = anchored_regression(
        halved, batch.truth, batch.unit, alpha=config.alpha, moving=batch.moving, moving_weight=config.moving_weight
    )
    if not torch.isfinite(parts.total):
        raise FloatingPointError(f"the loss is {parts.total.item()}; the weights are those of the last step")
    optimizer.zero_grad(set_to_none=True)
    parts.total.backward()
    nn.utils.clip_grad_norm_(model.parameters(), config.clip_norm)
    optimizer.step()
    return parts


def initialise(model: St4RTrack) -> None:
    """Xavier weights, and heads that start near zero, so that a network with hints starts as its skeleton."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    for head in (model.tracking_head, model.reconstruction_head):
        nn.init.normal_(head.out.weight, std=0.01)
        if head.out.bias is not None:
            nn.init.zeros_(head.out.bias)


def make_optimizer(model: nn.Module, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW with decay on matrices only, as the release trains."""
    parameters = list(model.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.95), fused=True)


def learning_rate(step: int, config: TrainConfig) -> float:
    """Linear warm-up, then half a cosine down to the final rate."""
    if step < config.warmup_steps:
        return config.learning_rate * (step + 1) / config.warmup_steps
    progress = (step - config.warmup_steps) / max(1, config.steps - config.warmup_steps)
    share = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
    return config.final_learning_rate + (config.learning_rate - config.final_learning_rate) * share


def validation_batches(folder: Path) -> list[Batch]:
    """Every pair of a pool once, frame 0 as the anchor, unchanged."""
    batches = []
    for path in sorted(folder.glob("*.npy")):
        records = np.load(path)
        count = len(records)
        batches.append(make_batch(records, np.zeros(count, int), np.zeros(count, bool), mirror=False))
    return batches


def baselines(pool: Path, validation: Path) -> dict[str, Score]:
    """What needs no training, on the validation pairs: the mean pointmap of the training data, and true points without motion."""
    held_out = validation_batches(validation)
    mean = mean_pointmaps(np.load(path, mmap_mode="r") for path in sorted(pool.glob("*.npy")))
    return {"mean pointmap": validate_constant(mean, held_out), "true first depth, no motion": validate_still(held_out)}


def _every_second(pointmap: Pointmap) -> Pointmap:
    assert pointmap.confidence is not None
    return Pointmap(pointmap.points_world[:, ::2, ::2], pointmap.confidence[:, ::2, ::2])


@torch.no_grad()
def _average_weights(average: nn.Module, model: nn.Module, decay: float) -> None:
    torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)


class _Meter:
    """Running means for the progress line."""

    def __init__(self, step: int) -> None:
        self.start, self.first_step = time.monotonic(), step
        self.errors: Tensor | None = None

    def add(self, parts: LossParts) -> None:
        now = torch.stack([parts.tracking_error, parts.reconstruction_error])
        self.errors = now if self.errors is None else self.errors.lerp(now, 0.02)

    def line(self, step: int, pairs: int, config: TrainConfig) -> str:
        assert self.errors is not None
        seconds = (time.monotonic() - self.start) / max(1, step - self.first_step)
        left = seconds * (config.steps - step)
        tracking, reconstruction = self.errors.tolist()
        rate = config.batch_size / seconds
        return (
            f"step {step}/{config.steps}, {pairs} pairs, error tracking {tracking:.4f} reconstruction {reconstruction:.4f}, "
            f"{rate:.1f} pairs/s, {left / 60:.0f} min left"
        )


def _log(output: Path, row: dict) -> None:
    with (output / "log.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")


def _save(output: Path, step: int, pairs: int, model: St4RTrack, average: St4RTrack, optimizer: torch.optim.Optimizer) -> None:
    state = {
        "step": step,
        "pairs": pairs,
        "model": model.state_dict(),
        "average": average.state_dict(),
        "optimizer": optimizer.state_dict(),
    }
    torch.save(state, output / "state.partial")
    (output / "state.partial").replace(output / "state.pt")
    save_model(average, output / "model.partial", dtype=torch.float16)
    (output / "model.partial").replace(output / "model.safetensors")


def _resume(path: Path, model: nn.Module, average: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[int, int]:
    if not path.exists():
        return 0, 0
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    average.load_state_dict(state["average"])
    optimizer.load_state_dict(state["optimizer"])
    logger.info("going on at step %d", state["step"])
    return state["step"], state["pairs"]
