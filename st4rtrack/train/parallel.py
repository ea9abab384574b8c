"""One process or many: PyTorch's own data parallelism under `torchrun`, whole copies (DDP) or shares (FSDP2).

Nothing else in training asks how many processes there are: with one, the functions here do nothing.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from st4rtrack.model.device import choose_device
from st4rtrack.model.layers import DecoderBlock, EncoderBlock
from st4rtrack.types import UserError


@dataclass(frozen=True)
class Processes:
    """This process among those that train together.

    Attributes:
        rank, count: which of how many.
        device: where this one computes.
    """

    rank: int
    count: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this is the one that writes files and speaks."""
        return self.rank == 0

    def mean(self, values: Tensor) -> Tensor:
        """Mean of a tensor over the processes."""
        if self.count > 1:
            values = values.clone()
            dist.all_reduce(values)
            values /= self.count
        return values

    def gather(self, value: Any) -> list[Any]:
        """Small values of all processes, in order of rank."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value)
        return values

    def from_first(self, value: Any) -> Any:
        """A small value of the first process."""
        return self.gather(value)[0]


@contextmanager
def joined(device: str) -> Iterator[Processes]:
    """The processes that `torchrun` started, or this one alone.

    Args:
        device: "auto" or a PyTorch device; of several GPUs each process takes its own.
    Raises:
        UserError: no such device.
    """
    count, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    chosen = choose_device(device)
    if chosen.type == "cuda" and chosen.index is None:
        chosen = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
        torch.cuda.set_device(chosen)
    if count > 1:
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    try:
        yield Processes(rank, count, chosen)
    finally:
        if count > 1:
            dist.destroy_process_group()


def distribute(network: nn.Module, processes: Processes, kind: Literal["ddp", "fsdp"]) -> nn.Module:
    """The network with gradients that are means over the processes.

    With "fsdp" every block is a unit that is gathered when it is needed; the rest is one more.

    Raises:
        UserError: this PyTorch has no FSDP2.
    """
    if processes.count == 1:
        return network
    if kind == "ddp":
        return DistributedDataParallel(network, gradient_as_bucket_view=True)
    try:
        from torch.distributed.fsdp import fully_shard
    except ImportError:
        raise UserError("--parallel fsdp needs PyTorch 2.6 or later; use --parallel ddp") from None
    mesh = init_device_mesh(processes.device.type, (processes.count,))
    for module in network.modules():
        if isinstance(module, (EncoderBlock, DecoderBlock)):
            fully_shard(module, mesh=mesh)
    # The outermost unit is given up after a forward pass too: weights that are exchanged for their average must be gathered again.
    fully_shard(network, mesh=mesh, reshard_after_forward=True)
    return network


@contextmanager
def gradients_shared(network: nn.Module, share: bool) -> Iterator[None]:
    """Whether the backward pass inside exchanges gradients, or only adds to this process's own (accumulation)."""
    if hasattr(network, "set_requires_gradient_sync"):  # FSDP adds it
        cast(Any, network).set_requires_gradient_sync(share)
    with network.no_sync() if isinstance(network, DistributedDataParallel) and not share else nullcontext():
        yield


def own_part(tensor: Tensor) -> Tensor:
    """What this process holds of a parameter, sharing its memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """A value that may lie in shares, put together."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def check_split(micro_batches: int, processes: Processes) -> None:
    """Each process takes the same number of micro-batches of a step.

    Raises:
        UserError: they do not split.
    """
    if micro_batches % processes.count:
        raise UserError(
            f"{micro_batches} micro-batches per step do not split over {processes.count} processes; "
            f"choose --batch-size and --micro-batch so that their ratio is a multiple of {processes.count}"
        )
