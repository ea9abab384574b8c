"""Table of the arrays of a scene, and the metadata that is known before its first frame."""

import math
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from st4rtrack.io.text import redacted
from st4rtrack.scene import Scene
from st4rtrack.types import Array, Cameras, PixelMap, Pointmap, TrackingOverTime


@dataclass(frozen=True)
class ArraySpec:
    """Specification of an array of a scene."""

    field: str  # name in Python: the keyword of `write_frame` (or `finish`)
    path: str  # name in `scene.zarr`
    axes: tuple[str | int, ...]  # sizes; a name ("time", "height", "width") is the corresponding size of the scene
    dtype: str | None  # `None`: the dtype of points of the scene
    attribute: str  # place in `Scene`, as "tracking.points_world"
    required: bool = True  # whether every scene has this array
    default: bool = True  # whether a run writes it by default

    @property
    def small(self) -> bool:
        """Whether the array has only a few numbers per frame (no height and width axes)."""
        return "height" not in self.axes


def _spec(path: str, inner: tuple[str | int, ...], dtype: str | None, attribute: str, *flags: str, name: str = "") -> ArraySpec:
    """Specification from the axes after time ("image": height, width); flags: "optional", "extra" (not by default)."""
    sizes = tuple(size for axis in inner for size in (("height", "width") if axis == "image" else (axis,)))
    named = name or path.removeprefix("cameras/").replace("/", "_")
    return ArraySpec(named, path, ("time", *sizes), dtype, attribute, not flags, "extra" not in flags)


ARRAYS = (
    _spec("rgb", ("image", 3), "uint8", "rgb"),
    _spec("time_s", (), "float64", "time_s"),
    _spec("tracking/points", ("image", 3), None, "tracking.points_world"),
    _spec("tracking/confidence", ("image",), "float32", "tracking.confidence", "optional"),
    _spec("tracking/valid", ("image",), "bool", "tracking.valid", "optional", "extra"),
    _spec("tracking/visible", ("image",), "bool", "tracking.visible", "optional", name="visible"),
    _spec("tracking/visibility", ("image",), "float16", "tracking.visibility", "optional", name="visibility"),
    _spec("reconstruction/points", ("image", 3), None, "reconstruction.points_world"),
    _spec("reconstruction/confidence", ("image",), "float32", "reconstruction.confidence", "optional"),
    _spec("reconstruction/valid", ("image",), "bool", "reconstruction.valid", "optional", "extra"),
    _spec("reconstruction/source", ("image",), "uint8", "reconstruction.source", "optional", "extra"),
    _spec("cameras/world_from_camera", (4, 4), "float64", "cameras.world_from_camera"),
    _spec("cameras/intrinsics", (3, 3), "float64", "cameras.intrinsics"),
    _spec("cameras/solved", (), "bool", "cameras.solved", "optional"),
    _spec("cameras/reprojection_px", (), "float32", "cameras.reprojection_px", "optional", "extra"),
    _spec("cameras/flow_agreement_px", (), "float32", "cameras.flow_agreement_px", "optional", "extra"),
)
"""Per-frame arrays, the possible fields of `write_frame`. `*_valid` is for ground truth only."""
MOVING = ArraySpec("moving", "tracking/moving", ("height", "width"), "bool", "tracking.moving", required=False)
MOVING_IN_FRAMES = _spec(
    "reconstruction/moving", ("image",), "bool", "reconstruction.moving", "optional", name="moving_in_frames"
)
DEFERRED = (MOVING, MOVING_IN_FRAMES)
"""Deferred arrays, which are written after all frames."""
DEFAULT_FIELDS = tuple(spec.field for spec in ARRAYS if spec.default)
FRAME_QUALITY = ("reprojection_px", "flow_agreement_px")
"""Quality fields of a frame, NaN if unknown; kept when a run is interrupted, absent in scenes of earlier versions."""


def current_path(path: str) -> str:
    """Current name of an array: until version 0.9 the visibility was called `visible_probability`."""
    return path.replace("visible_probability", "visibility")


def stored_path(path: str, stored: Container[str]) -> str:
    """Name of an array in a stored scene, the inverse of `current_path`."""
    former = path.replace("visibility", "visible_probability")
    return former if path not in stored and former in stored else path


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


def scene_of(header: SceneHeader, arrays: Mapping[str, Array]) -> Scene:
    """The scene with arrays by field name; further anchors and the quality report are left out."""
    parts: dict[str, dict[str, Any]] = {"": {}, "tracking": {}, "reconstruction": {}, "cameras": {}}
    for spec in (*ARRAYS, *DEFERRED):
        part, _, name = spec.attribute.rpartition(".")
        if spec.field in arrays:
            parts[part][name] = arrays[spec.field]
    return Scene(
        **parts[""],
        tracking=TrackingOverTime(**{"confidence": None, **parts["tracking"]}),
        reconstruction=Pointmap(**{"confidence": None, **parts["reconstruction"]}),
        cameras=Cameras(**parts["cameras"]),
        anchor_index=header.anchor_index,
        pixel_map=header.pixel_map,
        source_size=header.source_size,
        info=header.info,
    )


def arrays_of(scene: Scene) -> dict[str, Array]:
    """The arrays that a scene has, by field name; the inverse of `scene_of`."""
    arrays = {}
    for spec in (*ARRAYS, *DEFERRED):
        part, _, name = spec.attribute.rpartition(".")
        arrays[spec.field] = getattr(getattr(scene, part) if part else scene, name)
    return {name: values for name, values in arrays.items() if values is not None}


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
