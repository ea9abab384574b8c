"""Smoothing of many tracks at once by local polynomials, each term of which is kept as far as it stands out of the noise."""

from collections.abc import Callable

import numpy as np

from st4rtrack.geometry.vectors import dot

DEGREE = 3
"""Highest power of time that a window is described by."""

FEWEST = DEGREE + 3
"""Samples below which a window says nothing about noise."""

CLEAR = 1.5
"""A term whose square is so many times what noise makes of it is kept whole: a motion that is there must not be shortened."""

NORMAL_MEDIAN = 2.366
"""Median of the squared length of a vector whose three components are normal with deviation 1."""

THIRD_DIFFERENCE = 20.0
"""Variance of the third difference (1, -3, 3, -1) of samples with variance 1."""


def noise_variance(window: np.ndarray) -> np.ndarray:
    """Variance per axis of the noise of tracks, from their third differences.

    A motion whose acceleration is constant has none; the median over time leaves out the few that a collision makes.

    Args:
        window: [time, ..., 3] positions at even times, at least four.
    Returns:
        [...] float32.
    """
    thirds = window[3:] - 3 * (window[2:-1] - window[1:-2]) - window[:-3]
    return _median_of_few(dot(thirds, thirds)).astype(np.float32) / np.float32(NORMAL_MEDIAN * THIRD_DIFFERENCE)


@np.errstate(invalid="ignore", over="ignore")  # of what is not finite, and given back as it was
def smoothed(
    window: np.ndarray, index: int, variance: np.ndarray, *, pooled: Callable[[np.ndarray], np.ndarray] = np.asarray
) -> np.ndarray:
    """Position of each track at one time of a window, freed of noise without a lag.

    The window is written in polynomials that are orthonormal over its times. The coefficients of degree one and more, and all that no
    polynomial describes, are kept as far as their squares exceed what noise alone would make of them: a track at rest becomes its mean,
    an accelerated one a parabola, a collision stays as it was.

    Args:
        window: [time, ..., 3] positions at even times, at least `FEWEST`.
        index: which time is wanted.
        variance: [...] of the noise per axis.
        pooled: mean of squares [...] over tracks that move alike, where one alone says little.
    Returns:
        [..., 3], of the type of the window; as it was where something in the window is not finite.
    """
    basis, here = _polynomials(len(window)).astype(window.dtype), window[index]
    offsets = window - here  # small numbers, whose squares keep their digits
    coefficients = np.tensordot(basis, offsets, axes=1)
    whole, squares = dot(offsets, offsets).sum(axis=0), dot(coefficients, coefficients)
    finite = np.isfinite(whole) & np.isfinite(squares).all(axis=0)
    whole, squares, noise = (np.where(finite, values, 0) for values in (whole, squares, variance))
    left = np.maximum(whole - squares.sum(axis=0), 0)
    result = here + basis[0, index] * coefficients[0]
    described = np.tensordot(basis[:, index], coefficients, axes=1)
    result -= _kept(pooled(left), 3 * (len(window) - len(basis)) * noise)[..., None] * described
    for k in range(1, len(basis)):
        result += (basis[k, index] * _kept(pooled(squares[k]), 3 * noise))[..., None] * coefficients[k]
    return np.where(finite[..., None], result, here)


def _polynomials(count: int) -> np.ndarray:
    """[degree + 1, count] polynomials of growing degree, orthonormal over `count` even times; symmetric or antisymmetric."""
    times = np.linspace(-1, 1, count)
    return np.linalg.qr(np.vander(times, DEGREE + 1, increasing=True))[0].T


def _median_of_few(samples: np.ndarray) -> np.ndarray:
    """`np.median` over the first axis, by exchanging neighbours: a tenth of its time for a handful of samples [samples, ...]."""
    ordered = list(samples)
    count = len(ordered)
    for start in range(count):
        for k in range(start % 2, count - 1, 2):
            ordered[k], ordered[k + 1] = np.minimum(ordered[k], ordered[k + 1]), np.maximum(ordered[k], ordered[k + 1])
    return (ordered[(count - 1) // 2] + ordered[count // 2]) / 2


def _kept(square: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Share to keep of something with a squared length, of which noise is expected to make so much."""
    return np.clip((square / np.maximum(expected, 1e-30) - 1) / (CLEAR - 1), 0, 1)
