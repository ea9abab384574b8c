"""Reliability of a solution: metrics, the reason not to use it, and the likely focal length if it is undetermined."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from st4rtrack.geometry.transforms import invert_rigid
from st4rtrack.geometry.vectors import length

PRIOR_FOCAL, PRIOR_SPREAD = 0.82, 0.35
"""Prior over real lenses (phones: 60 to 75 degrees along the long side): median in long sides of the image, and standard deviation
of its logarithm. The median is the result for a video that does not determine its focal length. Elsewhere,
`two_view.ASSUMED_FOCAL` is the default."""
MIN_KEY_FRAMES = 3
"""Minimum number of frames of a solution."""
MIN_SOLVED_SHARE = 0.5
MIN_POINTS_PER_FRAME = 25
MIN_PARALLAX_DEG = 1.5
FOCAL_RANGE = (0.4, 3.0)
"""Range of plausible focal lengths in long sides of the image: 102 to 19 degrees. Degenerate solutions lie outside."""
MAX_FOCAL_DEVIATION = 0.01
"""Maximum standard deviation of the log focal length under independent errors; real clips have 5 to 10 times that error."""
DEVIATION_FACTOR = 2.0
"""Ratio of the true error of the log focal length to a standard deviation above that (rendered rooms, parts of real clips)."""
MAX_LENS_DEVIATIONS = 2.0
"""Maximum distance of an uncertain estimate from the prior over lenses, in its standard deviations; else it is discarded."""
MIN_FORWARD = 0.9


@dataclass(frozen=True)
class Evidence:
    """Evidence for or against trusting a solution of the global solver.

    Attributes:
        solved_share: share of frames with a camera.
        points_per_frame: median number of inliers over the solved frames.
        parallax_deg: median over the points of the largest angle between the rays to them.
        focal_deviation: standard deviation of the logarithm of the focal length; 0 where it is known.
        forward: median component along the optical axis of the unit translation over an eighth of the frames.
    """

    solved_share: float = 0.0
    points_per_frame: float = 0.0
    parallax_deg: float = 0.0
    focal_deviation: float = float("nan")
    forward: float = 0.0


def parallax_deg(points: np.ndarray, frame: np.ndarray, point: np.ndarray, cameras: np.ndarray) -> float:
    """Median over the points of the largest angle between the ray of their first observation and another one."""
    towards = points[point] - cameras[frame, :3, 3]
    towards = towards / np.maximum(length(towards), 1e-12)[:, None]
    _, first = np.unique(point, return_index=True)
    angle = np.arctan2(length(np.cross(towards, towards[first][point])), (towards * towards[first][point]).sum(1))
    largest = np.zeros(len(points))
    np.maximum.at(largest, point, angle)
    return float(np.rad2deg(np.median(largest))) if len(points) else 0.0


def forward_share(cameras: np.ndarray) -> float:
    """Median component along the optical axis of the unit translation over an eighth of the frames."""
    step = max(len(cameras) // 8, 1)
    moved = invert_rigid(cameras[:-step]) @ cameras[step:]
    distance = length(moved[:, :3, 3])
    return float(np.median(np.abs(moved[:, 2, 3]) / np.maximum(distance, 1e-12))) if len(moved) else 0.0


def is_determined(focal: float, deviation: float) -> bool:
    """Whether a video determines its focal length (in long sides), given the standard deviation of its logarithm."""
    return FOCAL_RANGE[0] <= focal <= FOCAL_RANGE[1] and deviation <= MAX_FOCAL_DEVIATION


def likely_focal(estimates: Sequence[tuple[float, float]]) -> float:
    """Likely focal length in long sides from estimates with their deviations and the prior over real lenses.

    The estimates come from the same images, so that several weigh no more than one. If one of them has diverged to a view without
    perspective, or their mean is that of an unusual lens, all are discarded: stabilised or cropped videos cause that.
    """
    if any(focal > FOCAL_RANGE[1] for focal, _ in estimates):
        return PRIOR_FOCAL
    sound = [(focal, each) for focal, each in estimates if FOCAL_RANGE[0] <= focal <= FOCAL_RANGE[1] and each > 0]
    if not sound:
        return PRIOR_FOCAL
    focals, deviations = np.array(sound).T
    weights = deviations**-2.0
    estimate = np.average(np.log(focals), weights=weights)
    if abs(estimate - np.log(PRIOR_FOCAL)) > MAX_LENS_DEVIATIONS * PRIOR_SPREAD:
        return PRIOR_FOCAL
    weight = 1 / (DEVIATION_FACTOR**2 / weights.mean() + np.average((np.log(focals) - estimate) ** 2, weights=weights))
    prior_weight = PRIOR_SPREAD**-2
    return float(np.exp((weight * estimate + prior_weight * np.log(PRIOR_FOCAL)) / (weight + prior_weight)))


def not_solved(solved: np.ndarray, anchor_index: int) -> str:
    """Reason why a video has no solution in the world of its anchor frame, whose camera is not among the solved ones [T] bool."""
    num_frames, num_solved = len(solved), int(solved.sum())
    if num_frames < MIN_KEY_FRAMES:
        return f"too few frames ({num_frames}, at least {MIN_KEY_FRAMES} are needed)"
    if not num_solved:
        return "no solution: too few matches or no parallax"
    if num_solved < MIN_SOLVED_SHARE * num_frames:
        return f"too few frames are solved ({num_solved} of {num_frames})"
    return f"the solution has {num_solved} of {num_frames} frames, but not the anchor frame {anchor_index}"


def distrust(evidence: Evidence, focal: float) -> str:
    """Reason not to use a solution with a focal length in long sides; "" if there is none."""
    if evidence.solved_share < MIN_SOLVED_SHARE:
        return "too few frames are solved"
    if evidence.points_per_frame < MIN_POINTS_PER_FRAME:
        return "too few static points"
    if evidence.parallax_deg < MIN_PARALLAX_DEG:
        return "too little parallax"
    if not FOCAL_RANGE[0] <= focal <= FOCAL_RANGE[1]:
        return "the focal length is degenerate"
    if not evidence.focal_deviation <= MAX_FOCAL_DEVIATION:
        return "the focal length is undetermined" + (" (forward motion)" if evidence.forward >= MIN_FORWARD else "")
    return ""
