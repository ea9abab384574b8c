"""Solution of one window of key frames: cameras, focal length and points, by the global mapper of pycolmap.

The frames between the key frames are registered by PnP on features tracked from the adjacent key frames; then one bundle adjustment
refines everything. Dynamic objects are outliers.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from st4rtrack.classical.solver.colmap import Mapping, adjust, camera, global_mapping, verify, write_database
from st4rtrack.classical.solver.evidence import MIN_KEY_FRAMES, PRIOR_FOCAL, is_determined, likely_focal
from st4rtrack.classical.solver.key_frames import KeyFrame, Observations, matches_of
from st4rtrack.classical.two_view import ASSUMED_FOCAL, SEED, absolute_pose, pinhole
from st4rtrack.geometry.vectors import length
from st4rtrack.threads import parallel_map

PAIR_OFFSETS = (1, 2, 3, 5, 8)
"""Key-frame distances of image pairs: small ones for short tracks, large ones for parallax."""
MIN_MATCHES = 20
MAX_ERROR_PX = 2.0
"""Maximum reprojection error of an inlier, working pixels."""
MIN_INLIERS, MIN_INLIER_SHARE = 15, 0.4
"""Minimum number of inliers of a registered frame, and their share of its tracked points."""
MAX_POINTS_PER_FRAME = 250
"""Points used to refine the pose of a frame: those with the longest tracks."""
SOUND_SHARE = 0.9
"""Share of registered frames and of inlier observations above which a solution is accepted without further attempts."""
MIN_TRACK = 3


@dataclass
class Window:
    """Solved window: `mapping.image` indexes `frames`; the columns of `identity` [n, 3] are indices of a key frame, of one of its
    features, and of the point observed there; `focal_by_prior` as in `SolvedCameras`."""

    frames: np.ndarray
    mapping: Mapping
    px: np.ndarray
    inlier_share: float
    log_focal_deviation: float
    identity: np.ndarray
    focal_by_prior: bool = False

    def determines_focal(self, size: tuple[int, int]) -> bool:
        """Whether the video determines the focal length."""
        return is_determined(self.mapping.focal_px / max(size), self.log_focal_deviation)


def solve_window(keys: list[KeyFrame], size: tuple[int, int], focal_px: float | None) -> Window | None:
    """Best solution of a window of key frames and the frames between them, `None` if there is none."""
    if len(keys) < MIN_KEY_FRAMES:
        return None
    best: Window | None = None
    estimates: list[tuple[float, float]] = []
    for found in _solutions(keys, size, focal_px, refine_focal=focal_px is None):
        best = found if best is None or len(found.px) > len(best.px) else best
        estimates.append((found.mapping.focal_px / max(size), found.log_focal_deviation))
        if _is_sound(best, size):
            break
    if focal_px is not None or (best is not None and best.determines_focal(size)):
        return best
    usual = next(_solutions(keys, size, PRIOR_FOCAL * max(size), refine_focal=True), None)
    if usual is None or not len(usual.px):
        return best
    if usual.determines_focal(size):
        return usual
    estimates.append((usual.mapping.focal_px / max(size), usual.log_focal_deviation))
    likely = replace(usual.mapping, focal_px=likely_focal(estimates) * max(size))
    return _refined(replace(usual, mapping=likely, focal_by_prior=True), size, refine_focal=False)


def _solutions(keys: list[KeyFrame], size: tuple[int, int], focal_px: float | None, *, refine_focal: bool) -> Iterator[Window]:
    """Solutions for several initial focal lengths, computed lazily."""
    for mapping in _mapped(keys, size, focal_px):
        whole = _with_between(keys, mapping, size)
        if whole is not None:
            yield _refined(whole, size, refine_focal=refine_focal)


def _is_sound(window: Window, size: tuple[int, int]) -> bool:
    """Whether a solution is so good that further attempts are unnecessary."""
    complete = window.mapping.registered.mean() >= SOUND_SHARE and window.inlier_share >= SOUND_SHARE
    return bool(complete and window.determines_focal(size))


def _with_between(keys: list[KeyFrame], mapping: Mapping, size: tuple[int, int]) -> Window | None:
    """Solution of the key frames plus the frames between them, registered by PnP."""
    if mapping.registered.sum() < MIN_KEY_FRAMES or not len(mapping.points_world):
        return None
    point_of = [np.full(len(key.px), -1) for key in keys]
    for number, lookup in enumerate(point_of):
        mine = mapping.image == number
        lookup[mapping.feature[mine]] = mapping.point[mine]
    frames, cameras = [key.index for key in keys], list(mapping.camera_from_world)
    images, points = [mapping.image], [mapping.point]
    pixels = [np.stack([keys[i].px[f] for i, f in zip(mapping.image, mapping.feature, strict=True)])]
    for number, key in enumerate(keys[1:], start=1):
        for between in key.between:
            seen = [(number - 1, between.previous), (number, between.following)]
            point, px = _observed(point_of, seen)
            camera = _registered(mapping.points_world[point], px, mapping.focal_px, size)
            images.append(np.full(len(point), len(frames)))
            points.append(point)
            pixels.append(px)
            frames.append(between.index)
            cameras.append(np.full((4, 4), np.nan) if camera is None else camera)
    whole = Mapping(
        np.stack(cameras),
        mapping.focal_px,
        mapping.points_world,
        np.concatenate(images),
        np.zeros(0, np.int64),
        np.concatenate(points),
    )
    indices = np.array([key.index for key in keys])
    identity = np.stack([indices[mapping.image], mapping.feature, mapping.point], axis=1)
    return Window(np.array(frames), whole, np.concatenate(pixels), 0.0, np.nan, identity)


def _observed(point_of: list[np.ndarray], seen: list[tuple[int, Observations | None]]) -> tuple[np.ndarray, np.ndarray]:
    """Points observed in a frame, by features of the adjacent key frames: unique indices [n], and pixels [n, 2]."""
    point = np.concatenate([point_of[key][part.feature] for key, part in seen if part is not None])
    px = np.concatenate([part.px for _, part in seen if part is not None])
    point, first = np.unique(point, return_index=True)
    return point[point >= 0], px[first][point >= 0]


def _registered(points: np.ndarray, px: np.ndarray, focal_px: float, size: tuple[int, int]) -> np.ndarray | None:
    """Pose `camera_from_world` [4, 4] by PnP, or `None`."""
    if len(points) < MIN_INLIERS:
        return None
    pose, result = absolute_pose(px, points, pinhole(focal_px, size), MAX_ERROR_PX, iterations=(50, 500))
    enough = result["num_inliers"] >= max(MIN_INLIERS, MIN_INLIER_SHARE * len(points))
    return pose if enough and np.isfinite(pose).all() else None


def _refined(window: Window, size: tuple[int, int], *, refine_focal: bool) -> Window:
    """Refine a window by bundle adjustments, removing outliers and frames that do not fit."""
    mapping, px, share = window.mapping, window.px, 0.0
    deviation = np.nan
    mapping, px = _thinned(mapping, px)
    for last in (False, True):
        mapping, px = _selected(mapping, px, mapping.registered[mapping.image])
        total = len(px)
        adjusted = adjust(mapping, px, size, refine_focal=refine_focal, uncertainty=last)
        mapping = replace(
            mapping,
            camera_from_world=adjusted.camera_from_world,
            focal_px=adjusted.focal_px,
            points_world=adjusted.points_world,
        )
        good = _errors(mapping, px, size) < MAX_ERROR_PX
        share = float(good.mean()) if total else 0.0
        mapping = _without_outliers(mapping, good)
        mapping, px = _selected(mapping, px, good & mapping.registered[mapping.image])
        deviation = adjusted.log_focal_deviation
    rms = float(np.sqrt((_errors(mapping, px, size) ** 2).mean() / 2)) if len(px) else np.nan
    return replace(
        window, mapping=mapping, px=px, inlier_share=share, log_focal_deviation=deviation * rms if refine_focal else 0.0
    )


def _thinned(mapping: Mapping, px: np.ndarray) -> tuple[Mapping, np.ndarray]:
    """Remove the points that no frame needs for its `MAX_POINTS_PER_FRAME`."""
    tracks = np.bincount(mapping.point, minlength=len(mapping.points_world))
    order = np.lexsort((-tracks[mapping.point], mapping.image))
    image = mapping.image[order]
    rank = np.arange(len(image)) - np.searchsorted(image, image)
    needed = np.zeros(len(mapping.points_world), bool)
    needed[mapping.point[order[rank < MAX_POINTS_PER_FRAME]]] = True
    return _selected(mapping, px, needed[mapping.point])


def _without_outliers(mapping: Mapping, good: np.ndarray) -> Mapping:
    """Unregister the cameras with too few inliers."""
    num = len(mapping.camera_from_world)
    inliers, seen = np.bincount(mapping.image[good], minlength=num), np.bincount(mapping.image, minlength=num)
    bad = (inliers < MIN_INLIERS) | (inliers < MIN_INLIER_SHARE * seen)
    return replace(mapping, camera_from_world=np.where(bad[:, None, None], np.nan, mapping.camera_from_world))


def _selected(mapping: Mapping, px: np.ndarray, keep: np.ndarray) -> tuple[Mapping, np.ndarray]:
    """Subset of the observations, without points observed in too few frames."""
    counts = np.bincount(mapping.point[keep], minlength=len(mapping.points_world))
    keep = keep & (counts[mapping.point] >= MIN_TRACK)
    return replace(mapping, image=mapping.image[keep], point=mapping.point[keep]), px[keep]


def _errors(mapping: Mapping, px: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Reprojection errors [observations] in working pixels, infinite behind the camera and in unregistered images."""
    camera = mapping.camera_from_world[mapping.image]
    here = np.einsum("nij,nj->ni", camera[:, :3, :3], mapping.points_world[mapping.point]) + camera[:, :3, 3]
    z = np.where(here[:, 2] > 0, here[:, 2], np.nan)
    error = length(here[:, :2] / z[:, None] * mapping.focal_px + (size[1] / 2, size[0] / 2) - px)
    return np.where(np.isfinite(error), error, np.inf)


def _mapped(keys: list[KeyFrame], size: tuple[int, int], focal_px: float | None) -> Iterator[Mapping]:
    """Cameras and points of key frames by the global mapper; one result per initial focal length, computed lazily."""
    pairs = [(a, a + offset) for offset in PAIR_OFFSETS for a in range(len(keys) - offset)]
    matches = parallel_map(lambda pair: matches_of(keys[pair[0]].descriptors, keys[pair[1]].descriptors), pairs)
    used = [(*pair, found) for pair, found in zip(pairs, matches, strict=True) if len(found) >= MIN_MATCHES]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "database.db"
        first = camera(focal_px or ASSUMED_FOCAL * max(size), size, known=focal_px is not None)
        write_database(path, first, [key.px for key in keys], used)
        verify(path, [(a, b) for a, b, _ in used], MAX_ERROR_PX, SEED)
        for calibrate in (False,) if focal_px is not None else (False, True):
            mapping = global_mapping(path, len(keys), refine_focal=focal_px is None, calibrate=calibrate, seed=SEED)
            if mapping is not None:
                yield mapping
