"""Several sources of clips as one."""

from dataclasses import dataclass, field

import numpy as np

from st4rtrack.data.clip import Clip, ClipSource
from st4rtrack.types import UserError


@dataclass(frozen=True)
class Mixture:
    """A `ClipSource` of others, of each as many clips per epoch as is given, in an order that is shuffled anew in every epoch.

    Each source is asked for its own numbers 0, 1, 2, ... over the epochs, none twice.

    Args:
        sources: the others.
        samples_per_epoch: of each.
        seed: of the order.
    Raises:
        UserError: counts and sources do not match, or a count is negative, or all are 0.
    """

    sources: tuple[ClipSource, ...]
    samples_per_epoch: tuple[int, ...]
    seed: int = 0
    total: int = field(init=False)

    def __post_init__(self) -> None:
        if len(self.sources) != len(self.samples_per_epoch) or min(self.samples_per_epoch, default=0) < 0:
            raise UserError(
                f"a mixture of {len(self.sources)} sources needs as many counts >= 0, got {list(self.samples_per_epoch)}"
            )
        object.__setattr__(self, "total", sum(self.samples_per_epoch))
        if not self.total:
            raise UserError("a mixture needs a source with samples; all its weights are 0")

    def clip(self, index: int) -> Clip:
        """Clip `index` >= 0.

        Raises:
            UserError: what its source raises.
        """
        source, number = self.locate(index)
        return self.sources[source].clip(number)

    def locate(self, index: int) -> tuple[int, int]:
        """Which source clip `index` comes from, and its number there."""
        epoch, k = divmod(index, self.total)
        k = int(np.random.default_rng((self.seed, epoch)).permutation(self.total)[k])
        ends = np.cumsum(self.samples_per_epoch)
        source = int(np.searchsorted(ends, k, side="right"))
        count = self.samples_per_epoch[source]
        return source, epoch * count + k - int(ends[source] - count)
