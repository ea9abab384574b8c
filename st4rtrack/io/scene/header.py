"""Metadata of a scene that is known before its first frame."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from st4rtrack.io.redaction import redacted
from st4rtrack.io.scene.table import ARRAYS, DEFAULT_FIELDS, ArraySpec
from st4rtrack.types import PixelMap


@dataclass(frozen=True)
class SceneHeader:
    """Metadata of a scene that is known before its first frame.

    Attributes:
        num_frames, height, width: size of the arrays, in network pixels.
        anchor_index: index of the anchor frame.
        pixel_map: map from source pixels to network pixels.
        source_size: (height, width) of the source video in pixels.
        info: model name and hash, options, source path and rate; plain data. A run is resumed if `info` is equal, so values that
            change from call to call do not belong here (results go to `finish`).
        points_dtype: "float32" or "float16".
        fields: names of the per-frame arrays that will be written; default those of a run.
    """

    num_frames: int
    height: int
    width: int
    anchor_index: int = 0
    pixel_map: PixelMap = field(default_factory=PixelMap)
    source_size: tuple[int, int] = (0, 0)
    info: dict[str, Any] = field(default_factory=dict)
    points_dtype: Literal["float32", "float16"] = "float32"
    fields: tuple[str, ...] = DEFAULT_FIELDS

    def __post_init__(self) -> None:
        object.__setattr__(self, "info", plain(self.info))  # equal in memory and after loading
        if min(self.num_frames, self.height, self.width) < 1:
            raise ValueError(f"a scene needs frames with pixels, got {self.num_frames} of {self.height} x {self.width}")
        if not 0 <= self.anchor_index < self.num_frames:
            raise ValueError(f"anchor_index {self.anchor_index} is not one of {self.num_frames} frames")
        if self.points_dtype not in ("float32", "float16"):
            raise ValueError(f"points_dtype is float32 or float16, got {self.points_dtype!r}")
        known, required = {spec.field for spec in ARRAYS}, {spec.field for spec in ARRAYS if spec.required}
        if wrong := sorted(set(self.fields) - known | required - set(self.fields)):
            raise ValueError(f"fields must hold {sorted(required)} and otherwise only fields of ARRAYS; check {wrong}")

    @property
    def specs(self) -> tuple[ArraySpec, ...]:
        """The per-frame arrays of this scene."""
        return tuple(spec for spec in ARRAYS if spec.field in self.fields)

    def shape(self, spec: ArraySpec) -> tuple[int, ...]:
        """Shape of an array of this scene, including the time axis."""
        sizes = {"time": self.num_frames, "height": self.height, "width": self.width}
        return tuple(sizes[axis] if isinstance(axis, str) else axis for axis in spec.axes)

    def dtype(self, spec: ArraySpec) -> np.dtype[Any]:
        """Dtype of an array of this scene."""
        return np.dtype(spec.dtype or self.points_dtype)


def plain(value: Any) -> Any:
    """Convert a value to plain JSON data; numbers that are not finite become null, credentials are redacted."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | np.ndarray):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, str | Path):
        return redacted(str(value)) if ":/" in str(value) else str(value)
    return value
