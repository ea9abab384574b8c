"""Zoom of a translating camera: the focal length of every frame over that of the first, from key frames.

Each pair of key frames gives an essential matrix and a change of the focal length; pairs that do not determine the change (motion
along the optical axis has the same flow) are ignored. Then solutions of the window refine it.

Symbols: z logarithm of the zoom; pixels are relative to the image centre, rays = pixels over the focal length.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import cv2
import numpy as np

from st4rtrack.classical.solver.colmap import adjust
from st4rtrack.classical.solver.key_frames import Between, KeyFrame, matches_of
from st4rtrack.classical.solver.window import Window, solve_window
from st4rtrack.classical.two_view import pinhole, relative_pose
from st4rtrack.geometry.sampling import spread_out

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
ZOOM_ROUNDS, ZOOM_CONVERGED = 3, 0.01
"""Maximum number of solutions of a window that refine its logarithmic zoom, and the change that ends them."""


def add_zoom(log_zoom: np.ndarray, keys: list[KeyFrame], size: tuple[int, int], focal_px: float) -> None:
    """Estimate the logarithmic zoom [T] of the frames of a window; those of the previous windows stay, the others are NaN before.

    It is estimated from pairs of key frames, then refined with the cameras and points, at an assumed focal length.
    """
    indices = np.array([key.index for key in keys])
    z = key_frame_zoom(keys, size, focal_px)
    found = z is not None
    z = np.zeros(len(keys)) if z is None else z
    before = log_zoom[indices] - z
    z = z + (float(np.nanmedian(before)) if np.isfinite(before).any() else 0.0)
    frames = np.arange(indices[0], indices[-1] + 1)
    new = frames[np.isnan(log_zoom[frames])]
    log_zoom[new] = np.interp(new, indices, z)
    for _ in range(ZOOM_ROUNDS if found else 0):
        solved = solve_window(at_one_focal(keys, log_zoom, size), size, focal_px)
        if solved is None or not len(solved.px):
            break
        refined = _refined_zoom(solved, log_zoom[solved.frames], size)
        known = np.flatnonzero(np.isfinite(refined))
        known = known[np.argsort(solved.frames[known])]
        changed = np.interp(new, solved.frames[known], smoothed(refined[known])) - log_zoom[new]
        changed -= changed[0] if len(new) == len(frames) else 0.0  # the first frame of the video stays at zero
        log_zoom[new] += changed
        if np.abs(changed).max(initial=0.0) < ZOOM_CONVERGED:
            break


def _refined_zoom(window: Window, log_zoom: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Logarithmic zoom [frames of the window] from a bundle adjustment with a focal length per frame, NaN where unregistered."""
    centre = np.array([size[1] / 2, size[0] / 2])
    px = centre + (window.px - centre) * np.exp(log_zoom[window.mapping.image])[:, None]
    adjusted = adjust(window.mapping, px, size, refine_focal=True, zoom=np.exp(log_zoom))
    assert adjusted.zoom is not None
    first = int(np.flatnonzero(window.mapping.registered)[0])
    return np.log(adjusted.zoom) + log_zoom[first]


def at_one_focal(keys: list[KeyFrame], log_zoom: np.ndarray, size: tuple[int, int]) -> list[KeyFrame]:
    """Key frames with pixels rescaled to the focal length of the first frame of the video; `log_zoom` [T]."""
    if not np.nan_to_num(log_zoom[keys[0].index : keys[-1].index + 1]).any():
        return keys
    centre = np.array([size[1] / 2, size[0] / 2])

    def changed(px: np.ndarray, index: int) -> np.ndarray:
        return centre + (px - centre) / np.exp(log_zoom[index])

    def between(part: Between) -> Between:
        previous, following = (
            None if seen is None else replace(seen, px=changed(seen.px, part.index)) for seen in (part.previous, part.following)
        )
        assert previous is not None
        return Between(part.index, previous, following)

    return [replace(key, px=changed(key.px, key.index), between=list(map(between, key.between))) for key in keys]


class PairZoom(NamedTuple):
    """Change z of the focal length between two key frames, its standard deviation, and the mean truncated squared error with and
    without it."""

    z: float
    deviation: float
    cost: float
    cost_constant: float


def key_frame_zoom(keys: Sequence[KeyFrame], size: tuple[int, int], focal_px: float) -> np.ndarray | None:
    """z [keys] of successive key frames of a translating camera, 0 at the first; `None` without evidence of a zoom."""
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
    pairs = matches_of(one.descriptors, other.descriptors)
    if len(pairs) < MIN_MATCHES:
        return None
    pairs = pairs[spread_out(len(pairs), POINTS)]
    centre = np.array([size[1] / 2, size[0] / 2])
    source, target = one.px[pairs[:, 0]] - centre, other.px[pairs[:, 1]] - centre
    camera = pinhole(focal_px, (0, 0))

    def started(z: float) -> tuple[float, np.ndarray, np.ndarray, float]:
        pose, _ = relative_pose(source, target / np.exp(z), camera, 1.0, iterations=(30, 100))
        rotation, direction = pose[:3, :3], pose[:3, 3] / max(np.linalg.norm(pose[:3, 3]), 1e-12)
        start = np.array([0, 0, 0, 0, 0, z])
        return _cost(_epipolar_error(start, rotation, direction, source, target, focal_px)), rotation, direction, z

    def refined(rotation: np.ndarray, direction: np.ndarray, z: float, free: int) -> tuple[np.ndarray, np.ndarray, float]:
        def error(parameters: np.ndarray) -> np.ndarray:
            whole = np.concatenate([parameters, np.zeros(6 - free)])
            return _epipolar_error(whole, rotation, direction, source, target, focal_px)

        return minimised(error, np.array([0, 0, 0, 0, 0, z])[:free])

    starts = {z: started(z) for z in STARTS}
    without, best = starts[0.0], min(starts.values(), key=lambda each: each[0])
    found, deviations, cost = min((refined(*start[1:], 6) for start in (best, without)), key=lambda each: each[2])
    return PairZoom(float(found[5]), float(deviations[5]), cost, refined(*without[1:], 5)[2])


def _epipolar_error(
    parameters: np.ndarray, rotation: np.ndarray, direction: np.ndarray, source: np.ndarray, target: np.ndarray, focal_px: float
) -> np.ndarray:
    """Sampson errors [points, 1] in pixels; parameters: rotation vector, change of the direction of translation (2), z."""
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


def minimised(error: Callable[[np.ndarray], np.ndarray], parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
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
