"""The table of a scene's arrays: which there are, of what shape and type, and which of them a run writes."""

from collections.abc import Container
from dataclasses import dataclass


@dataclass(frozen=True)
class ArraySpec:
    """One array of a scene.

    Attributes:
        field: its name in Python: the keyword of `write_frame` (or `finish`).
        path: its name in `scene.zarr`.
        axes: names are sizes of the scene, numbers are themselves.
        dtype: `None` is the scene's choice for points.
        required: a scene without it is no scene; the others may be unknown.
        default: a run writes it unless told otherwise.
    """

    field: str
    path: str
    axes: tuple[str | int, ...]
    dtype: str | None
    required: bool = True
    default: bool = True

    @property
    def small(self) -> bool:
        """Whether a frame of it is a few numbers."""
        return "height" not in self.axes


_IMAGE = ("time", "height", "width")
MOVING = ArraySpec("moving", "tracking/moving", ("height", "width"), "bool", required=False)
MOVING_IN_FRAMES = ArraySpec("moving_in_frames", "reconstruction/moving", _IMAGE, "bool", required=False)
LATE = (MOVING, MOVING_IN_FRAMES)
"""What is only known when all frames are done."""
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
"""The arrays that a frame is written with."""
DEFAULT_FIELDS = tuple(spec.field for spec in ARRAYS if spec.default)
FRAME_QUALITY = ("reprojection_px", "flow_agreement_px")
"""Fields of the quality of a frame, NaN where unknown: they survive an interrupted run, and scenes of earlier versions lack them."""


def current_path(path: str) -> str:
    """The name of an array today: until version 0.9 the visibility was called `visible_probability`."""
    return path.replace("visible_probability", "visibility")


def stored_path(path: str, stored: Container[str]) -> str:
    """The name under which a file stores an array, which `current_path` maps to `path`."""
    former = path.replace("visibility", "visible_probability")
    return former if path not in stored and former in stored else path
