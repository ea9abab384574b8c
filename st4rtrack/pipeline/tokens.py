"""Disk cache of encoder tokens in an unnamed file: every image is encoded once, for all its pairs."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from st4rtrack.model.encoder import Tokens


class TokenFile:
    """Tokens by frame index, in the dtype of the network.

    Args:
        num_frames: number of frames of the video.
        folder: on a disk with enough space; default: the folder for temporary files.
    """

    def __init__(self, num_frames: int, folder: Path | None = None) -> None:
        self._have, self._folder = np.zeros(num_frames, bool), folder
        self._bytes: np.ndarray | None = None
        self._like: Tokens | None = None

    def keep(self, indices: Sequence[int], tokens: Tokens) -> None:
        """Store the tokens [frames, ...] of some frames."""
        parts = [tokens.features, *tokens.levels]
        flat = np.concatenate([_as_bytes(part) for part in parts], axis=1)
        if self._bytes is None:
            with tempfile.TemporaryDirectory(
                dir=self._folder, ignore_cleanup_errors=True
            ) as folder:  # the mapping outlives the file name
                self._bytes = np.memmap(Path(folder) / "tokens", np.uint8, mode="w+", shape=(len(self._have), flat.shape[1]))
            self._like = tokens.map(lambda x: x[:1].clone())
        self._bytes[list(indices)] = flat
        self._have[list(indices)] = True

    def find(self, indices: Sequence[int]) -> Tokens | None:
        """Tokens of some frames; `None` unless all are stored."""
        if self._bytes is None or self._like is None or not self._have[list(indices)].all():
            return None
        flat, start = torch.from_numpy(self._bytes[list(indices)]), 0

        def restore(like: Tensor) -> Tensor:
            nonlocal start
            part = flat[:, start : start + like.nbytes].contiguous()
            start += like.nbytes
            return part.view(like.dtype).reshape(len(indices), *like.shape[1:]).to(like.device)

        return self._like.map(restore)


def _as_bytes(part: Tensor) -> np.ndarray:
    """View a tensor [frames, ...] as bytes [frames, bytes]."""
    return part.detach().cpu().contiguous().reshape(len(part), -1).view(torch.uint8).numpy()
