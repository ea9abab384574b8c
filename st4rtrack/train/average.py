"""The exponential average of the weights: smoother than the last ones, and what is measured and saved for use."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from st4rtrack.train.parallel import own_part


class Average:
    """Of the parameters that learn; of a network in shares, each process averages its own."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.values = [part.clone() for part in self._parts()]

    @torch.no_grad()
    def update(self, decay: float) -> None:
        """average <- decay * average + (1 - decay) * weights."""
        torch._foreach_lerp_(self.values, self._parts(), 1 - decay)

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The network has the averaged weights inside, and exactly its own again afterwards."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    @torch.no_grad()
    def copy_from_network(self) -> None:
        """The average starts at the network's weights."""
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
    """Shorter at the start, so that the first random weights are soon forgotten."""
    return min(decay, (1 + step) / (10 + step))
