"""Purely rotating cameras: rotations and focal length from matches, without depth.

Symbols: ray = (x / z, y / z, 1) of a pixel; R rotates rays of the first image into the second.
"""

from dataclasses import dataclass

import numpy as np

from st4rtrack.classical.anchor_matches import Matches
from st4rtrack.classical.solver.evidence import PRIOR_FOCAL
from st4rtrack.classical.two_view import pixel_rays, rotation_between
from st4rtrack.geometry.vectors import length

FOCALS = np.geomspace(0.4, 3.0, 22)
"""Candidate focal lengths, in long sides of the image: 103 to 19 degrees."""
POINTS = 400
MAX_ERROR_PX = 2.0
MIN_MATCHED_SHARE = 0.25
INLIER_PX = 1.5
DECISIVE_FACTOR = 1.3
DECISIVE_PX = 0.05
"""The video determines the focal length if a change by `DECISIVE_FACTOR` raises the mean error by at least this."""


@dataclass(frozen=True)
class RotationFocal:
    """Focal length in pixels, and whether the matches determine it (otherwise it is the prior)."""

    focal_px: float
    decided: bool


def rotation_focal(matches: Matches) -> RotationFocal:
    """Focal length with which pure rotations fit the matches best.

    A pan by a few degrees hardly constrains it: then the focal length of the prior is returned.
    """
    long_side = max(matches.size)
    costs = np.array([_mean_error(matches, ratio * long_side) for ratio in FOCALS])
    best = int(np.argmin(costs))
    low, high = (np.interp(np.log(FOCALS[best] * f), np.log(FOCALS), costs) for f in (1 / DECISIVE_FACTOR, DECISIVE_FACTOR))
    at_limit = best in (0, len(FOCALS) - 1)
    if at_limit or min(low, high) < costs[best] + DECISIVE_PX:
        return RotationFocal(PRIOR_FOCAL * long_side, False)
    a, b, _ = np.polyfit(np.log(FOCALS[best - 1 : best + 2] / FOCALS[best]), costs[best - 1 : best + 2], 2)
    step = np.log(FOCALS[1] / FOCALS[0])
    return RotationFocal(float(FOCALS[best] * np.exp(np.clip(-b / (2 * max(a, 1e-9)), -step, step))) * long_side, True)


def camera_rotation(
    source_px: np.ndarray, target_px: np.ndarray, focal_px: float, size: tuple[int, int]
) -> tuple[np.ndarray, float]:
    """Rotation [3, 3] of the rays of matches [points, 2], and the share of matches within `INLIER_PX`."""
    chosen = np.linspace(0, len(source_px) - 1, min(POINTS, len(source_px))).astype(int)  # raster order: spread over the image
    a, b = (pixel_rays(pixels[chosen], focal_px, size) for pixels in (source_px, target_px))
    rotation = rotation_between(a, b)
    return rotation, float((_errors_px(a, b, rotation, focal_px) < INLIER_PX).mean())


def _mean_error(matches: Matches, focal_px: float) -> float:
    errors = []
    for frame_px, valid in zip(matches.frame_px, matches.valid, strict=True):
        if valid.mean() < MIN_MATCHED_SHARE:
            continue
        chosen = np.flatnonzero(valid)
        chosen = chosen[np.linspace(0, len(chosen) - 1, min(POINTS, len(chosen))).astype(int)]
        a, b = (pixel_rays(pixels[chosen], focal_px, matches.size) for pixels in (matches.anchor_px, frame_px))
        errors.append(np.minimum(_errors_px(a, b, rotation_between(a, b), focal_px), MAX_ERROR_PX).mean())
    return float(np.mean(errors)) if errors else np.inf


def _errors_px(a: np.ndarray, b: np.ndarray, rotation: np.ndarray, focal_px: float) -> np.ndarray:
    rotated = a @ rotation.T
    return focal_px * length(rotated[:, :2] / np.maximum(rotated[:, 2:], 1e-3) - b[:, :2])
