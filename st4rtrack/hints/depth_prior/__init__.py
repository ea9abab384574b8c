"""Depth priors: depth of single frames from a network or files, behind one interface; `open.py` opens them by name."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from st4rtrack.types import UserError

Kind = Literal["depth", "inverse_depth"]
MIN_INVERSE = 0.02
"""Minimum inverse depth, as a share of the largest in the frame: farther points are clamped to it."""
LOG_ERROR = 0.25
"""Expected |log-depth error| after alignment, for providers without an estimate.

A small ONNX teacher has a mean of 0.16, 0.26 and 0.63 on three real sequences, with one scale and shift per frame
(`performance/teacher_depth.py`).
"""


@dataclass(frozen=True)
class PriorDepth:
    """Depth of one frame, up to an alignment that the frame alone does not determine.

    Attributes:
        kind: "depth": z-depth up to scale; "inverse_depth": inverse z-depth up to scale and shift.
        values: [H, W] float32, positive; 0 where unknown.
        log_error: [H, W] float32, expected |log-depth error| after alignment.
        focal_px: focal length in pixels of the frame, or `None`.
    """

    kind: Kind
    values: np.ndarray
    log_error: np.ndarray
    focal_px: float | None = None

    @property
    def depth(self) -> np.ndarray:
        """[H, W] z-depth up to scale, assuming zero shift; the maximum where unknown."""
        known = self.values > 0
        if not known.any():
            return np.ones_like(self.values)
        depth = self.values if self.kind == "depth" else 1 / np.maximum(self.values, MIN_INVERSE * self.values.max())
        return np.where(known, depth, depth[known].max())

    @classmethod
    def of(cls, kind: Kind, values: np.ndarray, rgb: np.ndarray, name: str, focal_px: float | None = None) -> "PriorDepth":
        """Depth from a provider without expected error; non-finite or non-positive values become unknown.

        Raises:
            UserError: the size of the values differs from the frame.
        """
        if values.shape != rgb.shape[:2]:
            raise UserError(
                f"{name} returned depth {list(values.shape)} for a frame {list(rgb.shape[:2])}; use another depth model or file"
            )
        known = np.isfinite(values) & (values > 0)
        log_error = np.full(values.shape, LOG_ERROR, np.float32)
        return cls(kind, np.where(known, values, 0).astype(np.float32), log_error, focal_px)


class DepthPrior(Protocol):
    """Interface of providers of single-frame depth.

    Attributes:
        name: provider, and version of its weights or files.
    """

    @property
    def name(self) -> str: ...

    def __call__(self, rgb: np.ndarray, index: int, focal_px: float | None = None) -> PriorDepth:
        """Predict the depth of one frame.

        Args:
            rgb: [H, W, 3] uint8, network size.
            index: frame index among the processed frames.
            focal_px: focal length in pixels of the frame, where known.
        Raises:
            UserError: the provider has no depth for this frame.
        """
        ...


def digest(paths: Iterable[Path]) -> str:
    """Short hash of file contents, as version of weights or data."""
    sha = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            sha.update(hashlib.file_digest(file, "sha256").digest())
    return sha.hexdigest()[:12]
