"""Cameras, focal length and sparse static points of a video by a global solver (pycolmap's GLOMAP).

Key frames with SIFT features are solved jointly. The frames between them are registered by PnP on features tracked from the
adjacent key frames; then one bundle adjustment refines everything. Long videos are solved in overlapping windows of key frames,
so that memory does not grow. Dynamic objects are outliers.

    solved = solve_video(video, anchor_index=0)
    if solved.trusted: ...
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from st4rtrack.classical.solver.colmap import Mapping, adjust
from st4rtrack.classical.solver.evidence import (
    MIN_KEY_FRAMES,
    PRIOR_FOCAL,
    Evidence,
    distrust,
    forward_share,
    is_determined,
    likely_focal,
    not_solved,
    parallax_deg,
)
from st4rtrack.classical.solver.key_frames import Between, KeyFrame, Observations, StaticMask, key_frames, working_scale
from st4rtrack.classical.solver.matching import map_key_frames
from st4rtrack.classical.two_view import pinhole
from st4rtrack.classical.zoom import key_frame_zoom, smoothed
from st4rtrack.geometry.align import Sim3
from st4rtrack.geometry.transforms import invert_rigid, rigid, rotation_angle
from st4rtrack.geometry.vectors import length
from st4rtrack.types import Video

WINDOW, OVERLAP = 120, 20
"""Number of key frames of a window, and of those it shares with the previous window."""
MAX_ERROR_PX = 2.0
"""Maximum reprojection error of an inlier, working pixels."""
MIN_INLIERS, MIN_INLIER_SHARE = 15, 0.4
"""Minimum number of inliers of a registered frame, and their share of its tracked points."""
MAX_POINTS_PER_FRAME = 250
"""Points used to refine the pose of a frame: those with the longest tracks."""
MAX_JOIN_LOG_SCALE, MAX_JOIN_ROTATION = 0.2, np.deg2rad(3)
"""Maximum deviation of the common points and cameras of two windows from the median."""
SOUND_SHARE = 0.9
"""Share of registered frames and of inlier observations above which a solution is accepted without further attempts."""
MIN_TRACK = 3
ZOOM_ROUNDS, ZOOM_CONVERGED = 3, 0.01
"""Maximum number of solutions of a window that refine its logarithmic zoom, and the change that ends them."""


@dataclass(frozen=True)
class SolvedCameras:
    """Cameras of a video. The anchor camera is the identity, the median depth of the points visible in it is 1.

    Attributes:
        world_from_camera: [T, 4, 4], NaN where unsolved.
        focal_px: focal length in source pixels, of the first frame if the camera zooms.
        points_world: [points, 3] static points.
        frame, point: [observations] indices of the frame and the point.
        px: [observations, 2] source pixels.
        evidence: evidence for or against trusting the solution.
        focal_by_prior: the video alone does not determine the focal length; it is combined with a prior over real lenses.
        distrust: reason not to use the solution; "" if it can be trusted.
        zoom: [T] focal length of each frame over `focal_px`, that of the first one.
    """

    world_from_camera: np.ndarray
    focal_px: float
    points_world: np.ndarray = field(repr=False)
    frame: np.ndarray = field(repr=False)
    point: np.ndarray = field(repr=False)
    px: np.ndarray = field(repr=False)
    evidence: Evidence
    focal_by_prior: bool = False
    distrust: str = ""
    zoom: np.ndarray | None = None

    @property
    def solved(self) -> np.ndarray:
        """[T] bool, frames with a camera."""
        return np.isfinite(self.world_from_camera[:, 0, 0])

    def points_of(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Source pixels [n, 2] and z-depths [n] of the points visible in a frame."""
        seen = np.flatnonzero(self.frame == index)
        camera_from_world = invert_rigid(self.world_from_camera[index])
        points = self.points_world[self.point[seen]] @ camera_from_world[:3, :3].T + camera_from_world[:3, 3]
        return self.px[seen], points[:, 2]

    @property
    def trusted(self) -> bool:
        """Whether the solution can be used."""
        return not self.distrust


@dataclass
class _Window:
    """Solved window: `mapping.image` indexes `frames`; the columns of `identity` [n, 3] are indices of a key frame, of one of its
    features, and of the point observed there; `focal_by_prior` as in `SolvedCameras`."""

    frames: np.ndarray
    mapping: Mapping
    px: np.ndarray
    inlier_share: float
    log_focal_deviation: float
    identity: np.ndarray
    focal_by_prior: bool = False


def solve_video(
    video: Video,
    *,
    anchor_index: int = 0,
    focal_px: float | None = None,
    static: StaticMask | None = None,
    zoom: bool | np.ndarray = False,
    window: int = WINDOW,
) -> SolvedCameras:
    """Solve the cameras of all frames of a video at source size.

    Args:
        video: read once, in order.
        anchor_index: index of the frame whose camera is the world frame.
        focal_px: known focal length in source pixels; otherwise one for all frames is estimated, and combined with a prior over
            real lenses if the video hardly determines it.
        static: known static pixels of each frame.
        zoom: whether the focal length may change, or how: [T] over that of the first frame. `focal_px` is that of the first frame.
        window: number of key frames of a window.
    """
    scale = working_scale(video.height, video.width)
    size = (round(video.height * scale), round(video.width * scale))
    focal = None if focal_px is None else focal_px * scale
    found: list[_Window] = []
    keys = key_frames(enumerate(video.frames()), num_frames=len(video), static=static)
    log_zoom = np.full(len(video), np.nan)
    if isinstance(zoom, np.ndarray):
        log_zoom = np.log(zoom)
    for part in _windows(keys, window):
        if zoom is True:
            _add_zoom(log_zoom, part, size, focal or PRIOR_FOCAL * max(size))
        solved = _solve_window(_at_one_focal(part, log_zoom, size), size, focal)
        if solved is None:
            continue
        if focal is None and (solved.focal_by_prior or _is_determined(solved, size)):
            focal = solved.mapping.focal_px  # one lens: later windows use it too
        joined = solved if not found else _joined(found[-1], solved)
        if joined is not None:
            if found:
                found[-1] = replace(found[-1], identity=found[-1].identity[:0])  # needed for the next window only
            found.append(joined)
    collected = _collected(found, len(video), anchor_index, size, scale, known_focal=focal_px is not None)
    return collected if not np.nan_to_num(log_zoom).any() else _zoomed(collected, log_zoom, (video.height, video.width))


def _add_zoom(log_zoom: np.ndarray, keys: list[KeyFrame], size: tuple[int, int], focal_px: float) -> None:
    """Estimate the logarithmic zoom [T] of the frames of a window; those of the previous windows stay, the others are NaN before.

    It is estimated from pairs of key frames, then refined with the cameras and points, at an assumed focal length.
    """
    indices = np.array([key.index for key in keys])
    z = key_frame_zoom(keys, size, focal_px)
    found = z is not None
    z = np.zeros(len(keys)) if z is None else z
    before = log_zoom[indices] - z
    z = z + (float(np.nanmedian(before)) if np.isfinite(before).any() else 0.0)
    frames = np.arange(indices[0], indices[-1] + 1)
    new = frames[np.isnan(log_zoom[frames])]
    log_zoom[new] = np.interp(new, indices, z)
    for _ in range(ZOOM_ROUNDS if found else 0):
        solved = _solve_window(_at_one_focal(keys, log_zoom, size), size, focal_px)
        if solved is None or not len(solved.px):
            break
        refined = _refined_zoom(solved, log_zoom[solved.frames], size)
        known = np.flatnonzero(np.isfinite(refined))
        known = known[np.argsort(solved.frames[known])]
        changed = np.interp(new, solved.frames[known], smoothed(refined[known])) - log_zoom[new]
        changed -= changed[0] if len(new) == len(frames) else 0.0  # the first frame of the video stays at zero
        log_zoom[new] += changed
        if np.abs(changed).max(initial=0.0) < ZOOM_CONVERGED:
            break


def _refined_zoom(window: _Window, log_zoom: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Logarithmic zoom [frames of the window] from a bundle adjustment with a focal length per frame, NaN where unregistered."""
    centre = np.array([size[1] / 2, size[0] / 2])
    px = centre + (window.px - centre) * np.exp(log_zoom[window.mapping.image])[:, None]
    adjusted = adjust(window.mapping, px, size, refine_focal=True, zoom=np.exp(log_zoom))
    assert adjusted.zoom is not None
    first = int(np.flatnonzero(window.mapping.registered)[0])
    return np.log(adjusted.zoom) + log_zoom[first]


def _at_one_focal(keys: list[KeyFrame], log_zoom: np.ndarray, size: tuple[int, int]) -> list[KeyFrame]:
    """Key frames as seen with the focal length of the first frame of the video; `log_zoom` [T]."""
    if not np.nan_to_num(log_zoom[keys[0].index : keys[-1].index + 1]).any():
        return keys
    centre = np.array([size[1] / 2, size[0] / 2])

    def changed(px: np.ndarray, index: int) -> np.ndarray:
        return centre + (px - centre) / np.exp(log_zoom[index])

    def between(part: Between) -> Between:
        previous, following = (
            None if seen is None else replace(seen, px=changed(seen.px, part.index)) for seen in (part.previous, part.following)
        )
        assert previous is not None
        return Between(part.index, previous, following)

    return [replace(key, px=changed(key.px, key.index), between=list(map(between, key.between))) for key in keys]


def _zoomed(solved: SolvedCameras, log_zoom: np.ndarray, size: tuple[int, int]) -> SolvedCameras:
    """Solution of frames at one focal length as that of the zooming video of frames of size (height, width)."""
    known = np.flatnonzero(np.isfinite(log_zoom))
    zoom = np.exp(np.interp(np.arange(len(log_zoom)), known, log_zoom[known]))
    centre = np.array([size[1] / 2, size[0] / 2])
    return replace(solved, zoom=zoom, px=centre + (solved.px - centre) * zoom[solved.frame][:, None])


def _windows(keys: Iterator[KeyFrame], most: int) -> Iterator[list[KeyFrame]]:
    """Split key frames into overlapping windows."""
    part: list[KeyFrame] = []
    fresh = 0
    for key in keys:
        part.append(key)
        fresh += 1
        if len(part) == most:
            yield part
            part, fresh = part[-min(OVERLAP, most // 2) :], 0
    if fresh and part:
        yield part


def _solve_window(keys: list[KeyFrame], size: tuple[int, int], focal_px: float | None) -> _Window | None:
    """Best solution of a window of key frames and the frames between them, `None` if there is none."""
    if len(keys) < MIN_KEY_FRAMES:
        return None
    best: _Window | None = None
    estimates: list[tuple[float, float]] = []
    for found in _solutions(keys, size, focal_px, refine_focal=focal_px is None):
        best = found if best is None or len(found.px) > len(best.px) else best
        estimates.append((found.mapping.focal_px / max(size), found.log_focal_deviation))
        if _is_sound(best, size):
            break
    if focal_px is not None or (best is not None and _is_determined(best, size)):
        return best
    usual = next(_solutions(keys, size, PRIOR_FOCAL * max(size), refine_focal=True), None)
    if usual is None or not len(usual.px):
        return best
    if _is_determined(usual, size):
        return usual
    estimates.append((usual.mapping.focal_px / max(size), usual.log_focal_deviation))
    likely = replace(usual.mapping, focal_px=likely_focal(estimates) * max(size))
    return _refined(replace(usual, mapping=likely, focal_by_prior=True), size, refine_focal=False)


def _solutions(keys: list[KeyFrame], size: tuple[int, int], focal_px: float | None, *, refine_focal: bool) -> Iterator[_Window]:
    """Solutions for several initial focal lengths, computed lazily."""
    for mapping in map_key_frames(keys, size, focal_px):
        whole = _with_between(keys, mapping, size)
        if whole is not None:
            yield _refined(whole, size, refine_focal=refine_focal)


def _is_sound(window: _Window, size: tuple[int, int]) -> bool:
    """Whether a solution is so good that further attempts are unnecessary."""
    complete = window.mapping.registered.mean() >= SOUND_SHARE and window.inlier_share >= SOUND_SHARE
    return bool(complete and _is_determined(window, size))


def _is_determined(window: _Window, size: tuple[int, int]) -> bool:
    return is_determined(window.mapping.focal_px / max(size), window.log_focal_deviation)


def _with_between(keys: list[KeyFrame], mapping: Mapping, size: tuple[int, int]) -> _Window | None:
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
    return _Window(np.array(frames), whole, np.concatenate(pixels), 0.0, np.nan, identity)


def _observed(point_of: list[np.ndarray], seen: list[tuple[int, Observations | None]]) -> tuple[np.ndarray, np.ndarray]:
    """Point indices [n], unique, and their pixels [n, 2] in a frame, by the features of the adjacent key frames."""
    point = np.concatenate([point_of[key][part.feature] for key, part in seen if part is not None])
    px = np.concatenate([part.px for _, part in seen if part is not None])
    point, first = np.unique(point, return_index=True)
    return point[point >= 0], px[first][point >= 0]


def _registered(points: np.ndarray, px: np.ndarray, focal_px: float, size: tuple[int, int]) -> np.ndarray | None:
    """Pose `camera_from_world` [4, 4] by PnP, or `None`."""
    import poselib  # lazy import: training on rendered pairs does not need it

    if len(points) < MIN_INLIERS:
        return None
    options = {"max_reproj_error": MAX_ERROR_PX, "max_iterations": 500, "min_iterations": 50, "seed": 0}
    pose, result = poselib.estimate_absolute_pose(px, points, pinhole(focal_px, size), options, {})
    camera = rigid(np.asarray(pose.R), np.asarray(pose.t))
    enough = result["num_inliers"] >= max(MIN_INLIERS, MIN_INLIER_SHARE * len(points))
    return camera if enough and np.isfinite(camera).all() else None


def _refined(window: _Window, size: tuple[int, int], *, refine_focal: bool) -> _Window:
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


def _joined(before: _Window, after: _Window) -> _Window | None:
    """Transform a window into the world of the previous one by common cameras and points; `None` if they disagree."""
    place = {(frame, feature): point for frame, feature, point in _identities(before)}
    both = {(place[frame, feature], point) for frame, feature, point in _identities(after) if (frame, feature) in place}
    if len(both) < MIN_INLIERS:
        return None
    numbers = np.array(sorted(both))
    target, source = before.mapping.points_world[numbers[:, 0]], after.mapping.points_world[numbers[:, 1]]
    cameras_before = dict(zip(before.frames.tolist(), invert_rigid(before.mapping.camera_from_world), strict=True))
    cameras_after = dict(zip(after.frames.tolist(), invert_rigid(after.mapping.camera_from_world), strict=True))
    common = [k for k in cameras_after if k in cameras_before and np.isfinite(cameras_after[k] + cameras_before[k]).all()]
    if len(common) < MIN_KEY_FRAMES:
        return None
    here, there = (np.stack([cameras[k] for k in common]) for cameras in (cameras_before, cameras_after))
    turns = here[:, :3, :3] @ there[:, :3, :3].swapaxes(1, 2)
    u, _, vt = np.linalg.svd(turns.mean(axis=0))
    rotation = u @ vt
    ratio = np.log(length(target - here[:, None, :3, 3]) / np.maximum(length(source - there[:, None, :3, 3]), 1e-12))
    scale = float(np.exp(np.median(ratio)))
    agreeing = np.abs(ratio - np.median(ratio)).mean(axis=0) < MAX_JOIN_LOG_SCALE
    if agreeing.mean() < MIN_INLIER_SHARE or np.median(rotation_angle(turns @ rotation.T)) > MAX_JOIN_ROTATION:
        return None
    translation = np.median(here[:, :3, 3] - scale * there[:, :3, 3] @ rotation.T, axis=0)
    return replace(after, mapping=_moved(after.mapping, Sim3(scale, rotation, translation)))


def _identities(window: _Window) -> list[list[int]]:
    """Rows of `identity` whose points still have observations."""
    return window.identity[np.isin(window.identity[:, 2], window.mapping.point)].tolist()


def _moved(mapping: Mapping, similarity: Sim3) -> Mapping:
    """Mapping transformed into another world frame."""
    world_from_camera = invert_rigid(mapping.camera_from_world)
    moved = rigid(similarity.rotation @ world_from_camera[:, :3, :3], similarity(world_from_camera[:, :3, 3]))
    return replace(mapping, camera_from_world=invert_rigid(moved), points_world=similarity(mapping.points_world))


def _collected(
    windows: list[_Window], num_frames: int, anchor_index: int, size: tuple[int, int], scale: float, *, known_focal: bool
) -> SolvedCameras:
    """Merge all windows, in the world of the anchor."""
    cameras = np.full((num_frames, 4, 4), np.nan)
    frame, point, px, points = [], [], [], []
    for window in windows:
        new = np.isnan(cameras[window.frames, 0, 0])
        cameras[window.frames[new]] = invert_rigid(window.mapping.camera_from_world[new])
        keep = new[window.mapping.image]
        frame.append(window.frames[window.mapping.image[keep]])
        point.append(window.mapping.point[keep] + sum(map(len, points)))
        px.append(window.px[keep])
        points.append(window.mapping.points_world)
    anchor = cameras[anchor_index]
    none = np.zeros(0, np.int64)
    focal = float(np.median([window.mapping.focal_px for window in windows])) if windows else float("nan")
    if not windows or not np.isfinite(anchor).all():
        why = not_solved(np.isfinite(cameras[:, 0, 0]), anchor_index)
        return SolvedCameras(
            np.full_like(cameras, np.nan), focal / scale, np.zeros((0, 3)), none, none, np.zeros((0, 2)), Evidence(), distrust=why
        )
    frame, point, px, points = (np.concatenate(part) for part in (frame, point, px, points))
    used, point = np.unique(point, return_inverse=True)
    points = points[used] @ anchor[:3, :3] + invert_rigid(anchor)[:3, 3]
    cameras = invert_rigid(anchor) @ cameras
    mapping = Mapping(invert_rigid(cameras), focal, points, frame, none, point)
    errors = _errors(mapping, px, size)
    seen = points[point[frame == anchor_index]][:, 2]
    unit = float(np.median(seen[seen > 0])) if (seen > 0).any() else 1.0
    cameras[:, :3, 3] /= unit
    cameras[anchor_index] = np.eye(4)
    solved = np.isfinite(cameras[:, 0, 0])
    evidence = Evidence(
        solved_share=float(solved.mean()),
        num_points=len(points),
        points_per_frame=float(np.median(np.bincount(frame, minlength=num_frames)[solved])),
        inlier_share=float(np.mean([window.inlier_share for window in windows])),
        reprojection_px=float(np.sqrt(np.mean(errors[np.isfinite(errors)] ** 2)) / scale),
        parallax_deg=parallax_deg(points / unit, frame, point, cameras),
        focal_deviation=0.0 if known_focal else windows[0].log_focal_deviation,
        forward=forward_share(cameras[solved]),
    )
    by_prior = windows[0].focal_by_prior
    why = distrust(evidence, focal / max(size))
    return SolvedCameras(cameras, focal / scale, points / unit, frame, point, px / scale, evidence, by_prior, why)
