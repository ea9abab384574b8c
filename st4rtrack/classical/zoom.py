"""Zoom of a video: the focal length of every frame over that of the first, from matches of key frames.

Two models. A camera that does not translate: every match is a rotation and a change of the focal length. A translating camera: an
essential matrix and a change of the focal length for each pair of key frames; pairs that do not determine the change (motion along
the optical axis has the same flow) are ignored.

Symbols: z logarithm of the zoom; pixels are relative to the image centre, rays = pixels over the focal length.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np

from st4rtrack.classical.anchor_matches import Matches
from st4rtrack.classical.solver.key_frames import KeyFrame
from st4rtrack.classical.solver.matching import matches_of
from st4rtrack.classical.two_view import pinhole
from st4rtrack.geometry.vectors import length

OFFSETS = (5, 2)
"""Key-frame distances of the pairs: far ones are accurate and decide, near ones connect all key frames."""
STARTS = (-0.2, -0.1, 0.0, 0.1, 0.2)
"""Initial z of a pair."""
POINTS, MIN_MATCHES = 300, 30
UNITS_PX = (8.0, 4.0, 2.0, 1.0, 1.0, 1.0)
"""Scale of the robust loss in the rounds of a fit."""
MAX_HALVINGS = 4
INLIER_PX = 1.5
MAX_DEVIATION = 0.02
"""Standard deviation of z of a pair, under independent errors of the points, above which it is undetermined."""
STIFFNESS = 200.0
"""Weight of the second difference of z, which is smooth over time."""
SMOOTHING = 10.0
"""Weight of the second difference of z against the values of single frames."""
NUM_PROBES, MIN_PROBE_ZOOM = 6, 0.015
"""Number of pairs that decide whether all are computed, and the minimum median of their |z|."""
MIN_ZOOM = 0.05
"""Range of z from which a video counts as zooming."""
MAX_COST_RATIO = 0.8
"""Maximum of the costs of the far pairs with zoom over those without, of a zooming video: 0.3 to 0.6 in rendered zooms, 0.88 to
0.99 in rendered and real videos with a constant focal length."""
TURNING_INLIER_PX, MIN_ROTATION_SHARE = 3.0, 0.5
"""Error of an inlier under rotation and zoom, and minimum share of a frame: a quarter of the matches of key frames may be wrong."""
MIN_KEPT_SHARE = 0.3
"""Share of matched features below which the reference changes."""
FOCALS = np.geomspace(0.45, 2.2, 12)
"""Candidate focal lengths of the first frame of a rotating camera, in long sides."""
DECISIVE_PX = 0.05
"""Increase of the mean error by a factor of 1.15 of the focal length, from which the matches determine it."""
MIN_SOLVED_SHARE = 0.8


class PairZoom(NamedTuple):
    """Change of the focal length between two key frames.

    Attributes:
        z: logarithm of the ratio of the focal lengths.
        deviation: its standard deviation.
        cost, cost_constant: mean truncated squared error with this zoom, and without.
    """

    z: float
    deviation: float
    cost: float
    cost_constant: float


def key_frame_zoom(keys: Sequence[KeyFrame], size: tuple[int, int], focal_px: float) -> np.ndarray | None:
    """z [keys] of the key frames of a translating camera, 0 at the first; `None` without evidence of a zoom.

    Args:
        keys: successive key frames, pixels of the working image.
        size: (height, width) of the working image.
        focal_px: assumed focal length, which hardly matters.
    """
    pairs = [(a, a + offset) for offset in OFFSETS for a in range(len(keys) - offset)]
    far = [pair for pair in pairs if pair[1] - pair[0] == OFFSETS[0]]
    probe = [far[k] for k in np.unique(np.linspace(0, len(far) - 1, NUM_PROBES).astype(int))] if far else []
    found = {pair: pair_zoom(keys[pair[0]], keys[pair[1]], size, focal_px) for pair in probe}
    if not _is_zoom([each for each in found.values() if each is not None], MIN_PROBE_ZOOM):
        return None
    for pair in pairs:
        if pair not in found:
            found[pair] = pair_zoom(keys[pair[0]], keys[pair[1]], size, focal_px)
    used = {pair: each for pair, each in found.items() if each is not None and each.deviation < MAX_DEVIATION}
    if not _is_zoom([each for pair, each in used.items() if pair[1] - pair[0] == OFFSETS[0]], 0.0):
        return None
    z = _integrated(used, len(keys))
    return z if np.ptp(z) >= MIN_ZOOM else None


def _is_zoom(pairs: Sequence[PairZoom], min_zoom: float) -> bool:
    """Whether most of the pairs determine the zoom, and explain their matches much better with it."""
    sure = [pair for pair in pairs if pair.deviation < MAX_DEVIATION]
    if not sure or float(np.median([abs(pair.z) for pair in sure])) < min_zoom:
        return False
    ratio = sum(pair.cost for pair in sure) / max(sum(pair.cost_constant for pair in sure), 1e-9)
    return 2 * len(sure) >= len(pairs) > 0 and ratio < MAX_COST_RATIO


def pair_zoom(one: KeyFrame, other: KeyFrame, size: tuple[int, int], focal_px: float) -> PairZoom | None:
    """Change of the focal length between two key frames of a translating camera; `None` with too few matches."""
    import poselib  # lazy import: training on rendered pairs does not need it

    pairs = matches_of(one.descriptors, other.descriptors)
    if len(pairs) < MIN_MATCHES:
        return None
    pairs = pairs[np.linspace(0, len(pairs) - 1, min(POINTS, len(pairs))).astype(int)]
    centre = np.array([size[1] / 2, size[0] / 2])
    source, target = one.px[pairs[:, 0]] - centre, other.px[pairs[:, 1]] - centre
    camera = pinhole(focal_px, (0, 0))
    options = {"max_epipolar_error": 1.0, "max_iterations": 100, "min_iterations": 30, "seed": 0}

    def started(z: float) -> tuple[float, np.ndarray, np.ndarray, float]:
        pose, _ = poselib.estimate_relative_pose(source, target / np.exp(z), camera, camera, options, {})
        rotation, direction = np.asarray(pose.R), np.asarray(pose.t) / max(np.linalg.norm(pose.t), 1e-12)
        start = np.array([0, 0, 0, 0, 0, z])
        return _cost(_epipolar_error(start, rotation, direction, source, target, focal_px)), rotation, direction, z

    def refined(rotation: np.ndarray, direction: np.ndarray, z: float, free: int) -> tuple[np.ndarray, np.ndarray, float]:
        def error(parameters: np.ndarray) -> np.ndarray:
            whole = np.concatenate([parameters, np.zeros(6 - free)])
            return _epipolar_error(whole, rotation, direction, source, target, focal_px)

        return _minimised(error, np.array([0, 0, 0, 0, 0, z])[:free])

    starts = {z: started(z) for z in STARTS}
    without, best = starts[0.0], min(starts.values(), key=lambda each: each[0])
    found, deviations, cost = min((refined(*start[1:], 6) for start in (best, without)), key=lambda each: each[2])
    return PairZoom(float(found[5]), float(deviations[5]), cost, refined(*without[1:], 5)[2])


def _epipolar_error(
    parameters: np.ndarray, rotation: np.ndarray, direction: np.ndarray, source: np.ndarray, target: np.ndarray, focal_px: float
) -> np.ndarray:
    """Sampson errors [points, 1] in pixels of the first image.

    Args:
        parameters: changes of the rotation (vector) and of the direction of the translation (2), and z.
    """
    tangents = np.linalg.svd(direction[None])[2][1:]
    t = direction + parameters[3:5] @ tangents
    t = t / np.linalg.norm(t)
    turned = cv2.Rodrigues(parameters[:3])[0] @ rotation
    essential = np.array([[0, -t[2], t[1]], [t[2], 0, -t[0]], [-t[1], t[0], 0]]) @ turned
    a = np.column_stack([source / focal_px, np.ones(len(source))])
    b = np.column_stack([target / (focal_px * np.exp(parameters[5])), np.ones(len(target))])
    there, back = a @ essential.T, b @ essential
    norm = np.sqrt((there[:, :2] ** 2).sum(1) + (back[:, :2] ** 2).sum(1) + 1e-18)
    return ((b * there).sum(1) / norm * focal_px)[:, None]


def _minimised(error: Callable[[np.ndarray], np.ndarray], parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Robust Gauss-Newton: parameters, their standard deviations, and the mean truncated squared error."""
    num = len(parameters)
    normal, variance = np.eye(num), 1.0
    for unit in UNITS_PX:
        now = error(parameters)
        jacobian = np.stack([(error(parameters + step) - now) / 1e-5 for step in np.eye(num) * 1e-5], axis=-1)
        weight = 1 / (1 + (now**2).sum(1) / unit**2) ** 2
        normal = np.einsum("nij,nik,n->jk", jacobian, jacobian, weight) + 1e-6 * np.eye(num)
        step = np.linalg.solve(normal, np.einsum("nij,ni,n->j", jacobian, now, weight)).clip(-0.3, 0.3)
        for _ in range(MAX_HALVINGS):
            if _robust(error(parameters - step), unit) <= _robust(now, unit):
                parameters = parameters - step
                break
            step = step / 2
        variance = float((weight[:, None] * now**2).sum() / max(weight.sum(), 1e-9))
    return parameters, np.sqrt(variance * np.diag(np.linalg.inv(normal))), _cost(error(parameters))


def _robust(error: np.ndarray, unit: float) -> float:
    squared = (error**2).sum(1)
    return float((squared / (1 + squared / unit**2)).sum())


def _cost(error: np.ndarray) -> float:
    return float(np.minimum((error**2).sum(1), INLIER_PX**2).mean())


def _integrated(pairs: dict[tuple[int, int], PairZoom], count: int) -> np.ndarray:
    """z [count] whose differences are those of the pairs, smooth, robust, and 0 at the first."""
    rows = np.array(list(pairs))
    z = np.array([pair.z for pair in pairs.values()])
    sure = 1 / (np.array([pair.deviation for pair in pairs.values()]) ** 2 + 0.003**2)
    difference = np.zeros((len(rows), count))
    difference[np.arange(len(rows)), rows[:, 1]], difference[np.arange(len(rows)), rows[:, 0]] = 1, -1
    bend = np.diff(np.eye(count), 2, axis=0) * STIFFNESS
    found, weight = np.zeros(count), sure
    for _ in range(8):
        normal = (difference.T * weight) @ difference + bend.T @ bend + 1e-9 * np.eye(count)
        found = np.linalg.solve(normal, difference.T @ (weight * z))
        weight = sure / (1 + ((difference @ found - z) / 0.01) ** 2)
    return found - found[0]


def smoothed(z: np.ndarray) -> np.ndarray:
    """Smooth z [frames] of successive frames."""
    bend = np.diff(np.eye(len(z)), 2, axis=0)
    return np.linalg.solve(np.eye(len(z)) + SMOOTHING * bend.T @ bend, z)


def at_one_focal(matches: Matches, zoom: np.ndarray) -> Matches:
    """Matches as seen with the focal length of the anchor; `zoom` [frames] is that of the frames over it."""
    centre = np.array([matches.size[1] / 2, matches.size[0] / 2])
    return replace(matches, frame_px=centre + (matches.frame_px - centre) / zoom[:, None, None])


@dataclass(frozen=True)
class TurningCamera:
    """Camera without translation, in all frames of a video.

    Attributes:
        focal_px: focal length of the first frame.
        z: [T] logarithm of the focal length of each frame over that of the first, NaN where unknown.
        first_from_frame: [T, 3, 3] rotations, NaN where unknown.
        decided: whether the rotations determine `focal_px`; else it is the one that was passed.
    """

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
    """Matches that connect each frame with a reference, and what they give with this focal length."""
    centre = np.array([size[1] / 2, size[0] / 2])
    links: list[_Link] = []
    solved: _Solved = {}
    reference = last = None

    def linked(frame: int, to: KeyFrame, features: np.ndarray, px: np.ndarray) -> bool | None:
        """Whether the model explains the matches of a frame with a key frame; `None` if there are too few."""
        if to.index not in solved or len(features) < MIN_MATCHES:
            return None
        chosen = np.linspace(0, len(features) - 1, min(POINTS, len(features))).astype(int)
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
    """z and `first_from_frame` of the frame of a link; `None` if a rotation and a zoom do not explain its matches."""
    z, first_from_reference = solved[link.reference]
    parameters, error = _rotation_and_zoom(link, focal_px * np.exp(z))
    if (length(error) < TURNING_INLIER_PX).mean() < MIN_ROTATION_SHARE:
        return None
    return z + float(parameters[3]), first_from_reference @ cv2.Rodrigues(parameters[:3])[0].T


def _rotation_and_zoom(link: _Link, focal_px: float) -> tuple[np.ndarray, np.ndarray]:
    """Rotation vector `frame_from_reference` with z [4], and errors [points, 2] in pixels; `focal_px` of the reference."""
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
    parameters, _, _ = _minimised(error, start)
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
