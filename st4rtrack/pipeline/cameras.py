"""Cameras from pointmaps (paper section 3.3): focal length from the anchor pointmap, one robust PnP per frame (PoseLib)."""

import logging

import numpy as np
import poselib

from st4rtrack.geometry.camera import intrinsics_from_focal
from st4rtrack.geometry.focal import weiszfeld_focal
from st4rtrack.geometry.transforms import invert_rigid, rigid
from st4rtrack.geometry.vectors import all_finite
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

ITERATIONS = {"min_iterations": 100, "max_iterations": 1000}
"""PoseLib's default minimum is 1000, which takes five times as long for the same poses."""

SEED = 0
"""Seed of the robust solver: determines which pixels are sampled."""


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
    index = index[np.linspace(0, len(index) - 1, min(POINTS, len(index))).astype(np.int64)]
    points = np.asarray(reconstruction.points_world).reshape(-1, 3)[index].astype(np.float64)
    pixels = np.stack([index % width, index // width], axis=-1) + 0.5
    camera = {"model": "PINHOLE", "width": width, "height": height, "params": [*intrinsics[(0, 1), (0, 1)], *intrinsics[:2, 2]]}
    options = {"max_reproj_error": REPROJECTION_ERROR * max(height, width), **ITERATIONS, "seed": SEED}
    pose, result = poselib.estimate_absolute_pose(pixels, points, camera, options, {})
    camera_from_world = rigid(np.asarray(pose.R), np.asarray(pose.t))
    if result["num_inliers"] < max(MIN_INLIERS, 0.1 * len(index)) or not np.isfinite(camera_from_world).all():
        return None
    return invert_rigid(camera_from_world)


def _trusted(pointmap: Pointmap) -> np.ndarray:
    """[height, width] bool: finite points, without the least confident fifth."""
    finite = all_finite(pointmap.points_world)
    if pointmap.confidence is None or not finite.any():
        return finite
    return finite & (pointmap.confidence >= np.quantile(pointmap.confidence[finite], LEAST_CONFIDENT_SHARE))
