"""Rigid motion or similarity between corresponding points of which only some fit: RANSAC, then least squares on those that do.

Symbols: x source, y target, y = s R x + t. All hypotheses are estimated and judged at once: arrays of motions lead with their axis.
"""

from typing import NamedTuple

import numpy as np

from st4rtrack.geometry.align import Sim3
from st4rtrack.geometry.vectors import all_finite

JUDGES = 2000
"""Pairs, drawn at random where there are more, that propose and judge hypotheses; which of them is best does not need all."""

REFINED = 8
"""Of the hypotheses, how many are refined: which of them is best hardly shows on three noisy points each."""

ROUNDS = 10
"""Of least squares on the pairs that fit, after each of which others fit."""

TIGHT = 3.5
"""A pair fits within so many standard deviations of the noise: 99.3 % of those with normal noise on three axes do."""

TIGHTEST = 0.05
"""Share of the threshold below which it is not tightened, so that rounding is not taken for a misfit where there is no noise."""

MEDIAN_LENGTH = 1.538
"""Of a vector whose three components are normal with deviation 1."""


class _Motions(NamedTuple):
    """Several similarities: scale [k], rotation [k, 3, 3], translation [k, 3]."""

    scale: np.ndarray
    rotation: np.ndarray
    translation: np.ndarray

    def pick(self, index: np.ndarray) -> "_Motions":
        return _Motions(*(part[index] for part in self))


def robust_rigid(
    source: np.ndarray,
    target: np.ndarray,
    *,
    threshold: float,
    with_scale: bool = False,
    weights: np.ndarray | None = None,
    seed: int = 0,
    hypotheses: int = 256,
) -> tuple[Sim3, np.ndarray] | None:
    """The motion `target_from_source` that most pairs of points agree on.

    Triples of pairs propose motions; the score of a motion is the sum of w max(0, 1 - (r / threshold)^2) over the residuals r, and the
    best are refined by least squares on the pairs that fit. Then the noise is measured on those, and the threshold tightened to it.

    Args:
        source, target: [points, 3] corresponding points; pairs that are not finite are left out.
        threshold: the largest residual that can be noise, in units of the target, on the generous side: it is tightened.
        with_scale: estimate a scale too, otherwise it is 1.
        weights: [points] not negative, of the pairs; default 1.
        seed: of the triples.
        hypotheses: how many triples. With 256, all are spoiled with a chance of 1e-15 where half of the pairs are wrong, of 2 % where
            three quarters are.
    Returns:
        The motion and which pairs fit it [points] bool; None where fewer than three do, or where those lie on a line to within what
        fits, which leaves the rotation about it open.
    Raises:
        ValueError: arrays that do not correspond, a threshold that is not positive, or a weight that is negative or not finite.
    Source:
        RANSAC: Fischler and Bolles 1981; score: Torr and Zisserman 2000 (MSAC); refining the best: Chum et al. 2003; least squares:
        Umeyama 1991.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    weights = np.ones(len(source)) if weights is None else np.asarray(weights, np.float64)
    if source.shape != target.shape or source.shape != (len(weights), 3):
        raise ValueError(f"points must be [n, 3] twice and weights [n], got {source.shape}, {target.shape}, {weights.shape}")
    if not threshold > 0 or not (np.isfinite(weights) & (weights >= 0)).all():
        raise ValueError("the threshold must be positive, and weights finite and not negative")
    used = all_finite(source) & all_finite(target) & (weights > 0)
    x, y, w = source[used], target[used], weights[used]
    if len(x) < 3:
        return None
    rng = np.random.default_rng(seed)
    judges = rng.permutation(len(x))[:JUDGES]
    motion = _consensus(x[judges], y[judges], w[judges], threshold, with_scale, rng.integers(len(judges), size=(hypotheses, 3)))
    motion, limit = _tightened(x, y, w, motion, threshold, with_scale)
    fits = _residual(motion, x, y)[0] <= limit
    if fits.sum() < 3 or _breadth(y[fits]) <= limit:
        return None
    inliers = np.zeros(len(source), bool)
    inliers[used] = fits
    return Sim3(float(motion.scale[0]), motion.rotation[0], motion.translation[0]), inliers


def _consensus(x: np.ndarray, y: np.ndarray, w: np.ndarray, threshold: float, with_scale: bool, triples: np.ndarray) -> _Motions:
    """The best of the motions that triples [k, 3] of the pairs propose, after refining those that score best."""
    motions = _least_squares(x[triples], y[triples], np.ones(triples.shape), with_scale)
    motions = motions.pick(np.argsort(-_score(motions, x, y, w, threshold), kind="stable")[:REFINED])
    for _ in range(ROUNDS):
        motions = _least_squares(x, y, w * (_residual(motions, x, y) <= threshold), with_scale)
    return motions.pick(np.argmax(_score(motions, x, y, w, threshold), keepdims=True))


def _tightened(
    x: np.ndarray, y: np.ndarray, w: np.ndarray, motion: _Motions, threshold: float, with_scale: bool
) -> tuple[_Motions, float]:
    """The motion of the pairs that fit within a limit that follows the noise, and the limit.

    What moves slowly stays within the threshold and pulls least squares. It does not pull least distances (by re-weighted squares), which
    therefore come first, so that the noise is measured about the right motion.
    """
    limit, floor = threshold, TIGHTEST * threshold
    for step in range(2 * ROUNDS):
        residual = _residual(motion, x, y)
        fits = residual <= limit
        if fits.sum() < 3:
            break
        if step < ROUNDS:
            motion = _least_squares(x, y, w * fits / np.maximum(residual, floor), with_scale)
        else:
            limit = min(limit, max(TIGHT / MEDIAN_LENGTH * float(np.median(residual[fits])), floor))
            motion = _least_squares(x, y, w * (residual <= limit), with_scale)
    return motion, limit


def _residual(motions: _Motions, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """[k, points] distances |s R x + t - y|."""
    scaled = motions.scale[:, None, None] * motions.rotation
    misfit = scaled @ x.T + motions.translation[..., None] - y.T  # [k, 3, points]: long axis last, which is what makes this fast
    return np.sqrt((misfit**2).sum(axis=1))


def _score(motions: _Motions, x: np.ndarray, y: np.ndarray, w: np.ndarray, threshold: float) -> np.ndarray:
    return np.maximum(0.0, 1 - (_residual(motions, x, y) / threshold) ** 2) @ w


def _least_squares(x: np.ndarray, y: np.ndarray, w: np.ndarray, with_scale: bool) -> _Motions:
    """Motions that minimise sum w |y - s R x - t|^2; points [k, n, 3] or [n, 3], weights [k, n]. Without weight, any motion."""
    w = (w / np.maximum(w.sum(axis=-1, keepdims=True), 1e-300))[:, None]  # [k, 1, n]: sums over n are matrix products
    mean_x, mean_y = w @ x, w @ y
    dx, dy = x - mean_x, y - mean_y
    u, singular, vt = np.linalg.svd((w * dy.swapaxes(1, 2)) @ dx)
    sign = np.sign(np.linalg.det(u @ vt))
    singular[:, 2] *= sign
    u[:, :, 2] *= sign[:, None]
    rotation, scale = u @ vt, np.ones(len(u))
    if with_scale:
        scale = singular.sum(axis=1) / np.maximum((w @ dx**2).sum(axis=(1, 2)), 1e-300)
    return _Motions(scale, rotation, mean_y[:, 0] - scale[:, None] * (mean_x @ rotation.swapaxes(1, 2))[:, 0])


def _breadth(points: np.ndarray) -> float:
    """Standard deviation of points [n, 3] along their second principal axis: how far they are from lying on a line."""
    return float(np.linalg.svd(points - points.mean(axis=0), compute_uv=False)[1] / np.sqrt(len(points)))
