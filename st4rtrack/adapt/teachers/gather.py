"""Runs teachers once per video and caches their output by teacher, frames and queries."""

import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np

from st4rtrack.adapt.priors import Priors, TeacherDepth, TeacherTracks
from st4rtrack.adapt.teachers.teacher import DepthTeacher, TrackTeacher, require_frames
from st4rtrack.io.files import whole_file
from st4rtrack.io.npz import read_npz
from st4rtrack.types import UserError

logger = logging.getLogger(__name__)

Said = TypeVar("Said", TeacherTracks, TeacherDepth)


def gather_priors(
    rgb: np.ndarray,
    query_px: np.ndarray,
    anchor_index: int,
    tracks: TrackTeacher,
    depth: DepthTeacher | None,
    *,
    cache: Path | None = None,
) -> Priors:
    """Run both teachers on a video, or read their output from the cache.

    Args:
        rgb: [T, H, W, 3] uint8, network size.
        query_px: [N, 2] pixels of the anchor.
        anchor_index: index of the anchor frame.
        tracks, depth: teachers of `open_teachers`.
        cache: folder of cached outputs; without it nothing is cached.
    Returns:
        `Priors`; depth is `None` without a depth teacher, or if it provides no depth.
    Raises:
        UserError: the video has one frame, or a teacher does not support it.
    """
    followed = gather_tracks(rgb, query_px, anchor_index, tracks, cache=cache)
    return Priors(followed, None if depth is None else gather_depth(rgb, anchor_index, depth, cache=cache))


def gather_tracks(
    rgb: np.ndarray, query_px: np.ndarray, anchor_index: int, teacher: TrackTeacher, *, cache: Path | None = None
) -> TeacherTracks:
    """Run only the track teacher of `gather_priors`, for a first pass that decides which points to query."""
    require_frames(rgb)

    def ask() -> dict[str, np.ndarray]:
        found = teacher.tracks(rgb, query_px, anchor_index)
        return {"query_px": found.query_px, "tracks_px": found.tracks_px, "visible": found.visible}

    key = _key("tracks", teacher.name, rgb, anchor_index, query_px)
    return _once(ask, lambda said: TeacherTracks(said["query_px"], said["tracks_px"], said["visible"], teacher.name), key, cache)


def gather_depth(rgb: np.ndarray, anchor_index: int, teacher: DepthTeacher, *, cache: Path | None = None) -> TeacherDepth | None:
    """Run only the depth teacher of `gather_priors`."""
    require_frames(rgb)

    def ask() -> dict[str, np.ndarray]:
        found = teacher.depth(rgb, anchor_index)
        cameras = {} if found.world_from_camera is None else {"world_from_camera": found.world_from_camera}
        return {"depth": found.depth, **cameras}

    def told(said: Mapping[str, np.ndarray]) -> TeacherDepth:
        return TeacherDepth(said["depth"], teacher.name, said.get("world_from_camera"))

    found = _once(ask, told, _key("depth", teacher.name, rgb, anchor_index), cache)
    if found.depth.shape != rgb.shape[:3]:
        shapes = f"depth of {teacher.name} must be {list(rgb.shape[:3])} as the video, got {list(found.depth.shape)}"
        raise UserError(f"{shapes}; compute it for the adapted frames")
    if found.silent:
        logger.info("%s provides no depth for this video; adapting without a depth term", teacher.name)
        return None
    return found


def _once(
    ask: Callable[[], dict[str, np.ndarray]],
    told: Callable[[Mapping[str, np.ndarray]], Said],
    key: str,
    cache: Path | None,
) -> Said:
    """Return the cached output, or run the teacher and cache its output. An unreadable or invalid cache file is replaced."""
    path = None if cache is None else cache / f"{key}.npz"
    if path is not None and path.is_file():
        try:
            return told(read_npz(path))
        except (UserError, KeyError) as error:
            logger.warning("%s is damaged; computing it again (%s)", path, error)
    said = ask()
    result = told(said)
    if path is not None:
        with whole_file(path) as file:
            np.savez_compressed(file, allow_pickle=False, **said)
    return result


def _key(kind: str, name: str, rgb: np.ndarray, anchor_index: int, query_px: np.ndarray | None = None) -> str:
    """Cache file name from kind, teacher, frames, anchor and queries."""
    digest = hashlib.sha256(json.dumps([kind, name, rgb.shape, anchor_index]).encode())
    for frame in rgb:
        digest.update(np.ascontiguousarray(frame).tobytes())
    if query_px is not None:
        digest.update(np.asarray(query_px, np.float64).tobytes())
    return f"{kind}-{digest.hexdigest()[:32]}"
