"""All that changes during an adaptation, and its file: one that is killed at any moment goes on from the last complete one.

The file is beside the output and is gone when the output is there.
"""

import json
import pickle
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from st4rtrack.io.files import whole_file
from st4rtrack.io.json_text import differences
from st4rtrack.types import UserError

VERSION = 1


@dataclass
class Progress:
    """How far an adaptation is.

    Attributes:
        step: optimiser steps done.
        best_step, best_error: where the held-out error was least, and how much it was; step 0 is the base.
        waited: measurements since then.
        skipped: steps in a row whose loss or gradient was not finite.
        steps: a row per step, plain values: parts of the loss, norm of the gradient, cameras that were not found.
        measurements: a row per measurement on the held-out tracks.
        seconds: that steps and measurements took, over all runs.
    """

    step: int = 0
    best_step: int = 0
    best_error: float = float("inf")
    waited: int = 0
    skipped: int = 0
    steps: list[dict[str, Any]] = field(default_factory=list)
    measurements: list[dict[str, Any]] = field(default_factory=list)
    seconds: float = 0.0


@dataclass
class Learning:
    """What learns.

    Attributes:
        parameters: by name, those that are not frozen.
        optimizer: of them.
        best: their values where the held-out error was least, on the CPU.
        progress: how far it is.
    """

    parameters: dict[str, nn.Parameter]
    optimizer: torch.optim.Optimizer
    best: dict[str, Tensor]
    progress: Progress = field(default_factory=Progress)

    def keep_best(self) -> None:
        """The present values are the best so far."""
        self.best = _on_cpu(self.parameters)

    @torch.no_grad()
    def take_best(self) -> None:
        """The network has the best values."""
        for name, parameter in self.parameters.items():
            parameter.copy_(self.best[name])


def save_state(path: Path, learning: Learning, options: dict[str, Any]) -> None:
    """Writes the state whole or not at all.

    Args:
        options: plain values that decide the result.
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
    """Goes on with the state in a file.

    Returns:
        Whether there was one.
    Raises:
        UserError: it is damaged, or of an adaptation with other options.
    """
    if not path.exists():
        return False
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        before, progress = json.loads(state["options"]), json.loads(state["progress"])
        fits = state["version"] == VERSION and set(state["weights"]) == set(state["best"]) == set(learning.parameters)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError, TypeError):
        raise UserError(
            f"{path} cannot be read as an unfinished adaptation; remove it, or start again with --overwrite"
        ) from None
    changes = differences(before, json.loads(json.dumps(options)))
    if changes or not fits:
        what = changes[0] if changes else "other weights learn"
        raise UserError(f"{path} is an unfinished adaptation with other options: {what}; start again with --overwrite")
    with torch.no_grad():
        for name, parameter in learning.parameters.items():
            parameter.copy_(state["weights"][name])
    learning.best = state["best"]
    learning.optimizer.load_state_dict(state["optimizer"])
    learning.progress = Progress(**progress)
    return True


def _on_cpu(parameters: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    return {name: parameter.detach().to("cpu", copy=True) for name, parameter in parameters.items()}
