"""How far one cloud of points has drifted from another of which most should be the same: a similarity near the identity.

Unlike `procrustes`, which looks for any motion, this one starts from the identity and stays there unless the points say otherwise: it is
meant to take out a drift without adding the noise of seven estimated numbers.
"""

from typing import NamedTuple

import cv2
import numpy as np

from st4rtrack.geometry.align import Sim3, umeyama
from st4rtrack.geometry.vectors import all_finite, length

ROUNDS = 12
"""Of re-weighted least squares; each starts from the weights of the one before."""

SAME_SHARE = 0.3
"""At least this share of the weight is taken to be what did not change: the noise is measured on it."""

NORMAL_QUANTILE = 1.193
"""The `SAME_SHARE` quantile of the length of a vector whose three components are normal with deviation 1."""

REACH = 4.0
"""Residuals beyond so many deviations count nothing (the biweight)."""

EXACT = 1e-6
"""Relative residual below which points are equal: float32."""

PARAMETERS = 7


def drift(source: np.ndarray, target: np.ndarray, *, weights: np.ndarray | None = None, points_per_sample: float = 1.0) -> Sim3:
    """The similarity `target_from_source` of what is the same in both, shrunk towards the identity by its own uncertainty.

    Iteratively re-weighted least squares (Umeyama's closed form, biweight) on residuals relative to the distance of the target, since both
    clouds are seen from the origin and their noise grows with it. What moved is an outlier. Then the seven numbers are compared with
    their standard errors: of a chi-square statistic s, the share max(0, 1 - 7 / s) is kept (positive-part James-Stein).

    Args:
        source, target: [points, 3] corresponding, seen from the origin; pairs that are not finite are left out.
        weights: [points] not negative; default 1.
        points_per_sample: neighbours share their noise: how many points are worth one independent sample.
    Returns:
        The similarity; exactly the identity where fewer than `3 * 7` samples agree, or the points do not tell it.
    Raises:
        ValueError: arrays that do not correspond.
    Source:
        Biweight: Beaton and Tukey 1974; closed form: Umeyama 1991; shrinkage: James and Stein 1961, Baranchik 1964.
    """
    source, target = np.asarray(source, np.float64), np.asarray(target, np.float64)
    weights = np.ones(len(source)) if weights is None else np.asarray(weights, np.float64)
    if source.shape != target.shape or source.shape != (len(weights), 3):
        raise ValueError(f"points must be [n, 3] twice and weights [n], got {source.shape}, {target.shape}, {weights.shape}")
    used = all_finite(source) & all_finite(target) & (weights > 0)
    x, y, prior = source[used], target[used], weights[used]
    distance = length(y)
    near = distance > 0
    x, y, prior, distance = x[near], y[near], prior[near], distance[near]
    if len(x) < PARAMETERS * points_per_sample:
        return identity()
    return _kept_part(_fitted(x, y, distance, prior / prior.max()), y, points_per_sample)


def identity() -> Sim3:
    """The similarity that changes nothing."""
    return Sim3(1.0, np.eye(3), np.zeros(3))


class _Fit(NamedTuple):
    """The similarity `source_from_target`: the target is taken as exact, or its noise would look like a smaller scale.

    weights [points] are those of the last round; noise is the variance per axis that makes `noise / sum(weights)` that of the translation.
    """

    motion: Sim3
    weights: np.ndarray
    noise: float
    samples: float


def _fitted(x: np.ndarray, y: np.ndarray, distance: np.ndarray, prior: np.ndarray) -> _Fit | None:
    """After all rounds; None where no similarity can be estimated."""
    motion, trust = identity(), prior
    for _ in range(ROUNDS):
        residual = length(motion(y) - x) / distance
        trust = prior * _biweight(residual)[0]
        try:
            motion = umeyama(y, x, weights=trust / distance**2)
        except ValueError:
            return None
    residual = length(motion(y) - x) / distance
    share, slope = _biweight(residual)
    trust, effective = prior * share, max(float(prior @ slope), 1e-300)
    scatter = float((trust**2) @ np.maximum(residual, EXACT) ** 2) / 3
    samples = float(trust.sum()) ** 2 / max(float((trust**2).sum()), 1e-300)
    return _Fit(motion, trust / distance**2, scatter * float(trust.sum()) / effective**2, samples)


def _biweight(residual: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weights [points], and by how much each pull grows with its residual, a mean over directions (an M-estimator's psi')."""
    reach = REACH * max(float(np.quantile(residual, SAME_SHARE)) / NORMAL_QUANTILE, EXACT)
    left = np.maximum(0.0, 1 - (residual / reach) ** 2)
    return left**2, left**2 - 4 / 3 * (1 - left) * left


def _kept_part(fit: _Fit | None, y: np.ndarray, points_per_sample: float) -> Sim3:
    """Of the inverse of a fit the part that its standard errors leave.

    About the weighted centroid, where log scale, rotation and translation are independent of each other: the normal equations are blocks.
    """
    if fit is None or fit.samples < 3 * PARAMETERS * points_per_sample:
        return identity()
    motion, total = fit.motion, fit.weights.sum()
    centroid = fit.weights @ y / total
    spread = (fit.weights[:, None] * (y - centroid)).T @ (y - centroid)
    log_scale, turn = np.log(motion.scale), cv2.Rodrigues(motion.rotation)[0][:, 0]
    shift = motion(centroid) - centroid
    size = log_scale**2 * np.trace(spread) + turn @ (np.trace(spread) * np.eye(3) - spread) @ turn + total * shift @ shift
    kept = 1 - PARAMETERS * fit.noise * points_per_sample / max(float(size), 1e-300)
    if not kept > 0:
        return identity()
    scale, rotation = float(np.exp(-kept * log_scale)), cv2.Rodrigues(-kept * turn)[0]
    return Sim3(scale, rotation, centroid - scale * rotation @ (centroid + kept * shift))
