"""Runs teachers once per video and caches their output by teacher, frames and queries."""

import hashlib
import json
import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from st4rtrack.adapt.priors import DepthTeacher, Priors, TeacherDepth, TeacherTracks, TrackTeacher
from st4rtrack.io.files import whole_file
from st4rtrack.io.npz import read_npz
from st4rtrack.types import UserError

logger = logging.getLogger(__name__)

Output = TypeVar("Output", TeacherTracks, TeacherDepth)


def gather_priors(
    rgb: np.ndarray,
    query_px: np.ndarray,
    anchor_index: int,
    tracks: TrackTeacher,
    depth: DepthTeacher | None,
    *,
    cache: Path | None = None,
) -> Priors:
    """Run both teachers on frames [T, H, W, 3] uint8 and queries [N, 2] in the anchor, or read their output from the cache.

    Raises:
        UserError: the video has one frame, or a teacher does not support it.
    """
    followed = gather_tracks(rgb, query_px, anchor_index, tracks, cache=cache)
    return Priors(followed, None if depth is None else _gather_depth(rgb, anchor_index, depth, cache))


def gather_tracks(
    rgb: np.ndarray, query_px: np.ndarray, anchor_index: int, teacher: TrackTeacher, *, cache: Path | None = None
) -> TeacherTracks:
    """Run only the track teacher of `gather_priors`, for a first pass that decides which points to query."""

    def ask() -> dict[str, np.ndarray | None]:
        return {name: value for name, value in vars(teacher.tracks(rgb, query_px, anchor_index)).items() if name != "name"}

    key = _key("tracks", teacher.name, rgb, anchor_index, query_px)
    return _once(ask, partial(TeacherTracks, name=teacher.name), key, cache)


def _gather_depth(rgb: np.ndarray, anchor_index: int, teacher: DepthTeacher, cache: Path | None) -> TeacherDepth | None:
    def ask() -> dict[str, np.ndarray | None]:
        return {name: value for name, value in vars(teacher.depth(rgb, anchor_index)).items() if name != "name"}

    found = _once(ask, partial(TeacherDepth, name=teacher.name), _key("depth", teacher.name, rgb, anchor_index), cache)
    if found.depth.shape != rgb.shape[:3]:
        shapes = f"depth of {teacher.name} must be {list(rgb.shape[:3])} as the video, got {list(found.depth.shape)}"
        raise UserError(f"{shapes}; compute it for the adapted frames")
    if not found.depth.any():
        logger.info("%s provides no depth for this video; adapting without a depth term", teacher.name)
        return None
    return found


def _once(ask: Callable[[], dict[str, np.ndarray | None]], make: Callable[..., Output], key: str, cache: Path | None) -> Output:
    """Return the cached output, or run the teacher and cache its output. An unreadable or invalid cache file is replaced."""
    path = None if cache is None else cache / f"{key}.npz"
    if path is not None and path.is_file():
        try:
            return make(**read_npz(path))
        except (UserError, TypeError) as error:
            logger.warning("%s is damaged; computing it again (%s)", path, error)
    arrays = {name: value for name, value in ask().items() if value is not None}
    result = make(**arrays)
    if path is not None:
        with whole_file(path) as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)
    return result


def _key(kind: str, name: str, rgb: np.ndarray, anchor_index: int, query_px: np.ndarray | None = None) -> str:
    """Cache file name from kind, teacher, frames, anchor and queries."""
    digest = hashlib.sha256(json.dumps([kind, name, rgb.shape, anchor_index]).encode())
    for frame in rgb:
        digest.update(np.ascontiguousarray(frame).tobytes())
    if query_px is not None:
        digest.update(np.asarray(query_px, np.float64).tobytes())
    return f"{kind}-{digest.hexdigest()[:32]}"
