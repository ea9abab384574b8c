"""Alignment of predicted with true points: global median scale and closed-form similarity (paper section 4.2)."""

from dataclasses import dataclass

import numpy as np


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
    """Scale that makes the median norm of the source that of the target.

    Args:
        source, target: [..., 3] corresponding points about a common origin (the anchor's camera).
    Returns:
        median |target| / median |source|, norms floored at 1e-12 as the published evaluator does.
    """
    norm = np.maximum(np.linalg.norm(source, axis=-1), 1e-12)
    return float(np.median(np.maximum(np.linalg.norm(target, axis=-1), 1e-12)) / np.median(norm))


def umeyama(source: np.ndarray, target: np.ndarray, *, allow_reflection_scale: bool = False) -> Sim3:
    """Least-squares similarity `target_from_source` (Umeyama 1991, equations 40-43).

    Args:
        source, target: [..., 3] corresponding points.
        allow_reflection_scale: reproduce the published evaluator, whose scale sums the singular values without turning
            the sign of the last one where the best orthogonal matrix would be a reflection.
    Returns:
        `Sim3` with `target = scale * rotation @ source + translation`.
    Raises:
        ValueError: fewer than three points, or all source points equal.
    """
    x, y = np.asarray(source, np.float64).reshape(-1, 3), np.asarray(target, np.float64).reshape(-1, 3)
    if len(x) < 3 or len(x) != len(y):
        raise ValueError(f"a similarity needs at least three pairs of points, got {len(x)} and {len(y)}")
    mean_x, mean_y = x.mean(0), y.mean(0)
    variance = ((x - mean_x) ** 2).sum() / len(x)
    if variance <= 0:
        raise ValueError("a similarity cannot be estimated: all source points are equal")
    u, singular, vt = np.linalg.svd((y - mean_y).T @ (x - mean_x) / len(x))
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = u @ np.diag(sign) @ vt
    scale = (singular if allow_reflection_scale else singular * sign).sum() / variance
    return Sim3(scale=float(scale), rotation=rotation, translation=mean_y - scale * rotation @ mean_x)
