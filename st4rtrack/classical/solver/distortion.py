"""Radial lens distortion of a solved video: bundle adjustments with and without it."""

from typing import NamedTuple

import numpy as np

from st4rtrack.classical.solver.cameras import SolvedCameras
from st4rtrack.classical.solver.colmap import Mapping, adjust
from st4rtrack.classical.solver.key_frames import working_scale
from st4rtrack.geometry.transforms import invert_rigid

FRAMES, POINTS_PER_FRAME = 40, 200
MIN_OBSERVATIONS, MIN_TRACK = 1500, 3
MAX_ERROR_RATIO = 0.99
"""Maximum ratio of the mean reprojection errors with and without distortion, of a distorting lens: 0.985 in a small noisy rendered
video with k1 = -0.18, 0.9995 and more without distortion."""
MIN_SHIFT = 0.008
"""Minimum shift of a pixel at the end of the long side by the distortion, in long sides."""


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
    frames = frames[np.unique(np.linspace(0, len(frames) - 1, FRAMES).astype(int))]
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
