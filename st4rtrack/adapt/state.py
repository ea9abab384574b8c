"""State of an adaptation and its file, from which an adaptation killed at any moment resumes.

The file is next to the output and is removed when the output is complete.
"""

import json
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from st4rtrack.io.files import whole_file
from st4rtrack.io.text import differences
from st4rtrack.types import UserError

VERSION = 2


@dataclass
class Progress:
    """Progress and history of an adaptation.

    Attributes:
        step: optimiser steps done.
        best_step, best_ratio: step with the lowest held-out errors, and their ratio to those of the base model, step 0.
        waited: measurements since then.
        skipped: consecutive steps with a non-finite loss or gradient.
        steps: one row per step, plain values: loss terms, gradient norm, number of unsolved frames.
        measurements: one row per measurement on the held-out tracks.
        seconds: duration of steps and measurements, over all runs.
    """

    step: int = 0
    best_step: int = 0
    best_ratio: float = 1.0
    waited: int = 0
    skipped: int = 0
    steps: list[dict[str, Any]] = field(default_factory=list)
    measurements: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0


@dataclass
class Learning:
    """Trainable parameters with optimiser, best values and progress.

    Attributes:
        parameters: trainable parameters by name.
        optimizer: optimiser of the parameters.
        best: their values at the lowest held-out error, on the CPU.
        progress: progress and history.
    """

    parameters: dict[str, nn.Parameter]
    optimizer: torch.optim.Optimizer
    best: dict[str, Tensor]
    progress: Progress = field(default_factory=Progress)

    def keep_best(self) -> None:
        """Store the current values as the best."""
        self.best = _on_cpu(self.parameters)

    @torch.no_grad()
    def take_best(self) -> None:
        """Copy the best values into the network."""
        for name, parameter in self.parameters.items():
            parameter.copy_(self.best[name])


def save_state(path: Path, learning: Learning, options: dict[str, Any]) -> None:
    """Write the state atomically.

    Args:
        options: plain values that affect the result.
    """
    state = {
        "version": VERSION,
        "options": json.dumps(options),
        "progress": json.dumps(vars(learning.progress)),
        "weights": _on_cpu(learning.parameters),
        "best": learning.best,
        "optimizer": learning.optimizer.state_dict(),
    }
    with whole_file(path) as file:
        torch.save(state, file)


def load_state(path: Path, learning: Learning, options: dict[str, Any]) -> bool:
    """Load the state from a file, if it exists.

    Returns:
        Whether the file existed.
    Raises:
        UserError: the file is damaged, or of an adaptation with other options.
    """
    if not path.exists():
        return False
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        before, progress = json.loads(state["options"]), json.loads(state["progress"])
        fits = state["version"] == VERSION and set(state["weights"]) == set(state["best"]) == set(learning.parameters)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError):
        raise UserError(f"could not read {path} as an unfinished adaptation; remove it, or restart with --overwrite") from None
    changes = differences(before, json.loads(json.dumps(options)))
    if changes or not fits:
        what = changes[0] if changes else "other trainable weights"
        raise UserError(f"{path} is an unfinished adaptation with other options: {what}; restart with --overwrite")
    with torch.no_grad():
        for name, parameter in learning.parameters.items():
            parameter.copy_(state["weights"][name])
    learning.best = state["best"]
    learning.optimizer.load_state_dict(state["optimizer"])
    learning.progress = Progress(**progress)
    return True


def _on_cpu(parameters: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    return {name: parameter.detach().to("cpu", copy=True) for name, parameter in parameters.items()}
