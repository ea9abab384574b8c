"""Exponential moving average (EMA) of the weights, used for validation and saved for inference."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from st4rtrack.train.parallel import own_part


class Average:
    """EMA of the trainable parameters; of a sharded network, each process averages its shard."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.values = [part.clone() for part in self._parts()]

    @torch.no_grad()
    def update(self, decay: float) -> None:
        """Update: average <- decay * average + (1 - decay) * weights."""
        torch._foreach_lerp_(self.values, self._parts(), 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Swap the averaged weights into the network; restore the exact original weights on exit."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def copy_from_network(self) -> None:
        """Set the average to the network's weights."""
        torch._foreach_copy_(self.values, self._parts())

    @torch.no_grad()
    def _swap(self) -> None:
        for value, part in zip(self.values, self._parts(), strict=True):
            kept = part.clone()
            part.copy_(value)
            value.copy_(kept)

    def _parts(self) -> list[Tensor]:
        return [own_part(parameter.detach()) for parameter in self.network.parameters() if parameter.requires_grad]


def average_decay(step: int, decay: float) -> float:
    """Decay of a step, smaller at the start so that the initial random weights fade quickly."""
    return min(decay, (1 + step) / (10 + step))
