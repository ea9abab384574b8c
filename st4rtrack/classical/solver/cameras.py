"""Cameras, focal length and sparse static points of a video by a global solver (pycolmap's GLOMAP).

Key frames with SIFT features are solved jointly, in overlapping windows for long videos, so that memory does not grow.

    solved = solve_video(video, anchor_index=0)
    if solved.trusted: ...
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np

from st4rtrack.classical.solver.colmap import Mapping, adjust
from st4rtrack.classical.solver.evidence import (
    MIN_KEY_FRAMES,
    PRIOR_FOCAL,
    Evidence,
    distrust,
    forward_share,
    not_solved,
    parallax_deg,
)
from st4rtrack.classical.solver.key_frames import KeyFrame, StaticMask, key_frames, working_scale
from st4rtrack.classical.solver.window import MIN_INLIER_SHARE, MIN_INLIERS, MIN_TRACK, Window, solve_window
from st4rtrack.classical.solver.zoom import add_zoom, at_one_focal
from st4rtrack.geometry.align import Sim3
from st4rtrack.geometry.transforms import invert_rigid, rigid, rotation_angle
from st4rtrack.geometry.vectors import length
from st4rtrack.types import Video

WINDOW, OVERLAP = 120, 20
"""Number of key frames of a window, and of those it shares with the previous window."""
MAX_JOIN_LOG_SCALE, MAX_JOIN_ROTATION = 0.2, np.deg2rad(3)
"""Maximum deviation of the common points and cameras of two windows from the median."""
DISTORTION_FRAMES, MIN_OBSERVATIONS = 40, 1500
"""Evidence for lens distortion: number of frames, and minimum number of observations."""
MAX_ERROR_RATIO = 0.99
"""Maximum ratio of the mean reprojection errors with and without distortion, of a distorting lens: 0.985 in a small noisy rendered
video with k1 = -0.18, 0.9995 and more without distortion."""
MIN_SHIFT = 0.008
"""Minimum shift of a pixel at the end of the long side by the distortion, in long sides."""


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
    found: list[Window] = []
    keys = key_frames(enumerate(video.frames()), num_frames=len(video), static=static)
    log_zoom = np.full(len(video), np.nan)
    if isinstance(zoom, np.ndarray):
        log_zoom = np.log(zoom)
    for part in _windows(keys, window):
        if zoom is True:
            add_zoom(log_zoom, part, size, focal or PRIOR_FOCAL * max(size))
        solved = solve_window(at_one_focal(part, log_zoom, size), size, focal)
        if solved is None:
            continue
        if focal is None and (solved.focal_by_prior or solved.determines_focal(size)):
            focal = solved.mapping.focal_px  # one lens: later windows use it too
        joined = solved if not found else _joined(found[-1], solved)
        if joined is not None:
            if found:
                found[-1] = replace(found[-1], identity=found[-1].identity[:0])  # needed for the next window only
            found.append(joined)
    collected = _collected(found, len(video), anchor_index, size, scale, known_focal=focal_px is not None)
    return collected if not np.nan_to_num(log_zoom).any() else _zoomed(collected, log_zoom, (video.height, video.width))


def _zoomed(solved: SolvedCameras, log_zoom: np.ndarray, size: tuple[int, int]) -> SolvedCameras:
    """Convert a solution of frames rescaled to one focal length to the zooming video; `size`: (height, width) of its frames."""
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


def _joined(before: Window, after: Window) -> Window | None:
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


def _identities(window: Window) -> list[list[int]]:
    """Rows of `identity` whose points still have observations."""
    return window.identity[np.isin(window.identity[:, 2], window.mapping.point)].tolist()


def _moved(mapping: Mapping, similarity: Sim3) -> Mapping:
    """Mapping transformed into another world frame."""
    world_from_camera = invert_rigid(mapping.camera_from_world)
    moved = rigid(similarity.rotation @ world_from_camera[:, :3, :3], similarity(world_from_camera[:, :3, 3]))
    return replace(mapping, camera_from_world=invert_rigid(moved), points_world=similarity(mapping.points_world))


def _collected(
    windows: list[Window], num_frames: int, anchor_index: int, size: tuple[int, int], scale: float, *, known_focal: bool
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
    seen = points[point[frame == anchor_index]][:, 2]
    unit = float(np.median(seen[seen > 0])) if (seen > 0).any() else 1.0
    cameras[:, :3, 3] /= unit
    cameras[anchor_index] = np.eye(4)
    solved = np.isfinite(cameras[:, 0, 0])
    evidence = Evidence(
        solved_share=float(solved.mean()),
        points_per_frame=float(np.median(np.bincount(frame, minlength=num_frames)[solved])),
        parallax_deg=parallax_deg(points / unit, frame, point, cameras),
        focal_deviation=0.0 if known_focal else windows[0].log_focal_deviation,
        forward=forward_share(cameras[solved]),
    )
    by_prior = windows[0].focal_by_prior
    why = distrust(evidence, focal / max(size))
    return SolvedCameras(cameras, focal / scale, points / unit, frame, point, px / scale, evidence, by_prior, why)


class RadialDistortion(NamedTuple):
    """Radial distortion k1, and the focal length in source pixels that it was estimated with."""

    k1: float
    focal_px: float


def radial_distortion(solved: SolvedCameras, size: tuple[int, int]) -> RadialDistortion | None:
    """Radial distortion of a lens, `None` without strong evidence.

    Args:
        solved: cameras, points and observations of a pinhole camera with constant focal length.
        size: (height, width) of the source images.
    """
    frames = np.flatnonzero(solved.solved)
    frames = frames[np.unique(np.linspace(0, len(frames) - 1, DISTORTION_FRAMES).astype(int))]
    use = np.isin(solved.frame, frames)
    tracks = np.bincount(solved.point[use], minlength=len(solved.points_world))
    use &= tracks[solved.point] >= MIN_TRACK
    if use.sum() < MIN_OBSERVATIONS:
        return None
    scale = working_scale(*size)
    working = (round(size[0] * scale), round(size[1] * scale))
    image = np.searchsorted(frames, solved.frame[use])
    cameras = invert_rigid(solved.world_from_camera[frames])
    mapping = Mapping(cameras, solved.focal_px * scale, solved.points_world, image, np.zeros(0, np.int64), solved.point[use])
    plain, radial = (adjust(mapping, solved.px[use] * scale, working, refine_focal=True, radial=each) for each in (False, True))
    shift = abs(radial.k1) * (max(working) / 2 / radial.focal_px) ** 2 / 2
    if radial.error_px > MAX_ERROR_RATIO * plain.error_px or shift < MIN_SHIFT:
        return None
    return RadialDistortion(radial.k1, radial.focal_px / scale)
