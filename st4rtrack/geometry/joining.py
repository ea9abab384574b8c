"""The similarity between two clouds that show the same, point by point, with noise and some points that are wrong in either."""

import numpy as np

from st4rtrack.geometry.align import Sim3, umeyama
from st4rtrack.geometry.vectors import length

ROUNDS = 6
REACH = 4.0
"""Residuals beyond so many medians of the half that fits better count nothing (the biweight)."""

EXACT = 1e-9
"""Of the size of the target: a residual that is rounding."""


def joined(source: np.ndarray, target: np.ndarray, *, share: float = 0.5) -> tuple[Sim3, np.ndarray] | None:
    """The similarity `target_from_source`, by iteratively re-weighted least squares in closed form.

    Correspondences are known and most are right, so that nothing has to be searched: least distances come first, then the biweight, whose
    width follows the noise.

    Args:
        source, target: [points, 3] corresponding and finite.
        share: of the points that are right at least; their residuals measure the noise.
    Returns:
        The similarity and the residuals [points] in units of the target; `None` where the points do not tell one.
    Source:
        Closed form: Umeyama 1991; biweight: Beaton and Tukey 1974.
    """
    if len(source) < 3:
        return None
    floor = EXACT * max(float(np.abs(target).max()), 1e-300)
    weights = np.ones(len(source))
    try:
        for step in range(2 * ROUNDS):
            similarity = umeyama(source, target, weights=weights)
            residual = length(similarity(source) - target)
            noise = max(float(np.quantile(residual, share / 2)), floor)
            weights = 1 / np.maximum(residual, noise) if step < ROUNDS else _biweight(residual / (REACH * noise))
    except ValueError:
        return None
    return (similarity, residual) if similarity.scale > 0 else None


def _biweight(relative: np.ndarray) -> np.ndarray:
    return np.maximum(0.0, 1 - relative**2) ** 2
