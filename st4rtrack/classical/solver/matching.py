"""Matching of key-frame features, and the global mapper on the matches."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from st4rtrack.classical.solver.colmap import Mapping, camera, global_mapping, verify, write_database
from st4rtrack.classical.solver.key_frames import KeyFrame
from st4rtrack.classical.two_view import ASSUMED_FOCAL
from st4rtrack.threads import parallel_map

PAIR_OFFSETS = (1, 2, 3, 5, 8)
"""Key-frame distances of image pairs: small ones for short tracks, large ones for parallax."""
MAX_RATIO, MAX_ANGLE = 0.8, 0.7
"""Maximum ratio of the descriptor angles (radians) of the best and the second-best match, and maximum angle."""
MIN_MATCHES = 20
MAX_ERROR_PX = 2.0


def map_key_frames(keys: list[KeyFrame], size: tuple[int, int], focal_px: float | None, *, seed: int = 0) -> Iterator[Mapping]:
    """Cameras and points of key frames by the global mapper; one result per initial focal length, computed lazily.

    Args:
        size: (height, width) of the working images.
        focal_px: known focal length in working pixels, or `None`.
    """
    pairs = [(a, a + offset) for offset in PAIR_OFFSETS for a in range(len(keys) - offset)]
    matches = parallel_map(lambda pair: matches_of(keys[pair[0]].descriptors, keys[pair[1]].descriptors), pairs)
    used = [(*pair, found) for pair, found in zip(pairs, matches, strict=True) if len(found) >= MIN_MATCHES]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "database.db"
        first = camera(focal_px or ASSUMED_FOCAL * max(size), size, known=focal_px is not None)
        write_database(path, first, [key.px for key in keys], used)
        verify(path, [(a, b) for a, b, _ in used], MAX_ERROR_PX, seed)
        for calibrate in (False,) if focal_px is not None else (False, True):
            mapping = global_mapping(path, len(keys), refine_focal=focal_px is None, calibrate=calibrate, seed=seed)
            if mapping is not None:
                yield mapping


def matches_of(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """[matches, 2] mutual nearest neighbours that pass the ratio test."""
    if min(len(one), len(other)) < 2:
        return np.zeros((0, 2), np.int64)
    similarity = one @ other.T
    best = similarity.argmax(axis=1)
    mutual = np.flatnonzero(similarity.argmax(axis=0)[best] == np.arange(len(one)))
    second, first = np.arccos(np.clip(np.partition(similarity[mutual], -2, axis=1)[:, -2:], -1, 1)).T
    clear = mutual[(first < MAX_ANGLE) & (first < MAX_RATIO * second)]
    return np.stack([clear, best[clear]], axis=1)
