"""What is counted, and how: the published evaluation of WorldTrack, and the same with its known faults corrected."""

from dataclasses import dataclass
from typing import Literal

from st4rtrack.io.worldtrack import NUM_FRAMES
from st4rtrack.metrics.points import APD_THRESHOLDS_M
from st4rtrack.types import UserError

ProtocolName = Literal["published", "corrected"]


@dataclass(frozen=True)
class Protocol:
    """One way to predict and score.

    Attributes:
        name: of the protocol.
        sampling: where a pointmap is read for a query: at the pixel that holds it, or between pixels.
        dynamic_alignment: whether the dynamic points keep the alignment of all points or get one of their own.
        dynamic_epe_mean: over which sequences the mean of the dynamic EPE runs; "all" divides by all of them, also those
            without dynamic points.
        reflection_scale: whether the scale of SIM(3) ignores that the best orthogonal matrix is a reflection.
        first_pixel_centre: pixel coordinate of the first pixel's centre where depth is un-projected.
        depth_range_m: truth outside (exclusive) is not counted in reconstruction; None is no bound.
        missing_truth: whether a track without finite truth counts as a miss or is left out.
        dynamic_path_m: a point is dynamic when its true path in the world is longer.
        num_frames: evaluated, from the first on.
        apd_thresholds_m: APD is the mean over these.
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
    num_frames: int = NUM_FRAMES
    apd_thresholds_m: tuple[float, ...] = APD_THRESHOLDS_M


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
PROTOCOLS: dict[str, Protocol] = {"published": PUBLISHED, "corrected": CORRECTED}


def protocol_named(name: str) -> Protocol:
    """The protocol of that name.

    Raises:
        UserError: there is none.
    """
    if name not in PROTOCOLS:
        raise UserError(f"--protocol knows {' and '.join(PROTOCOLS)}, not {name!r}")
    return PROTOCOLS[name]
