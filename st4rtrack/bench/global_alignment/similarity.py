"""Confidence-weighted Procrustes."""

import numpy as np

from st4rtrack.geometry.align import Sim3


def weighted_similarity(source: np.ndarray, target: np.ndarray, weights: np.ndarray) -> Sim3:
    """The similarity that minimises the weighted sum of squared distances (Umeyama 1991, with weights in every mean).

    Args:
        source, target: [..., 3] corresponding points.
        weights: [...] not negative.
    Returns:
        `Sim3` with `target = scale * rotation @ source + translation`.
    Raises:
        ValueError: the weights or the source's spread are zero, or something is not finite.
    """
    x, y = (np.asarray(points, np.float64).reshape(-1, 3) for points in (source, target))
    w = np.asarray(weights, np.float64).reshape(-1)
    w = w / w.sum() if w.sum() > 0 else w
    mean_x, mean_y = w @ x, w @ y
    x, y = x - mean_x, y - mean_y
    variance = w @ (x * x).sum(-1)
    if not (np.isfinite(variance) and np.isfinite(mean_y).all() and variance > 0):
        raise ValueError("a similarity cannot be estimated: the weighted source points have no finite spread")
    u, singular, vt = np.linalg.svd((w[:, None] * y).T @ x)
    sign = np.array([1.0, 1.0, np.sign(np.linalg.det(u @ vt))])
    rotation = (u * sign) @ vt
    scale = float((singular * sign).sum() / variance)
    return Sim3(scale, rotation, mean_y - scale * rotation @ mean_x)
