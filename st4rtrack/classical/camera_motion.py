"""What kind of motion the camera makes, from matches of an anchor with several frames: fixed, rotation, zoom, forward, general.

Models of increasing freedom are fitted to each frame: the identity, a rotation about the optical centre, the same with another focal
length, an essential matrix. The simplest that explains the static points decides. Dynamic points are outliers of all of them.
"""

from dataclasses import dataclass
from typing import Literal

import cv2
import numpy as np

from st4rtrack.classical.survey import Matches
from st4rtrack.classical.two_view import ASSUMED_FOCAL, pinhole, pixel_rays
from st4rtrack.geometry.vectors import length
from st4rtrack.types import Parallax

NUM_POINTS = 500
MIN_MATCHED_SHARE = 0.3
"""Share of the points that a frame must match to count."""
TOLERANCE = 0.004
"""Inlier tolerance in long sides of the image (1 px at 256), plus `TOLERANCE_OF_MOTION` of a point's motion: what optical flow keeps to."""
TOLERANCE_OF_MOTION = 0.02
MAX_STILL = 0.002
"""Motion of a point of a fixed camera, in long sides of the image (half a pixel at 256)."""
MIN_STILL_SHARE = 0.35
MIN_STILL_CELLS = 5
"""Cells of 3 x 3 that still points of a fixed camera cover: a dynamic object in the middle may cover the others."""
FOCALS = (0.6, 0.9, 1.4)
"""Focal lengths (long sides) under which a rotation is tried: which of them hardly matters."""
MIN_MODEL_SHARE = 0.45
"""Inliers of a rotation or zoom that may explain a video: half of the pixels may be dynamic."""
MAX_SHARE_GAIN = 0.15
"""Further inliers that an essential matrix may have: it also explains some dynamic points, whose flow happens to lie along its lines."""
MIN_LOG_ZOOM = 0.03
MIN_ZOOM_GAIN = 0.15
MIN_FORWARD = 0.9
"""Component of the unit translation along the optical axis from which the motion counts as forward."""
MIN_OPPOSITE_SHARE = 0.15
"""Points that move against the others along the epipolar lines, from which on the focal length must have changed (dolly zoom)."""
GOOD_PARALLAX = np.deg2rad(1.0)
"""Parallax of the upper quarter of the static points that gives a depth to within a few per cent at the accuracy of the flow."""

MotionKind = Literal["unknown", "fixed", "rotation", "zoom", "dolly_zoom", "forward", "general"]


@dataclass(frozen=True)
class CameraMotion:
    """Kind of camera motion and the evidence for it.

    Attributes:
        kind: "unknown" where too few points are matched.
        parallax: what it says about depth.
        still_share: share of the points that never move.
        rotation_share, zoom_share, epipolar_share: inliers of a rotation, of a rotation with zoom, of an essential matrix (medians
            over the frames with the largest motion).
        zoom: median factor of the focal length in these frames under the model with zoom.
        forward: component of the unit translation along the optical axis.
        opposite_share: points that move against the others along the epipolar lines.
        parallax_deg: parallax of the upper quarter of the static points.
    """

    kind: MotionKind
    parallax: Parallax
    still_share: float = 0.0
    rotation_share: float = 0.0
    zoom_share: float = 0.0
    epipolar_share: float = 0.0
    zoom: float = 1.0
    forward: float = 0.0
    opposite_share: float = 0.0
    parallax_deg: float = 0.0


@dataclass(frozen=True)
class _FrameEvidence:
    rotation_share: float
    zoom_share: float
    epipolar_share: float
    zoom: float
    forward: float
    opposite_share: float
    parallax: float


def camera_motion(matches: Matches, focal_px: float | None = None) -> CameraMotion:
    """Classifies the camera motion between an anchor and the frames matched with it.

    Args:
        matches: with frames around the anchor, any number of points all over the image.
        focal_px: where it is known.
    """
    matches = _thinned(matches)
    use = matches.valid.mean(1) >= MIN_MATCHED_SHARE
    if not use.any():
        return CameraMotion("unknown", "none")
    motion = np.where(matches.valid, length(matches.frame_px - matches.anchor_px), np.nan)[use]
    still = np.nanquantile(motion, 0.8, axis=0) < MAX_STILL * max(matches.size) if use.any() else np.zeros(0, bool)
    still_share = float(still.mean())
    if still_share >= MIN_STILL_SHARE and _cells(matches.anchor_px[still], matches.size) >= MIN_STILL_CELLS:
        return CameraMotion("fixed", "none", still_share)
    median_motion = np.nanmedian(motion, axis=1)
    largest = np.flatnonzero(use)[median_motion >= np.median(median_motion)]
    focal_px = ASSUMED_FOCAL * max(matches.size) if focal_px is None else focal_px
    frames = [_frame_evidence(matches, int(k), focal_px) for k in largest]
    middle = {name: float(np.median([getattr(frame, name) for frame in frames])) for name in _FrameEvidence.__annotations__}
    angle = middle.pop("parallax")
    kind = _kind(_FrameEvidence(parallax=angle, **middle))
    parallax: Parallax = "good" if angle >= GOOD_PARALLAX else "weak"
    if kind in ("rotation", "zoom"):
        parallax = "rotation" if kind == "rotation" else "none"
    return CameraMotion(kind, parallax, still_share, parallax_deg=float(np.rad2deg(angle)), **middle)


def _kind(evidence: _FrameEvidence) -> MotionKind:
    simple = max(evidence.rotation_share, evidence.zoom_share)
    if simple >= MIN_MODEL_SHARE and evidence.epipolar_share - simple <= MAX_SHARE_GAIN:
        zooms = abs(np.log(evidence.zoom)) >= MIN_LOG_ZOOM and evidence.zoom_share - evidence.rotation_share >= MIN_ZOOM_GAIN
        return "zoom" if zooms else "rotation"
    if evidence.forward < MIN_FORWARD:
        return "general"
    return "dolly_zoom" if evidence.opposite_share >= MIN_OPPOSITE_SHARE else "forward"


def _thinned(matches: Matches) -> Matches:
    """At most `NUM_POINTS` points, spread over the image."""
    if len(matches.anchor_px) <= NUM_POINTS:
        return matches
    chosen = np.random.default_rng(0).choice(len(matches.anchor_px), NUM_POINTS, replace=False)
    return Matches(matches.anchor_px[chosen], matches.frame_px[:, chosen], matches.valid[:, chosen], matches.size)


def _cells(pixels_px: np.ndarray, size: tuple[int, int]) -> int:
    """Cells of 3 x 3 that hold one point in fifty at least."""
    cell = np.clip((pixels_px / (size[1], size[0]) * 3).astype(int), 0, 2) @ (1, 3)
    return int((np.bincount(cell, minlength=9) >= 0.02 * len(cell)).sum())


def _frame_evidence(matches: Matches, k: int, focal_px: float) -> _FrameEvidence:
    import poselib  # late: training from rendered pairs does without

    valid = matches.valid[k]
    source, target = matches.anchor_px[valid].astype(np.float64), matches.frame_px[k, valid].astype(np.float64)
    tolerance = TOLERANCE * max(matches.size) + TOLERANCE_OF_MOTION * length(target - source)
    rotation = max(
        (_fit(source, target, ratio, matches.size, tolerance, zooms=False) for ratio in FOCALS), key=lambda fit: fit[0]
    )
    zoom = max((_fit(source, target, ratio, matches.size, tolerance, zooms=True) for ratio in FOCALS), key=lambda fit: fit[0])
    camera = pinhole(focal_px, matches.size)
    options = {"max_epipolar_error": TOLERANCE * max(matches.size), "max_iterations": 1000, "min_iterations": 100, "seed": 0}
    pose, result = poselib.estimate_relative_pose(source, target, camera, camera, options, {})
    inlier = np.array(result["inliers"], bool)
    turn, direction = np.asarray(pose.R), np.asarray(pose.t) / max(np.linalg.norm(pose.t), 1e-12)
    turned = pixel_rays(source, focal_px, matches.size) @ turn.T
    turned_px = turned[:, :2] / np.maximum(turned[:, 2:], 1e-6) * focal_px + (matches.size[1] / 2, matches.size[0] / 2)
    parallax = length(target - turned_px)[inlier] / focal_px
    angle = float(np.quantile(parallax, 0.75)) if inlier.any() else 0.0
    opposite = _opposite_share(turned_px[inlier], target[inlier], direction, focal_px, matches.size, tolerance[inlier])
    return _FrameEvidence(rotation[0], zoom[0], float(inlier.mean()), zoom[1], float(abs(direction[2])), opposite, angle)


def _opposite_share(
    turned_px: np.ndarray,
    target_px: np.ndarray,
    direction: np.ndarray,
    focal_px: float,
    size: tuple[int, int],
    tolerance: np.ndarray,
) -> float:
    """Of the points that move along the lines through the epipole, the share of those that move the rarer way."""
    if abs(direction[2]) < 1e-6:
        return 0.0
    epipole = direction[:2] / direction[2] * focal_px + (size[1] / 2, size[0] / 2)
    away = turned_px - epipole
    radial = ((target_px - turned_px) * away).sum(1) / np.maximum(length(away), 1e-6)
    counts = (radial > tolerance).sum(), (radial < -tolerance).sum()
    return float(min(counts) / max(sum(counts), 1))


def _fit(
    source: np.ndarray, target: np.ndarray, ratio: float, size: tuple[int, int], tolerance: np.ndarray, *, zooms: bool
) -> tuple[float, float]:
    """Inlier share and zoom factor of a rotation about the optical centre, by Gauss-Newton from several starts with robust weights."""
    focal = ratio * max(size)
    num = 4 if zooms else 3
    best, zoom = 0.0, 1.0
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
        share = float((length(_transfer(source, parameters, focal, size) - target) < tolerance).mean())
        if share > best:
            best, zoom = share, float(np.exp(parameters[3])) if zooms else 1.0
    return best, zoom


def _starts(source: np.ndarray, target: np.ndarray, focal: float, size: tuple[int, int]) -> list[np.ndarray]:
    """Parameters (rotation vector, logarithm of the zoom) to begin with: none, and those of the dominant similarity."""
    similar, _ = cv2.estimateAffinePartial2D(source, target, method=cv2.RANSAC, ransacReprojThreshold=2 * TOLERANCE * max(size))
    starts = [np.zeros(4)]
    if similar is not None:
        centre = np.array([size[1] / 2, size[0] / 2])
        u, v = (similar[:, :2] @ centre + similar[:, 2] - centre) / focal
        starts.append(np.array([-v, u, np.arctan2(similar[1, 0], similar[0, 0]), np.log(max(np.hypot(*similar[:, 0]), 0.2))]))
    return starts


def _transfer(source: np.ndarray, parameters: np.ndarray, focal: float, size: tuple[int, int]) -> np.ndarray:
    """Pixels [points, 2] under a rotation vector and, as a fourth parameter, the logarithm of a zoom."""
    rays = pixel_rays(source, focal, size) @ cv2.Rodrigues(parameters[:3])[0].T
    factor = focal * (np.exp(parameters[3]) if len(parameters) > 3 else 1.0)
    return rays[:, :2] / np.maximum(rays[:, 2:], 1e-3) * factor + (size[1] / 2, size[0] / 2)
