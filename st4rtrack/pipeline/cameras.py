"""Cameras from pointmaps (paper section 3.3): focal length from the anchor pointmap, one robust PnP per frame (PoseLib).

Unsolved frames get an interpolated pose for display, and no visible points.
"""

import logging
from collections.abc import Collection

import numpy as np

from st4rtrack.classical.two_view import absolute_pose
from st4rtrack.geometry.camera import intrinsics_from_focal, pixel_grid
from st4rtrack.geometry.sampling import spread_out
from st4rtrack.geometry.transforms import interpolate_rigid, invert_rigid
from st4rtrack.geometry.vectors import all_finite, dot, length
from st4rtrack.io.scene import SceneSink
from st4rtrack.io.scene.table import FRAME_QUALITY
from st4rtrack.timing import timed
from st4rtrack.types import Pointmap, UserError

logger = logging.getLogger(__name__)

FOCAL_RANGE = (0.2, 10.0)
"""Plausible focal lengths in long sides of the image: 136 to 6 degrees of view."""

POINTS = 2000
LEAST_CONFIDENT_SHARE = 0.2
REPROJECTION_ERROR = 0.01
"""Inlier threshold in long sides of the image: 5 pixels at 512, as released."""

MIN_INLIERS = 30

ITERATIONS = 100, 1000
"""Minimum and maximum. PoseLib's default minimum is 1000, which takes five times as long for the same poses."""


@timed("cameras")
def anchor_intrinsics(anchor_points: Pointmap) -> np.ndarray:
    """Intrinsics [3, 3] in network pixels from the anchor pointmap [height, width, 3]; principal point at the image centre.

    An implausible focal length is clamped to the plausible range, with a warning.

    Raises:
        UserError: no confident pixel has a finite point in front of the camera.
    """
    height, width = anchor_points.points_world.shape[:2]
    trusted = _trusted(anchor_points) & (anchor_points.points_world[..., 2] > 0)
    try:
        focal = weiszfeld_focal(anchor_points.points_world, weights=trusted)
    except ValueError:
        raise UserError(
            "could not fit a focal length to the anchor pointmap; use a trained model, or another --anchor if that frame is blank"
        ) from None
    low, high = (bound * max(height, width) for bound in FOCAL_RANGE)
    if not low <= focal <= high:
        logger.warning(
            "the anchor pointmap implies an implausible focal length of %.0f pixels; using %.0f; "
            "the cameras of this scene are unreliable, provide --intrinsics",
            focal,
            np.clip(focal, low, high),
        )
    return intrinsics_from_focal(float(np.clip(focal, low, high)), height, width)


def weiszfeld_focal(
    points_camera: np.ndarray, *, pixels_px: np.ndarray | None = None, weights: np.ndarray | None = None, iterations: int = 10
) -> float:
    """Focal length f that minimises the sum of distances |p - f r|, by Weiszfeld's iteration.

    p: pixel relative to the principal point; r = (x / z, y / z): ray of its point.

    Args:
        points_camera: [height, width, 3], in the frame of the camera that took the image.
        pixels_px: [height, width, 2] pixels relative to the principal point; default: pixel centres about the image centre.
        weights: [height, width] non-negative, for example a mask of reliable pixels; default 1.
        iterations: of re-weighting, after the least-squares start.
    Returns:
        Focal length in pixels of the map; positive for points in front of the camera.
    Raises:
        ValueError: no pixel has a finite ray and positive weight.
    Source:
        Weiszfeld 1937, as DUSt3R uses it: f = mean(w p.r) / mean(w r.r), w = 1 / max(|p - f r|, 1e-8).
    """
    height, width = points_camera.shape[:2]
    if pixels_px is None:
        pixels_px = pixel_grid(height, width) - (width / 2, height / 2)
    points = np.asarray(points_camera, dtype=np.float64).reshape(-1, 3)
    pixels = np.asarray(pixels_px, dtype=np.float64).reshape(-1, 2)
    trust = np.ones(len(points)) if weights is None else np.asarray(weights, dtype=np.float64).reshape(-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        rays = points[:, :2] / points[:, 2:]
    rays = np.where(np.isfinite(rays), rays, 0.0)
    along, square = dot(pixels, rays), dot(rays, rays)
    if not (trust * square).sum() > 0:
        raise ValueError("focal length: no pixel has a finite ray away from the principal point and a positive weight")
    focal = (trust * along).sum() / (trust * square).sum()
    for _ in range(iterations):
        distance = length(pixels - focal * rays)
        weight = trust / np.maximum(distance, 1e-8)
        focal = (weight * along).sum() / (weight * square).sum()
    return float(focal)


@timed("cameras")
def solve_camera(reconstruction: Pointmap, intrinsics: np.ndarray) -> np.ndarray | None:
    """Estimate `world_from_camera` [4, 4] of a frame by PnP on its reconstruction [height, width, 3].

    RANSAC and inlier refinement by PoseLib, on at most `POINTS` pixels, without the least confident fifth. Seeded.

    Returns:
        The pose, or `None` with too few inliers.
    """
    height, width = reconstruction.points_world.shape[:2]
    index = np.flatnonzero(_trusted(reconstruction))
    if len(index) < MIN_INLIERS:
        return None
    index = index[spread_out(len(index), POINTS)]
    points = np.asarray(reconstruction.points_world).reshape(-1, 3)[index].astype(np.float64)
    pixels = np.stack([index % width, index // width], axis=-1) + 0.5
    camera = {"model": "PINHOLE", "width": width, "height": height, "params": [*intrinsics[(0, 1), (0, 1)], *intrinsics[:2, 2]]}
    max_error_px = REPROJECTION_ERROR * max(height, width)
    camera_from_world, result = absolute_pose(pixels, points, camera, max_error_px, iterations=ITERATIONS)
    if result["num_inliers"] < max(MIN_INLIERS, 0.1 * len(index)) or not np.isfinite(camera_from_world).all():
        return None
    return invert_rigid(camera_from_world)


def _trusted(pointmap: Pointmap) -> np.ndarray:
    """[height, width] bool: finite points, without the least confident fifth."""
    finite = all_finite(pointmap.points_world)
    if pointmap.confidence is None or not finite.any():
        return finite
    return finite & (pointmap.confidence >= np.quantile(pointmap.confidence[finite], LEAST_CONFIDENT_SHARE))


def hide_unsolved(sink: SceneSink, also: Collection[int] = ()) -> np.ndarray:
    """Interpolate the poses of unsolved frames and clear the visibility of all points in them.

    The pose is interpolated over time between the nearest solved frames, and repeated beyond the first and the last of them. The
    operation is idempotent, so that an interrupted run can be resumed.

    Args:
        sink: a scene with all frames written; its anchor is solved.
        also: indices of frames found to be unsolved after they were written, for example after a hard cut.
    Returns:
        [frames] indices of the unsolved frames.
    """
    num_frames = sink.header.num_frames
    solved = np.array([bool(sink.read("solved", index)) for index in range(num_frames)])
    solved[list(also)] = False
    known = np.flatnonzero(solved)
    unsolved = np.flatnonzero(~solved)
    for index in unsolved.tolist():
        position = int(np.searchsorted(known, index))
        before, after = known[max(position - 1, 0)], known[min(position, len(known) - 1)]
        pose = _pose_between(sink, int(before), int(after), float(sink.read("time_s", index)))
        size = (sink.header.height, sink.header.width)
        hidden = {"visible": np.zeros(size, bool), "visibility": np.zeros(size, np.float16)}
        unknown = dict.fromkeys(FRAME_QUALITY, np.float32(np.nan))  # the metrics belong to the replaced pose
        sink.update_frame(index, world_from_camera=pose, solved=False, **hidden, **unknown)
    return unsolved


def _pose_between(sink: SceneSink, before: int, after: int, time_s: float) -> np.ndarray:
    """Interpolated `world_from_camera` [4, 4] at a time between two solved frames, which may be the same frame."""
    start_s, end_s = (float(sink.read("time_s", index)) for index in (before, after))
    share = float(np.clip((time_s - start_s) / (end_s - start_s), 0, 1)) if end_s > start_s else 0.0
    start, end = (sink.read("world_from_camera", index) for index in (before, after))
    return interpolate_rigid(start, end, share)
