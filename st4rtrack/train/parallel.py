"""Data parallelism with PyTorch under `torchrun`: replicated (DDP) or sharded (FSDP2) networks.

The rest of the training code is independent of the number of processes: with one, these functions do nothing.
"""

import os
from collections.abc import Callable, Iterator
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
    """Process group of a training run, as seen from this process."""

    # rank, count: rank of this process and number of processes
    rank: int
    count: int
    device: torch.device  # device of this process

    @property
    def first(self) -> bool:
        """Whether this is rank 0, which writes files and logs."""
        return self.rank == 0

    def mean(self, values: Tensor) -> Tensor:
        """Mean of a tensor over the processes."""
        if self.count > 1:
            values = values.clone()
            dist.all_reduce(values)
            values /= self.count
        return values

    def gather(self, value: Any) -> list[Any]:
        """Gather small objects of all processes, in order of rank."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value)
        return values

    def on_first(self, call: Callable[[], Any]) -> Any:
        """Call a function on rank 0 only; every process gets its result (a small object), or its `UserError`."""
        result: Any = None
        if self.first:
            try:
                result = call()
            except UserError as error:
                result = error
        result = self.gather(result)[0]
        if isinstance(result, UserError):
            raise result
        return result


@contextmanager
def process_group(device: str) -> Iterator[Processes]:
    """Join the process group started by `torchrun`, or use this process only.

    Args:
        device: "auto" or a PyTorch device; with several GPUs each process uses its own.
    Raises:
        UserError: the device does not exist.
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
    """Wrap a network so that gradients are averaged over the processes."""
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
    # reshard the root unit after forward too, so that weights swapped with their average are gathered again
    fully_shard(network, mesh=mesh, reshard_after_forward=True)
    return network


@contextmanager
def gradients_shared(network: nn.Module, share: bool) -> Iterator[None]:
    """Context that synchronises gradients of the backward pass between processes, or only accumulates them locally."""
    if hasattr(network, "set_requires_gradient_sync"):  # FSDP adds it
        cast(Any, network).set_requires_gradient_sync(share)
    with network.no_sync() if isinstance(network, DistributedDataParallel) and not share else nullcontext():
        yield


def own_part(tensor: Tensor) -> Tensor:
    """Local shard of a parameter, sharing its memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def whole(tensor: Tensor) -> Tensor:
    """Gather a possibly sharded tensor."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def check_split(micro_batches: int, processes: Processes) -> None:
    """Check that the micro-batches of a step split evenly over the processes."""
    if micro_batches % processes.count:
        raise UserError(
            f"{micro_batches} micro-batches per step do not split over {processes.count} processes; "
            f"choose --batch-size and --micro-batch so that their ratio is a multiple of {processes.count}"
        )
