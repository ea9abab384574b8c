"""Rotation and zoom of a camera that does not translate: every match is a rotation and a change of the focal length.

Symbols: z logarithm of the zoom; pixels are relative to the image centre, rays = pixels over the focal length.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np

from st4rtrack.classical.solver.key_frames import KeyFrame, matches_of
from st4rtrack.classical.solver.zoom import INLIER_PX, MIN_MATCHES, MIN_ZOOM, POINTS, minimised
from st4rtrack.geometry.sampling import spread_out
from st4rtrack.geometry.vectors import length

TURNING_INLIER_PX, MIN_ROTATION_SHARE = 3.0, 0.5
"""Error of an inlier under rotation and zoom, and minimum share of a frame: a quarter of the matches of key frames may be wrong."""
MIN_KEPT_SHARE = 0.3
"""Share of matched features below which the reference changes."""
FOCALS = np.geomspace(0.45, 2.2, 12)
"""Candidate focal lengths of the first frame of a rotating camera, in long sides."""
DECISIVE_PX = 0.05
"""Increase of the mean error by a factor of 1.15 of the focal length, from which the matches determine it."""
MIN_SOLVED_SHARE = 0.8


@dataclass(frozen=True)
class TurningCamera:
    """Camera without translation: `z` [T] and rotations [T, 3, 3] are NaN where unknown; `decided`: matches give `focal_px`."""

    focal_px: float
    z: np.ndarray
    first_from_frame: np.ndarray
    decided: bool


class _Link(NamedTuple):
    """Matches [points, 2] of a frame with an earlier one, relative to the image centre."""

    frame: int
    reference: int
    source: np.ndarray
    target: np.ndarray


def turning_camera(
    keys: Iterable[KeyFrame], num_frames: int, size: tuple[int, int], focal_px: float, *, known: bool
) -> TurningCamera | None:
    """Rotation and zoom of a camera that does not translate; `None` if it does not zoom, or moves in another way.

    Args:
        keys: the key frames of the video, in order.
        size: (height, width) of the working image.
        focal_px: focal length of the first frame in working pixels, known or a prior.
    """
    links, solved = _links(keys, size, focal_px)
    known_z = np.array([z for z, _ in solved.values()])
    if len(solved) < MIN_SOLVED_SHARE * num_frames or np.ptp(known_z) < MIN_ZOOM:
        return None
    focal, decided = (focal_px, True) if known else _focal(links, solved, max(size), focal_px)
    if focal != focal_px:
        solved = _chained(links, focal)
    z, rotation = np.full(num_frames, np.nan), np.full((num_frames, 3, 3), np.nan)
    for frame, (each, first_from_frame) in solved.items():
        z[frame], rotation[frame] = each, first_from_frame
    return TurningCamera(focal, z, rotation, decided)


_Solved = dict[int, tuple[float, np.ndarray]]
"""z and `first_from_frame` [3, 3] by frame."""


def _links(keys: Iterable[KeyFrame], size: tuple[int, int], focal_px: float) -> tuple[list[_Link], _Solved]:
    """Matches that connect each frame with a reference, and the rotations and zooms that they give with this focal length."""
    centre = np.array([size[1] / 2, size[0] / 2])
    links: list[_Link] = []
    solved: _Solved = {}
    reference = last = None

    def linked(frame: int, to: KeyFrame, features: np.ndarray, px: np.ndarray) -> bool | None:
        """Whether the model explains the matches of a frame with a key frame; `None` if there are too few."""
        if to.index not in solved or len(features) < MIN_MATCHES:
            return None
        chosen = spread_out(len(features), POINTS)
        link = _Link(frame, to.index, to.px[features[chosen]] - centre, px[chosen] - centre)
        found = _followed(link, solved, focal_px)
        if found is None:
            return False
        links.append(link)
        solved[frame] = found
        return True

    for key in keys:
        if reference is None or last is None:
            reference = last = key
            solved[key.index] = 0.0, np.eye(3)
            continue
        for to in (reference, last):
            pairs = matches_of(to.descriptors, key.descriptors)
            found = linked(key.index, to, pairs[:, 0], key.px[pairs[:, 1]])
            if found:
                reference = key if len(pairs) < MIN_KEPT_SHARE * len(to.px) else to
            if found is not None:
                break
        for between in key.between:
            seen = between.previous
            if linked(between.index, last, seen.feature, seen.px) is None and between.following is not None:
                linked(between.index, key, between.following.feature, between.following.px)
        last = key
    return links, solved


def _chained(links: Sequence[_Link], focal_px: float) -> _Solved:
    solved: _Solved = {links[0].reference: (0.0, np.eye(3))}
    for link in links:
        found = _followed(link, solved, focal_px) if link.reference in solved else None
        if found is not None:
            solved[link.frame] = found
    return solved


def _followed(link: _Link, solved: _Solved, focal_px: float) -> tuple[float, np.ndarray] | None:
    """Zoom z and rotation `first_from_frame` of the frame of a link; `None` if a rotation and a zoom do not explain its matches."""
    z, first_from_reference = solved[link.reference]
    parameters, error = _rotation_and_zoom(link, focal_px * np.exp(z))
    if (length(error) < TURNING_INLIER_PX).mean() < MIN_ROTATION_SHARE:
        return None
    return z + float(parameters[3]), first_from_reference @ cv2.Rodrigues(parameters[:3])[0].T


def _rotation_and_zoom(link: _Link, focal_px: float) -> tuple[np.ndarray, np.ndarray]:
    """Parameters [4] (rotation vector `frame_from_reference`, z) and errors [points, 2] px; `focal_px`: of the reference."""
    rays = np.column_stack([link.source / focal_px, np.ones(len(link.source))])

    def error(parameters: np.ndarray) -> np.ndarray:
        turned = rays @ cv2.Rodrigues(parameters[:3])[0].T
        return turned[:, :2] / np.maximum(turned[:, 2:], 1e-3) * (focal_px * np.exp(parameters[3])) - link.target

    start = np.zeros(4)
    similar, _ = cv2.estimateAffinePartial2D(link.source, link.target, method=cv2.RANSAC, ransacReprojThreshold=3.0)
    if similar is not None:
        scale = np.hypot(*similar[:, 0])
        u, v = similar[:, 2] / (focal_px * scale)
        start = np.array([-v, u, np.arctan2(similar[1, 0], similar[0, 0]), np.log(max(scale, 0.2))])
    parameters, _, _ = minimised(error, start)
    return parameters, error(parameters)


def _focal(links: Sequence[_Link], solved: _Solved, long_side: int, prior_px: float) -> tuple[float, bool]:
    """Focal length of the first frame with the lowest error of the matches, and whether it is well determined; else the prior."""
    chosen = [links[k] for k in np.unique(np.linspace(0, len(links) - 1, 12).astype(int))]

    def mean_error(focal_px: float) -> float:
        errors = [_rotation_and_zoom(link, focal_px * np.exp(solved[link.reference][0]))[1] for link in chosen]
        return float(np.mean([np.minimum(length(each), 2 * INLIER_PX).mean() for each in errors]))

    costs = np.array([mean_error(ratio * long_side) for ratio in FOCALS])
    best = int(costs.argmin())
    if best in (0, len(FOCALS) - 1) or min(costs[best - 1], costs[best + 1]) < costs[best] + DECISIVE_PX:
        return prior_px, False
    a, b, _ = np.polyfit(np.arange(-1, 2), costs[best - 1 : best + 2], 2)
    return float(FOCALS[best] * (FOCALS[1] / FOCALS[0]) ** np.clip(-b / (2 * a), -1, 1)) * long_side, True
