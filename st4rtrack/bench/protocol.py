"""Evaluation protocols: the published evaluation of WorldTrack, a corrected version without its known faults, and TAPVid-3D's."""

from dataclasses import dataclass, replace
from typing import Literal

from st4rtrack.io.worldtrack import NUM_FRAMES
from st4rtrack.metrics.points import APD_THRESHOLDS_M
from st4rtrack.types import UserError

ProtocolName = Literal["published", "corrected", "tapvid3d"]


@dataclass(frozen=True)
class Protocol:
    """Settings of prediction and scoring.

    Attributes:
        name: name of the protocol.
        sampling: where a pointmap is sampled for a query: at the pixel that contains it (floor), or at the sub-pixel position.
        dynamic_alignment: whether dynamic points use the alignment of all points or a separate one.
        dynamic_epe_mean: sequences over which the dynamic EPE is averaged; "all" divides by the number of all sequences, also
            those without dynamic points.
        reflection_scale: whether the scale of SIM(3) ignores that the best orthogonal matrix is a reflection.
        first_pixel_centre: pixel coordinate of the first pixel's centre in un-projection of depth.
        depth_range_m: ground-truth depths outside it (exclusive) are ignored in reconstruction; None is unbounded.
        missing_truth: whether a track without finite ground truth counts as a miss or is ignored.
        dynamic_path_m: a point is dynamic if its ground-truth path in the world is longer.
        num_frames: number of evaluated frames, from the first on; None: all.
        apd_thresholds_m: distance thresholds; APD is the mean over them.
        queries: tracks that count: those visible in frame 0, or all tracks of the file with the query frames that it states; the
            latter has TAPVid-3D's camera-frame metrics only.
    """

    name: ProtocolName
    sampling: Literal["floor", "sub-pixel"]
    dynamic_alignment: Literal["own", "all"]
    dynamic_epe_mean: Literal["all", "with dynamic points"]
    reflection_scale: bool
    first_pixel_centre: float
    depth_range_m: tuple[float, float | None]
    missing_truth: Literal["miss", "left out"]
    dynamic_path_m: float = 0.01
    num_frames: int | None = NUM_FRAMES
    apd_thresholds_m: tuple[float, ...] = APD_THRESHOLDS_M
    queries: Literal["frame 0", "file"] = "frame 0"


PUBLISHED = Protocol(
    name="published",
    sampling="floor",
    dynamic_alignment="own",
    dynamic_epe_mean="all",
    reflection_scale=True,
    first_pixel_centre=0.0,
    depth_range_m=(0.1, 5.0),
    missing_truth="miss",
)
CORRECTED = Protocol(
    name="corrected",
    sampling="sub-pixel",
    dynamic_alignment="all",
    dynamic_epe_mean="with dynamic points",
    reflection_scale=False,
    first_pixel_centre=0.5,
    depth_range_m=(0.0, None),
    missing_truth="left out",
)
TAPVID3D = replace(CORRECTED, name="tapvid3d", num_frames=None, queries="file")
PROTOCOLS: dict[str, Protocol] = {protocol.name: protocol for protocol in (PUBLISHED, CORRECTED, TAPVID3D)}


def protocol_named(name: str) -> Protocol:
    """Return a protocol by name.

    Raises:
        UserError: unknown name.
    """
    if name not in PROTOCOLS:
        raise UserError(f"--protocol must be {' or '.join(PROTOCOLS)}, got {name!r}")
    return PROTOCOLS[name]
