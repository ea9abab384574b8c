"""Operations, memory traffic and peak memory of a network, counted on fake tensors (shapes without data).

Nothing is computed or allocated, so a network of any size can be counted on any machine.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.weak import WeakIdKeyDictionary

from st4rtrack.doctor.stages import NETWORK, batch_of, hooked_network
from st4rtrack.model.config import ModelConfig
from st4rtrack.model.network import St4RTrack
from st4rtrack.model.traceable import traceable_model, weight_shapes


@dataclass(frozen=True)
class Cost:
    """Cost of a computation.

    Attributes:
        flops: operations of matrix products, attention and convolutions; a multiply-add counts as two.
        moved_bytes: bytes read and written by all operations, without caching.
        peak_bytes: peak size of the live tensors, including inputs, excluding weights.
    """

    flops: int
    moved_bytes: int
    peak_bytes: int


class StandIn:
    """Network on fake tensors, which have shapes but no data.

    Args:
        config: configuration of the network.
        dtype: computation type.
        device: target device; it determines the kernels, but nothing is allocated on it.
    """

    def __init__(self, config: ModelConfig, dtype: torch.dtype, device: torch.device) -> None:
        shapes = weight_shapes(config)
        self.device, self._tensors = device, FakeTensorMode()
        with self._tensors:
            weights = {name: torch.empty(shape, dtype=dtype, device=device) for name, shape in shapes.items()}
            self.model = traceable_model(config, weights)
        self.parameters = sum(shape.numel() for shape in shapes.values())
        self.weight_bytes = self.parameters * dtype.itemsize

    def cost(self, call: Callable[[St4RTrack], Any]) -> Cost:
        """Cost of `call(model)`, which makes its own inputs on `device`."""
        with self._tensors, torch.no_grad(), FlopCounterMode(display=False) as flops, _Ledger() as ledger:
            call(self.model)
        return Cost(flops.get_total_flops(), ledger.moved_bytes, ledger.peak_bytes)

    def part_costs(self, call: Callable[[St4RTrack], Any]) -> dict[str, tuple[float, float]]:
        """Operations and bytes moved by each part of the network in `call(model)`, per image or pair."""
        found, given = {part: np.zeros(2) for part in NETWORK}, Counter[str]()
        with self._tensors, torch.no_grad(), FlopCounterMode(display=False) as flops, _Ledger() as ledger:

            def so_far() -> np.ndarray:
                return np.array([flops.get_total_flops(), ledger.moved_bytes])

            def begin(part: str, arguments: tuple[Any, ...]) -> None:
                given[part] += batch_of(arguments)
                found[part] -= so_far()

            def end(part: str) -> None:
                found[part] += so_far()

            with hooked_network(self.model, begin, end):
                call(self.model)
        return {part: tuple((cost / max(given[part], 1)).tolist()) for part, cost in found.items()}


class _Ledger(TorchDispatchMode):
    """Dispatch mode that records every operation: allocated memory until it is freed, and bytes read and written."""

    def __init__(self) -> None:
        super().__init__()
        self.moved_bytes, self.peak_bytes = 0, 0
        self._alive: WeakIdKeyDictionary = WeakIdKeyDictionary()  # storage: bytes; an entry disappears with its storage

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        is_view = any(given.alias_info and not given.alias_info.is_write for given in func._schema.returns)
        if is_view or func.namespace == "prim":  # a view or a query: moves and allocates nothing
            return out
        written = _tensors(out)
        self.moved_bytes += sum(tensor.nbytes for tensor in (*_tensors((args, kwargs)), *written))
        for tensor in written:
            storage = tensor.untyped_storage()
            self._alive[storage] = storage.nbytes()
        self.peak_bytes = max(self.peak_bytes, sum(self._alive.values()))
        return out


def _tensors(values: Any) -> list[Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]
