"""Alignment of predicted to ground-truth points: global median scale and closed-form similarity (paper section 4.2)."""

from dataclasses import dataclass

import numpy as np

from st4rtrack.geometry.vectors import length


@dataclass(frozen=True)
class Sim3:
    """A similarity: `x_target = scale * rotation @ x_source + translation`; rotation [3, 3], translation [3]."""

    scale: float
    rotation: np.ndarray
    translation: np.ndarray

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Transformed points [..., 3]."""
        return self.scale * points @ self.rotation.T + self.translation


def median_scale(source: np.ndarray, target: np.ndarray) -> float:
    """Scale factor that matches the median norm of the source to that of the target.

    Args:
        source, target: [..., 3] corresponding points about a common origin (the anchor's camera).
    Returns:
        median |target| / median |source|, norms floored at 1e-12 as in the published evaluator.
    """
    return float(np.median(floored_norm(target)) / np.median(floored_norm(source)))


def floored_norm(points: np.ndarray) -> np.ndarray:
    """Norms [...] of points [..., 3], at least 1e-12."""
    return np.maximum(length(points), 1e-12)


def umeyama(
    source: np.ndarray, target: np.ndarray, *, weights: np.ndarray | None = None, allow_reflection_scale: bool = False
) -> Sim3:
    """Least-squares similarity `target_from_source` (Umeyama 1991, equations 40-43).

    Args:
        source, target: [..., 3] corresponding points.
        weights: [...] non-negative weights of all means; default 1.
        allow_reflection_scale: reproduce the published evaluator, whose scale sums the singular values without flipping the
            sign of the last one when the best orthogonal matrix is a reflection.
    Returns:
        `Sim3` with `target = scale * rotation @ source + translation`.
    Raises:
        ValueError: fewer than three points, all weighted points at one position, or non-finite values.
    """
    moments = Moments()
    moments.add(source, target, weights)
    return moments.similarity(allow_reflection_scale=allow_reflection_scale)


class Moments:
    """Running sums over corresponding points, from which the similarity is computed: the points may arrive in chunks."""

    def __init__(self) -> None:
        self.count = 0
        self._weight = 0.0
        self._origin_x = self._origin_y = np.zeros(3)
        self._sum_x, self._sum_y = np.zeros(3), np.zeros(3)
        self._square_x, self._outer = 0.0, np.zeros((3, 3))

    def add(self, source: np.ndarray, target: np.ndarray, weights: np.ndarray | None = None) -> None:
        """Add finite points [..., 3] with weights [...]; sums are centred on the first chunk's means, against cancellation."""
        x, y = (np.asarray(points, np.float64).reshape(-1, 3) for points in (source, target))
        w = np.ones(len(x)) if weights is None else np.asarray(weights, np.float64).reshape(-1)
        if not len(x) == len(y) == len(w):
            raise ValueError(f"source, target and weights must have equal lengths, got {len(x)}, {len(y)} and {len(w)}")
        if len(x) == 0:
            return
        if self.count == 0:
            self._origin_x, self._origin_y = x.mean(0), y.mean(0)
        x, y = x - self._origin_x, y - self._origin_y
        weighted_x = w[:, None] * x
        self.count += len(x)
        self._weight += float(w.sum())
        self._sum_x, self._sum_y = self._sum_x + weighted_x.sum(0), self._sum_y + w @ y
        self._square_x += float((weighted_x * x).sum())
        self._outer += y.T @ weighted_x

    @property
    def target_mean(self) -> np.ndarray:
        """[3] mean of the target points."""
        return self._origin_y + self._sum_y / self._weight

    def similarity(self, *, allow_reflection_scale: bool = False) -> Sim3:
        """Least-squares similarity of all points added, as `umeyama`.

        Raises:
            ValueError: see `umeyama`.
        """
        if self.count < 3:
            raise ValueError(f"a similarity needs at least three pairs of points, got {self.count}")
        weight = max(self._weight, 1e-300)
        mean_x, mean_y = self._sum_x / weight, self._sum_y / weight
        square = self._square_x / weight
        variance = square - mean_x @ mean_x
        outer = self._outer / weight - np.outer(mean_y, mean_x)
        if not (variance > 1e-12 * square and np.isfinite(outer).all()):
            raise ValueError("a similarity cannot be estimated: all source points are equal, or a value is not finite")
        u, singular, vt = np.linalg.svd(outer)
        sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
        rotation = u @ np.diag(sign) @ vt
        scale = (singular if allow_reflection_scale else singular * sign).sum() / variance
        mean_x, mean_y = mean_x + self._origin_x, mean_y + self._origin_y
        return Sim3(scale=float(scale), rotation=rotation, translation=mean_y - scale * rotation @ mean_x)


ROUNDS = 6
BIWEIGHT_CUTOFF = 4.0
"""Cut-off of the biweight, in medians of the residuals of the better half."""

ROUNDING_ERROR = 1e-9
"""Residual relative to the size of the target that counts as rounding error."""


def robust_similarity(source: np.ndarray, target: np.ndarray, *, share: float = 0.5) -> tuple[Sim3, np.ndarray] | None:
    """Robust similarity `target_from_source`, by iteratively re-weighted closed-form least squares.

    Correspondences are known and most are correct, so that no search is needed: least absolute distances first, then the
    biweight, with a width that adapts to the noise.

    Args:
        source, target: [points, 3] corresponding and finite points.
        share: minimum share of correct points; their residuals give the noise level.
    Returns:
        The similarity and the residuals [points] in target units; `None` if the points do not determine one.
    Source:
        Closed form: Umeyama 1991; biweight: Beaton and Tukey 1974.
    """
    if len(source) < 3:
        return None
    floor = ROUNDING_ERROR * max(float(np.abs(target).max()), 1e-300)
    weights = np.ones(len(source))
    try:
        for step in range(2 * ROUNDS):
            similarity = umeyama(source, target, weights=weights)
            residual = length(similarity(source) - target)
            noise = max(float(np.quantile(residual, share / 2)), floor)
            weights = 1 / np.maximum(residual, noise) if step < ROUNDS else _biweight(residual / (BIWEIGHT_CUTOFF * noise))
    except ValueError:
        return None
    return (similarity, residual) if similarity.scale > 0 else None


def _biweight(relative: np.ndarray) -> np.ndarray:
    return np.maximum(0.0, 1 - relative**2) ** 2
