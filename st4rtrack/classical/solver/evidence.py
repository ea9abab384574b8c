"""How far a solution can be trusted: figures, the reason not to use it, and the likely focal length where little says it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from st4rtrack.classical.survey import PRIOR_FOCAL, PRIOR_SPREAD
from st4rtrack.geometry.transforms import invert_rigid
from st4rtrack.geometry.vectors import length

MIN_KEY_FRAMES = 3
"""Frames without which there is no solution."""
MIN_SOLVED_SHARE = 0.5
MIN_POINTS_PER_FRAME = 25
MIN_PARALLAX_DEG = 1.5
FOCAL_RANGE = (0.4, 3.0)
"""Long sides of the image: 102 to 19 degrees. Degenerate solutions lie beyond."""
MAX_FOCAL_DEVIATION = 0.01
"""Standard deviation of the logarithm of the focal length under independent errors; on real clips the error is five to ten times that."""
DEVIATION_FACTOR = 2.0
"""Error of the logarithm of the focal length over that deviation where it is larger than that (rendered rooms, parts of real clips)."""
MAX_LENS_DEVIATIONS = 2.0
"""Of the prior over lenses, beyond which an estimate that is not certain is not believed."""
MIN_FORWARD = 0.9


@dataclass(frozen=True)
class Evidence:
    """What speaks for a solution.

    Attributes:
        solved_share: frames with a camera.
        num_points: static points.
        points_per_frame: median number of inliers over the solved frames.
        inlier_share: inliers among the observations of points.
        reprojection_px: root mean square error of the inliers, source pixels.
        parallax_deg: median over the points of the largest angle between the rays to them.
        focal_deviation: standard deviation of the logarithm of the focal length; 0 where it is known.
        forward: median component along the optical axis of the unit translation over an eighth of the frames.
    """

    solved_share: float = 0.0
    num_points: int = 0
    points_per_frame: float = 0.0
    inlier_share: float = 0.0
    reprojection_px: float = float("nan")
    parallax_deg: float = 0.0
    focal_deviation: float = float("nan")
    forward: float = 0.0


def parallax_deg(points: np.ndarray, frame: np.ndarray, point: np.ndarray, cameras: np.ndarray) -> float:
    """Median over the points of the largest angle between the ray of their first observation and another."""
    towards = points[point] - cameras[frame, :3, 3]
    towards = towards / np.maximum(length(towards), 1e-12)[:, None]
    _, first = np.unique(point, return_index=True)
    angle = np.arctan2(length(np.cross(towards, towards[first][point])), (towards * towards[first][point]).sum(1))
    largest = np.zeros(len(points))
    np.maximum.at(largest, point, angle)
    return float(np.rad2deg(np.median(largest))) if len(points) else 0.0


def forward_share(cameras: np.ndarray) -> float:
    """Median share of the optical axis in the translation over an eighth of the frames."""
    step = max(len(cameras) // 8, 1)
    moved = invert_rigid(cameras[:-step]) @ cameras[step:]
    distance = length(moved[:, :3, 3])
    return float(np.median(np.abs(moved[:, 2, 3]) / np.maximum(distance, 1e-12))) if len(moved) else 0.0


def is_determined(focal: float, deviation: float) -> bool:
    """Whether a video tells its focal length, in long sides, which it gives with a standard deviation of the logarithm."""
    return FOCAL_RANGE[0] <= focal <= FOCAL_RANGE[1] and deviation <= MAX_FOCAL_DEVIATION


def likely_focal(estimates: Sequence[tuple[float, float]]) -> float:
    """Focal length in long sides by estimates of a video, each with its deviation, and the prior over real lenses.

    The estimates come from the same images, so that several of them are worth no more than one. Where one of them has run away to a view
    without perspective, or their mean is that of an unusual lens, they say nothing: a stabilised or cropped video does that.
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
    """Why a video has no solution in the world of its anchor frame, whose camera is not among the solved ones [T] bool."""
    num_frames, num_solved = len(solved), int(solved.sum())
    if num_frames < MIN_KEY_FRAMES:
        return f"too few frames ({num_frames}, at least {MIN_KEY_FRAMES} are needed)"
    if not num_solved:
        return "no solution: too few matches or no parallax"
    if num_solved < MIN_SOLVED_SHARE * num_frames:
        return f"too few frames are solved ({num_solved} of {num_frames})"
    return f"its solution has {num_solved} of {num_frames} frames, but not the anchor frame {anchor_index}"


def distrust(evidence: Evidence, focal: float) -> str:
    """Why not to use a solution with a focal length in long sides."""
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
