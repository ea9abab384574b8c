"""Table of the arrays of a scene: names, shapes, dtypes, and whether a run writes them by default."""

from collections.abc import Container
from dataclasses import dataclass


@dataclass(frozen=True)
class ArraySpec:
    """Specification of an array of a scene.

    Attributes:
        field: name in Python: the keyword of `write_frame` (or `finish`).
        path: name in `scene.zarr`.
        axes: sizes; a name ("time", "height", "width") is the corresponding size of the scene.
        dtype: dtype; `None` means the dtype of points of the scene.
        required: whether every scene has this array.
        default: whether a run writes it by default.
    """

    field: str
    path: str
    axes: tuple[str | int, ...]
    dtype: str | None
    required: bool = True
    default: bool = True

    @property
    def small(self) -> bool:
        """Whether the array has only a few numbers per frame (no height and width axes)."""
        return "height" not in self.axes


_IMAGE = ("time", "height", "width")
MOVING = ArraySpec("moving", "tracking/moving", ("height", "width"), "bool", required=False)
MOVING_IN_FRAMES = ArraySpec("moving_in_frames", "reconstruction/moving", _IMAGE, "bool", required=False)
DEFERRED = (MOVING, MOVING_IN_FRAMES)
"""Deferred arrays, which are written after all frames."""
ARRAYS = (
    ArraySpec("rgb", "rgb", (*_IMAGE, 3), "uint8"),
    ArraySpec("time_s", "time_s", ("time",), "float64"),
    ArraySpec("tracking_points", "tracking/points", (*_IMAGE, 3), None),
    ArraySpec("tracking_confidence", "tracking/confidence", _IMAGE, "float32", required=False),
    ArraySpec("tracking_valid", "tracking/valid", _IMAGE, "bool", required=False, default=False),
    ArraySpec("visible", "tracking/visible", _IMAGE, "bool", required=False),
    ArraySpec("visibility", "tracking/visibility", _IMAGE, "float16", required=False),
    ArraySpec("reconstruction_points", "reconstruction/points", (*_IMAGE, 3), None),
    ArraySpec("reconstruction_confidence", "reconstruction/confidence", _IMAGE, "float32", required=False),
    ArraySpec("reconstruction_valid", "reconstruction/valid", _IMAGE, "bool", required=False, default=False),
    ArraySpec("reconstruction_source", "reconstruction/source", _IMAGE, "uint8", required=False, default=False),
    ArraySpec("world_from_camera", "cameras/world_from_camera", ("time", 4, 4), "float64"),
    ArraySpec("intrinsics", "cameras/intrinsics", ("time", 3, 3), "float64"),
    ArraySpec("solved", "cameras/solved", ("time",), "bool", required=False),
    ArraySpec("reprojection_px", "cameras/reprojection_px", ("time",), "float32", required=False, default=False),
    ArraySpec("flow_agreement_px", "cameras/flow_agreement_px", ("time",), "float32", required=False, default=False),
)
"""Per-frame arrays, the possible fields of `write_frame`."""
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
