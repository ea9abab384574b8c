"""Classification of camera motion from matches of an anchor with several frames: fixed, rotation, zoom, forward, general.

Models of increasing freedom are fitted to each frame: the identity, a rotation about the optical centre, a rotation with zoom, an
essential matrix. The simplest one that fits the static points is chosen. Dynamic points are outliers of all of them.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import cv2
import numpy as np

from st4rtrack.classical.anchor import Matches
from st4rtrack.classical.two_view import ASSUMED_FOCAL, pinhole, pixel_rays, relative_pose
from st4rtrack.geometry.vectors import length
from st4rtrack.types import Parallax

NUM_POINTS = 400
MIN_MATCHED_SHARE = 0.3
"""Minimum share of the points that must be matched in a frame."""
TOLERANCE, MIN_TOLERANCE_PX, TOLERANCE_OF_MOTION = 0.004, 0.75, 0.02
"""Tolerance of dense flow: in long sides of the image (1 px at 256), its minimum, and per pixel of motion of a point."""
MAX_STILL, MAX_STILL_PX = 0.002, 0.4
"""Maximum motion of a point for a fixed camera, in long sides of the image (half a pixel at 256), and its minimum in pixels."""
MOST_FRAMES, FEW_FRAMES = 0.8, 4
"""Share of the frames in which such a point must not move; all frames if there are at most `FEW_FRAMES`."""
MIN_STILL_SHARE, MIN_STILL_CELLS = 0.15, 5
"""Minimum share of points without motion (real clips: 0.1 at most for moving cameras, 0.17 to 0.8 for fixed ones), and number of
cells of a 3 x 3 grid that contain them."""
MAX_FRAMES_FITTED = 3
MIN_WELL_MATCHED = 0.75
"""Minimum matched share relative to the best frame for a frame to be fitted: flow over a large motion is unreliable."""
FOCALS = (0.6, 0.9, 1.4)
"""Candidate focal lengths (long sides) for fitting a rotation: the choice hardly matters."""
ERROR_OF_MOTION = 0.1
"""Unit of `rotation_error` and `zoom_error`: the flow tolerance, or this share of the median motion if that is larger."""
MIN_ROTATION_SHARE, MIN_ZOOM_SHARE = 0.7, 0.6
MAX_ROTATION_ERROR = 0.65
"""Maximum error of a rotation: 0.3 to 0.6 for rotations of rendered rooms, above 3 for translation, 0.9 and more for real
hand-held clips."""
DOUBTFUL_ROTATION_ERROR = 0.25
"""Error above which a rotation may be a small translation, for example around an object: the global solver decides."""
MAX_ZOOM_LOSS = 0.1
"""Maximum share of points that fit an essential matrix but not the zoom: 0.07 at most in zooms, 0.05 to 0.5 in forward motion."""
MAX_ZOOM_ERROR, MIN_ZOOM_GAIN, MIN_LOG_ZOOM = 0.9, 3.0, 0.06
"""Zooms have a zoom error of 0.35 to 0.7 and ten times that as rotation error; forward motion in a room 1.25 and more."""
MIN_FORWARD = 0.9
"""Component of the unit translation along the optical axis from which the motion counts as forward."""
MIN_DOLLY_FORWARD, MIN_OPPOSITE_SHARE, MIN_OPPOSITE_POINTS = 0.95, 0.08, 14
"""Points that move against the others along the epipolar lines: 0.01 at most in forward motion. They indicate a focal change
against the motion. If nothing is nearer than the subject, there are none, and a dolly zoom cannot be distinguished from backward
motion."""
GOOD_PARALLAX = np.deg2rad(0.75)
"""Minimum upper quartile of the rotation residuals (radians) for good parallax: six times the flow error at 256 px."""

MotionKind = Literal["unknown", "fixed", "rotation", "zoom", "dolly_zoom", "forward", "general"]
WITHOUT_DEPTH = ("fixed", "rotation", "zoom", "dolly_zoom")
"""Camera motions without information about depth, or whose depth is not modelled."""


@dataclass(frozen=True)
class CameraMotion:
    """Kind of camera motion ("unknown" if too few points are matched), its parallax class, and `_FrameEvidence.rotation_error`."""

    kind: MotionKind
    parallax: Parallax
    rotation_error: float = 0.0

    @property
    def may_translate(self) -> bool:
        """Whether more frames may reveal camera translation and depth."""
        doubtful = self.kind == "rotation" and self.rotation_error > DOUBTFUL_ROTATION_ERROR
        return doubtful or self.kind in ("forward", "general", "unknown")


class _FrameEvidence(NamedTuple):
    """Evidence for the models of camera motion in a frame, or its median over several frames.

    Attributes:
        rotation_share, zoom_share, epipolar_share: inlier shares of a rotation, a rotation with zoom, an essential matrix.
        rotation_error, zoom_error: upper quartile of the model residuals over the inliers of the essential matrix, in units of
            tolerances (`ERROR_OF_MOTION`).
        zoom: factor of the focal length under the zoom model.
        forward: component of the unit translation along the optical axis.
        opposite_share: share of points that move against the others along the epipolar lines.
        parallax: upper quartile of the rotation residuals over the same inliers, as an angle in radians.
    """

    rotation_share: float
    zoom_share: float
    epipolar_share: float
    rotation_error: float
    zoom_error: float
    zoom: float
    forward: float
    opposite_share: float
    parallax: float


def camera_motion(matches: Matches, focal_px: float | None = None, static: np.ndarray | None = None) -> CameraMotion:
    """Classify the camera motion between an anchor and the frames matched with it.

    Args:
        matches: matches with neighbouring frames, any number of points spread over the image.
        focal_px: known focal length, or `None`.
        static: bool in the order of the points, usable points: all shares refer to these; `None`: all.
    """
    matches = _thinned(matches, np.arange(len(matches.anchor_px)) if static is None else np.flatnonzero(static))
    use = matches.valid.sum(1) >= MIN_MATCHED_SHARE * max(len(matches.anchor_px), 1)
    if not use.any():
        return CameraMotion("unknown", "none")
    motion = length(matches.frame_px - matches.anchor_px)[use]
    missing = ~matches.valid[use]
    limit = max(MAX_STILL * max(matches.size), MAX_STILL_PX)
    most = 1.0 if len(motion) <= FEW_FRAMES else MOST_FRAMES
    still = np.quantile(np.where(missing, np.inf, motion), most, axis=0, method="lower") < limit
    if still.mean() >= MIN_STILL_SHARE and _cells(matches.anchor_px[still], matches.size) >= MIN_STILL_CELLS:
        return CameraMotion("fixed", "none")
    median_motion = np.array([np.median(row[~lost]) for row, lost in zip(motion, missing, strict=True)])
    share = matches.valid[use].mean(1)
    well = share >= MIN_WELL_MATCHED * share.max()
    largest = np.flatnonzero(use)[well & (median_motion >= np.median(median_motion[well]))][-MAX_FRAMES_FITTED:]
    focal_px = ASSUMED_FOCAL * max(matches.size) if focal_px is None else focal_px
    frames = [_frame_evidence(matches, int(k), focal_px) for k in largest]
    evidence = _FrameEvidence(*(float(value) for value in np.median(frames, axis=0)))
    kind = _kind(evidence)
    parallax: Parallax = "good" if evidence.parallax >= GOOD_PARALLAX else "weak"
    if kind in ("rotation", "zoom"):
        parallax = "rotation" if kind == "rotation" else "none"
    return CameraMotion(kind, parallax, evidence.rotation_error)


def _kind(evidence: _FrameEvidence) -> MotionKind:
    if evidence.rotation_error <= MAX_ROTATION_ERROR and evidence.rotation_share >= MIN_ROTATION_SHARE:
        return "rotation"
    zooms = abs(np.log(evidence.zoom)) >= MIN_LOG_ZOOM and evidence.rotation_error >= MIN_ZOOM_GAIN * evidence.zoom_error
    opposite = evidence.opposite_share >= MIN_OPPOSITE_SHARE / 2  # a dolly zoom: neither model fits
    zooms = zooms and (opposite or evidence.zoom_share >= evidence.epipolar_share - MAX_ZOOM_LOSS)
    radial = evidence.forward >= MIN_FORWARD  # the epipole of a zoom is the image centre
    if zooms and radial and evidence.zoom_error <= MAX_ZOOM_ERROR and evidence.zoom_share >= MIN_ZOOM_SHARE:
        return "zoom"
    if evidence.forward >= MIN_DOLLY_FORWARD and evidence.opposite_share >= MIN_OPPOSITE_SHARE:
        return "dolly_zoom"
    return "forward" if evidence.forward >= MIN_FORWARD else "general"


def _thinned(matches: Matches, usable: np.ndarray) -> Matches:
    """Random subset of at most `NUM_POINTS` of the usable points (indices)."""
    chosen = usable if len(usable) <= NUM_POINTS else np.random.default_rng(0).choice(usable, NUM_POINTS, replace=False)
    return Matches(matches.anchor_px[chosen], matches.frame_px[:, chosen], matches.valid[:, chosen], matches.size)


def _cells(pixels_px: np.ndarray, size: tuple[int, int]) -> int:
    """Number of cells of a 3 x 3 grid that contain at least one point in fifty."""
    cell = np.clip((pixels_px / (size[1], size[0]) * 3).astype(int), 0, 2) @ (1, 3)
    return int((np.bincount(cell, minlength=9) >= 0.02 * len(cell)).sum())


def _frame_evidence(matches: Matches, k: int, focal_px: float) -> _FrameEvidence:
    valid = matches.valid[k]
    source, target = matches.anchor_px[valid].astype(np.float64), matches.frame_px[k, valid].astype(np.float64)
    flow_error = max(TOLERANCE * max(matches.size), MIN_TOLERANCE_PX)
    tolerance = flow_error + TOLERANCE_OF_MOTION * length(target - source)
    rotation = max(
        (_fit(source, target, ratio, matches.size, tolerance, zooms=False) for ratio in FOCALS), key=lambda fit: fit[0]
    )
    zoom = max((_fit(source, target, ratio, matches.size, tolerance, zooms=True) for ratio in FOCALS), key=lambda fit: fit[0])
    pose, result = relative_pose(source, target, pinhole(focal_px, matches.size), flow_error, iterations=(100, 1000))
    inlier = np.array(result["inliers"], bool)
    direction = pose[:3, 3] / max(np.linalg.norm(pose[:3, 3]), 1e-12)
    turned_px = _transfer(source, zoom[1][:3], zoom[2], matches.size)
    inlier |= not inlier.any()
    errors = [float(np.quantile(fit[3][inlier], 0.75)) for fit in (rotation, zoom)]
    unit = max(flow_error, ERROR_OF_MOTION * float(np.median(length(target - source)[inlier])))
    return _FrameEvidence(
        rotation_share=rotation[0],
        zoom_share=zoom[0],
        epipolar_share=float(inlier.mean()),
        rotation_error=errors[0] / unit,
        zoom_error=errors[1] / unit,
        zoom=float(np.exp(zoom[1][3])),
        forward=float(abs(direction[2])),
        opposite_share=_opposite_share(turned_px, target, direction, focal_px, matches.size, tolerance),
        parallax=errors[0] / focal_px,
    )


def _opposite_share(
    turned_px: np.ndarray,
    target_px: np.ndarray,
    direction: np.ndarray,
    focal_px: float,
    size: tuple[int, int],
    tolerance: np.ndarray,
) -> float:
    """Share of the points moving in the rarer direction along the lines through the epipole; 0 if few: noise, or a small object."""
    if abs(direction[2]) < 1e-6:
        return 0.0
    epipole = direction[:2] / direction[2] * focal_px + (size[1] / 2, size[0] / 2)
    away = turned_px - epipole
    motion = target_px - turned_px
    radial = (motion * away).sum(1) / np.maximum(length(away), 1e-6)
    radial[np.abs(motion[:, 0] * away[:, 1] - motion[:, 1] * away[:, 0]) > tolerance * length(away)] = 0  # not along its line
    outward, inward = radial > tolerance, radial < -tolerance
    rarer = outward if outward.sum() < inward.sum() else inward
    if rarer.sum() < MIN_OPPOSITE_POINTS:
        return 0.0
    return float(rarer.sum() / max((outward | inward).sum(), 1))


def _fit(
    source: np.ndarray, target: np.ndarray, ratio: float, size: tuple[int, int], tolerance: np.ndarray, *, zooms: bool
) -> tuple[float, np.ndarray, float, np.ndarray]:
    """Fit a rotation about the optical centre by Gauss-Newton: inlier share, parameters, focal length, errors [points] in pixels."""
    focal = ratio * max(size)
    num = 4 if zooms else 3
    best = (-1.0, np.zeros(num), focal, np.zeros(len(source)))
    for start in _starts(source, target, focal, size):
        parameters = start[:num]
        for scale in (8, 4, 2, 2, 1, 1):
            error = _transfer(source, parameters, focal, size) - target
            steps = np.eye(num) * 1e-4
            jacobian = np.stack(
                [(_transfer(source, parameters + step, focal, size) - target - error) / 1e-4 for step in steps], -1
            )
            weight = 1 / (1 + ((error**2).sum(1) / (scale * tolerance) ** 2)) ** 2
            normal = np.einsum("nij,nik,n->jk", jacobian, jacobian, weight) + 1e-9 * np.eye(num)
            parameters = parameters - np.linalg.solve(normal, np.einsum("nij,ni,n->j", jacobian, error, weight))
            parameters = np.clip(parameters, -1.5, 1.5)
        final = length(_transfer(source, parameters, focal, size) - target)
        share = float((final < tolerance).mean())
        if share > best[0]:
            best = (share, parameters, focal, final)
    return best


def _starts(source: np.ndarray, target: np.ndarray, focal: float, size: tuple[int, int]) -> list[np.ndarray]:
    """Initial parameters (rotation vector, logarithm of the zoom): zero, and those of the dominant similarity."""
    similar, _ = cv2.estimateAffinePartial2D(source, target, method=cv2.RANSAC, ransacReprojThreshold=2 * TOLERANCE * max(size))
    starts = [np.zeros(4)]
    if similar is not None:
        centre = np.array([size[1] / 2, size[0] / 2])
        u, v = (similar[:, :2] @ centre + similar[:, 2] - centre) / focal
        starts.append(np.array([-v, u, np.arctan2(similar[1, 0], similar[0, 0]), np.log(max(np.hypot(*similar[:, 0]), 0.2))]))
    return starts


def _transfer(source: np.ndarray, parameters: np.ndarray, focal: float, size: tuple[int, int]) -> np.ndarray:
    """Pixels [points, 2] after a rotation (rotation vector) and, as optional fourth parameter, the logarithm of a zoom."""
    rays = pixel_rays(source, focal, size) @ cv2.Rodrigues(parameters[:3])[0].T
    factor = focal * (np.exp(parameters[3]) if len(parameters) > 3 else 1.0)
    return rays[:, :2] / np.maximum(rays[:, 2:], 1e-3) * factor + (size[1] / 2, size[0] / 2)
