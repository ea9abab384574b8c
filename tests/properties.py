"""What the property tests draw from: clouds that say too little, units that are too small or too large, and what must hold of all."""

import numpy as np
from hypothesis import strategies as st

SEEDS = st.integers(0, 10**6)
SCALES = st.sampled_from([1e-12, 1e-6, 1.0, 1e6, 1e12])
"""Units: of atoms to those of planetary systems, in metres."""

DEGENERATE = ("one place", "a line", "a plane", "one far")
CLOUDS = st.sampled_from(("volume", *DEGENERATE))


def cloud(kind: str, seed: int, points: int = 40) -> np.ndarray:
    """Points [points, 3] of size one before a camera at the origin, of which most kinds determine less than a volume does."""
    rng = np.random.default_rng(seed)
    along, across = rng.normal(size=(2, 3))
    shares = rng.uniform(-1, 1, (points, 2))
    spread = {
        "volume": rng.uniform(-1, 1, (points, 3)),
        "one place": np.zeros((points, 3)),
        "a line": shares[:, :1] * along,
        "a plane": shares[:, :1] * along + shares[:, 1:] * across,
        "one far": np.where(np.arange(points)[:, None] == 0, 1e3, rng.uniform(-1e-3, 1e-3, (points, 3))),
    }[kind]
    return spread / max(np.abs(spread).max(), 1e-300) + (0.0, 0.0, 3.0)


def rotation(seed: int) -> np.ndarray:
    """A rotation [3, 3], uniform."""
    u, _, vt = np.linalg.svd(np.random.default_rng(seed).normal(size=(3, 3)))
    return u @ np.diag([1.0, 1.0, np.linalg.det(u @ vt)]) @ vt


def is_rotation(matrix: np.ndarray) -> bool:
    """To within rounding."""
    return bool(np.allclose(matrix @ matrix.T, np.eye(3), atol=1e-9) and np.linalg.det(matrix) > 0)
