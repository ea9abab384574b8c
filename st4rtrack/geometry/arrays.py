"""The little that NumPy and PyTorch spell differently. PyTorch is imported only for tensors: scoring and scenes do without it."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    import torch

ArrayT = TypeVar("ArrayT", np.ndarray, "torch.Tensor")


def concatenate(parts: Sequence[ArrayT], axis: int) -> ArrayT:
    """Arrays of one kind joined along an axis; leading axes must agree."""
    if isinstance(parts[0], np.ndarray):
        return np.concatenate(parts, axis=axis)
    import torch

    return torch.cat(list(parts), dim=axis)  # pyright: ignore[reportArgumentType]
