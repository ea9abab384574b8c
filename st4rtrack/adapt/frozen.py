"""What of a network learns, and with which optimiser (the release's)."""

import math

import torch
from torch import nn

from st4rtrack.adapt.config import AdaptConfig, Freeze
from st4rtrack.model.network import St4RTrack


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
