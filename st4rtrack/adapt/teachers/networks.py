"""Loading of teacher networks from packages that the user has installed. Nothing is bundled or downloaded."""

import importlib
from pathlib import Path
from typing import Any

import torch

from st4rtrack.types import UserError


def import_class(module: str, name: str, fix: str) -> Any:
    """Import a class of another package.

    Raises:
        UserError: the package or one of its requirements is not installed; `fix` says what to install.
    """
    try:
        return getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise UserError(f"could not import {module.partition('.')[0]} ({error}); {fix}") from error


def load_weights(network: Any, path: Path, label: str) -> None:
    """Load a checkpoint, a dictionary of tensors that may be wrapped; nothing in it is executed.

    Raises:
        UserError: the file is not a checkpoint of the network; `label` is its name in the message.
    """
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        state = state.get("model", state.get("state_dict", state))
        network.load_state_dict({key.removeprefix("tapnext."): value for key, value in state.items()})
    except Exception as error:  # a damaged file can raise any exception
        raise UserError(f"{path} is not the checkpoint {label} ({error})".splitlines()[0]) from error
