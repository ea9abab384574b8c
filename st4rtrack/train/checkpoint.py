"""Output folder of a training run: options, state, weights and training log.

The state is unsharded, so that a run can resume with another number of processes. Rank 0 writes it to a temporary file first: a
run that is killed at any moment resumes from the last complete state.
"""

import json
import logging
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from st4rtrack.io.files import whole_file, write_whole
from st4rtrack.io.lock import FolderLock
from st4rtrack.io.text import differences
from st4rtrack.model.checkpoint import save_model
from st4rtrack.model.config import ModelConfig
from st4rtrack.model.network import St4RTrack
from st4rtrack.train.parallel import Processes, own_part
from st4rtrack.types import UserError

logger = logging.getLogger(__name__)

VERSION = 1
_PREFIX = "model."  # parameter name prefix in a PairNetwork


class Average:
    """EMA of the trainable parameters; if the network is sharded, each process averages its shard."""

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


@dataclass
class Training:
    """Mutable state of a training run."""

    network: nn.Module  # a `PairNetwork`, distributed or not
    optimizer: torch.optim.Optimizer  # optimiser of the trainable parameters
    average: Average  # EMA of the trainable parameters
    step: int = 0  # optimiser steps done
    best: float = float("-inf")  # best validation score so far


class RunFolder:
    """Output folder of a run.

    It has `train.json`, `state.pt`, `log.jsonl` and EMA weights: `model.safetensors` (last), `best.safetensors` (validation)."""

    def __init__(self, path: Path, config: ModelConfig, processes: Processes, build: Callable[[], nn.Module]) -> None:
        self.path, self.config, self.processes, self._build = path, config, processes, build
        self._lock: FolderLock | None = None

    def close(self) -> None:
        """Release the folder lock."""
        if self._lock is not None:
            self._lock.release()

    def claim(self, options: dict[str, Any], *, change: bool) -> None:
        """Lock the folder until `close`, and write the options, or compare them with those of the run in it.

        Args:
            options: everything that determines the weights; plain values.
            change: resume even if the options differ; the change is logged.
        Raises:
            UserError: the folder has another run, or another process writes to it.
        """
        self.processes.on_first(lambda: self._claim(json.loads(json.dumps(options)), change))

    def _claim(self, options: dict[str, Any], change: bool) -> None:
        path = self.path / "train.json"
        if self.path.exists() and not self.path.is_dir():
            raise UserError(f"{self.path} is a file; pass an output folder with -o")
        self.path.mkdir(parents=True, exist_ok=True)
        self._lock = FolderLock(self.path)
        if path.exists():
            try:
                before = json.loads(path.read_text())
            except (json.JSONDecodeError, UnicodeDecodeError):
                raise UserError(f"could not read {path}; choose another folder with -o") from None
            if changes := differences(before, options):
                if not change:
                    raise UserError(
                        f"{self.path} has a run with other options: {changes[0]}; choose another folder with -o, "
                        "or resume with the new ones with --change-options"
                    )
                self.log({"changed": changes})
        elif (self.path / "state.pt").exists():
            raise UserError(f"{self.path} has state.pt but no train.json; choose another folder with -o")
        write_whole(path, (json.dumps(options, indent=1) + "\n").encode())

    def log(self, row: dict[str, Any]) -> None:
        """Append a row to the training log."""
        if self.processes.first:
            with (self.path / "log.jsonl").open("a") as file:
                file.write(json.dumps(row) + "\n")

    def save(self, training: Training) -> None:
        """Save the state; every process must call it."""
        model = _weights(training.network)
        optimizer = get_optimizer_state_dict(training.network, training.optimizer, options=_WHOLE)
        learns = {_plain(name) for name, parameter in training.network.named_parameters() if parameter.requires_grad}
        with training.average.in_place():
            average = {name: value for name, value in _weights(training.network).items() if name in learns}
        if not self.processes.first:
            return
        state = {
            "version": VERSION,
            "config": self.config.to_dict(),
            "step": training.step,
            "best": training.best,
            "model": model,
            "average": average,
            "optimizer": optimizer,
        }
        with whole_file(self.path / "state.pt") as file:
            torch.save(state, file)

    def save_weights(self, training: Training, name: str, *, dtype: torch.dtype, info: dict[str, str] | None = None) -> None:
        """Save the EMA weights as a checkpoint for `load_model`; every process must call it."""
        with training.average.in_place():
            weights = _weights(training.network)
        if not self.processes.first:
            return
        with torch.device("meta"):
            model = cast(St4RTrack, self._build())
        model.load_state_dict({key.removeprefix(_PREFIX): value for key, value in weights.items()}, assign=True)
        partial = self.path / f"{name}.partial"
        save_model(model, partial, dtype=dtype, info=info)
        partial.replace(self.path / f"{name}.safetensors")

    def load(self, training: Training) -> bool:
        """Load the saved state, if any; every process must call it.

        Returns:
            Whether there was a state.
        Raises:
            UserError: the state is damaged, or of another configuration.
        """
        state: dict[str, Any] = {}  # on rank 0 only

        def read() -> tuple[int, float] | None:
            if not (self.path / "state.pt").exists():
                return None
            state.update(self._read())
            return state["step"], state["best"]

        progress = self.processes.on_first(read)
        if progress is None:
            return False
        options = StateDictOptions(full_state_dict=True, broadcast_from_rank0=self.processes.count > 1)
        set_model_state_dict(training.network, {**state.get("model", {}), **state.get("average", {})}, options=options)
        training.average.copy_from_network()
        set_model_state_dict(training.network, state.get("model", {}), options=options)
        set_optimizer_state_dict(training.network, training.optimizer, state.get("optimizer", {}), options=options)
        training.step, training.best = progress
        return True

    def _read(self) -> dict[str, Any]:
        path = self.path / "state.pt"
        try:
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError):
            raise UserError(f"could not read {path} as the state of a run; remove it to restart") from None
        if not isinstance(state, dict) or state.get("version") != VERSION:
            raise UserError(f"{path} was not written by this version of st4rtrack; choose another folder with -o")
        if changes := differences(state["config"], self.config.to_dict()):
            raise UserError(f"{path} is the state of another network: {changes[0]}; choose another folder with -o")
        return state


_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


def _weights(network: nn.Module) -> dict[str, Tensor]:
    """Unsharded weights on the CPU; only on rank 0 of several processes."""
    state = get_model_state_dict(network, options=_WHOLE)
    return {name: value.clone() for name, value in state.items() if isinstance(value, Tensor)}


def _plain(name: str) -> str:
    """Parameter name without the prefixes of wrappers."""
    return name.removeprefix("module.").replace("_orig_mod.", "")
