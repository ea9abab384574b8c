"""Cameras from pointmaps (paper section 3.3): focal length from the anchor's pointmap, one robust PnP per frame (PoseLib)."""

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

SEED = 0
"""Of the robust solver: which pixels propose cameras."""


@timed("cameras")
def anchor_intrinsics(anchor_points: Pointmap) -> np.ndarray:
    """Intrinsics [3, 3] in network pixels from the anchor's own pointmap [height, width, 3]; principal point in the middle.

    A focal length that is not plausible is moved to the nearest plausible one, with a warning.

    Raises:
        UserError: no trusted pixel has a finite point before the camera.
    """
    height, width = anchor_points.points_world.shape[:2]
    trusted = _trusted(anchor_points) & (anchor_points.points_world[..., 2] > 0)
    try:
        focal = weiszfeld_focal(anchor_points.points_world, weights=trusted)
    except ValueError:
        raise UserError(
            "the network's pointmap of the anchor fits no camera; is the model trained, and the anchor frame not blank?"
        ) from None
    low, high = (bound * max(height, width) for bound in FOCAL_RANGE)
    if not low <= focal <= high:
        logger.warning(
            "the network's pointmap of the anchor asks for a focal length of %.0f pixels, which is not plausible: %.0f is used; "
            "do not trust the cameras of this scene",
            focal,
            np.clip(focal, low, high),
        )
    return intrinsics_from_focal(float(np.clip(focal, low, high)), height, width)


@timed("cameras")
def solve_camera(reconstruction: Pointmap, intrinsics: np.ndarray) -> np.ndarray | None:
    """`world_from_camera` [4, 4] of a frame from its reconstruction [height, width, 3]: each pixel sees its own point.

    RANSAC and refinement of inliers by PoseLib, on at most `POINTS` pixels, the least confident fifth left out. Seeded.

    Returns:
        The camera, or `None` where too few pixels agree on one.
    """
    height, width = reconstruction.points_world.shape[:2]
    index = np.flatnonzero(_trusted(reconstruction))
    if len(index) < MIN_INLIERS:
        return None
    index = index[np.linspace(0, len(index) - 1, min(POINTS, len(index))).astype(np.int64)]
    points = np.asarray(reconstruction.points_world).reshape(-1, 3)[index].astype(np.float64)
    pixels = np.stack([index % width, index // width], axis=-1) + 0.5
    camera = {"model": "PINHOLE", "width": width, "height": height, "params": [*intrinsics[(0, 1), (0, 1)], *intrinsics[:2, 2]]}
    options = {"max_reproj_error": REPROJECTION_ERROR * max(height, width), "max_iterations": 1000, "seed": SEED}
    pose, result = poselib.estimate_absolute_pose(pixels, points, camera, options, {})
    camera_from_world = rigid(np.asarray(pose.R), np.asarray(pose.t))
    if result["num_inliers"] < max(MIN_INLIERS, 0.1 * len(index)) or not np.isfinite(camera_from_world).all():
        return None
    return invert_rigid(camera_from_world)


def _trusted(pointmap: Pointmap) -> np.ndarray:
    """[height, width] bool: finite, and not of the least confident fifth."""
    finite = all_finite(pointmap.points_world)
    if pointmap.confidence is None or not finite.any():
        return finite
    return finite & (pointmap.confidence >= np.quantile(pointmap.confidence[finite], LEAST_CONFIDENT_SHARE))
