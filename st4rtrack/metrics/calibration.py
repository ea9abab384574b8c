"""Whether probabilities mean what they say."""

import numpy as np

BINS = 10


def expected_calibration_error(probability: np.ndarray, outcome: np.ndarray, *, bins: int = BINS) -> float:
    """Mean distance between what is said and what happens: over bins of equal width, |mean probability - share that happened|.

    Args:
        probability: [...] within 0 and 1.
        outcome: [...] bool.
        bins: how many; each counts by what is in it.
    Returns:
        0 to 1, smaller is better; NaN where nothing is given.
    Raises:
        ValueError: the shapes differ, or a probability is not within 0 and 1.
    Source:
        Naeini et al. 2015.
    """
    said, happened = np.asarray(probability, np.float64).reshape(-1), np.asarray(outcome, bool).reshape(-1)
    if np.shape(probability) != np.shape(outcome) or not ((said >= 0) & (said <= 1)).all():
        raise ValueError("probabilities must be within 0 and 1, and as many as outcomes")
    if said.size == 0:
        return float("nan")
    which = np.minimum((said * bins).astype(np.int64), bins - 1)
    excess = np.bincount(which, said - happened, minlength=bins)
    return float(np.abs(excess).sum() / said.size)
