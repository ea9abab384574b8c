"""Survey of the anchor with known focal length, cameras or depth, which replace the estimates."""

from dataclasses import dataclass

import numpy as np

from st4rtrack.classical.survey import Matches, Survey, depth_with_cameras, survey
from st4rtrack.classical.two_view import ASSUMED_FOCAL
from st4rtrack.types import KnownVideo

ONE_UNIT = 0.1
"""Log difference of the units of cameras and depth below which they count as equal: the error of triangulation."""


@dataclass(frozen=True)
class Units:
    """Lengths of the known cameras and of the known depth that equal one unit of a survey; `None` where undetermined."""

    cameras: float | None = None
    depth: float | None = None


def survey_known(
    known: KnownVideo,
    anchor_depth: np.ndarray | None,
    matches: Matches | None,
    cameras: list[np.ndarray | None],
) -> tuple[Survey | None, Units]:
    """Survey of an anchor, as `survey`, that uses known focal length, cameras and depth as far as available.

    Args:
        known: known geometry of the video.
        anchor_depth: known depth [H, W] of the anchor, 0 where unknown; or `None`.
        matches: of the anchor with its neighbouring frames, `None` without such frames.
        cameras: `frame_from_anchor` of the same frames, `None` where unknown.
    Returns:
        The survey with median depth 1, or `None` without depth and parallax; and the units of the known cameras and depth.
    """
    found = None if matches is None else survey(matches, known.focal_px)
    size = matches.size if matches is not None else (0, 0) if anchor_depth is None else anchor_depth.shape
    focal = known.focal_px or (found.focal_px if found is not None else ASSUMED_FOCAL * max(size))
    triangulated = None
    if matches is not None and known.world_from_camera is not None:
        triangulated = depth_with_cameras(matches, cameras, focal)
    if anchor_depth is not None and (anchor_depth > 0).any():
        found_depth = found.depth if found is not None else None
        return _of_depth(anchor_depth, found_depth, focal), _units(anchor_depth, triangulated)
    if triangulated is not None:
        unit = _median(triangulated)
        return Survey(focal, (triangulated / unit).astype(np.float32)), Units(cameras=unit)
    return found, Units()


def survey_solved(known: KnownVideo, matches: Matches, cameras: list[np.ndarray | None]) -> tuple[Survey, Units]:
    """Survey of an anchor with the cameras and focal length of a solver, whose unit makes the anchor's median depth 1.

    Args:
        matches, cameras: as for `survey_known`.
    """
    assert known.focal_px is not None
    triangulated = depth_with_cameras(matches, cameras, known.focal_px)
    depth = np.zeros(matches.size, np.float32) if triangulated is None else triangulated.astype(np.float32)
    return Survey(known.focal_px, depth), Units(cameras=1.0)


def _of_depth(anchor_depth: np.ndarray, found: np.ndarray | None, focal_px: float) -> Survey:
    """Survey from known depth, completed by triangulated depth `found` scaled to it. The triangulated pixels are static."""
    depth = anchor_depth / _median(anchor_depth)
    both = (depth > 0) & (found > 0) if found is not None else np.zeros(depth.shape, bool)
    if found is not None and both.any():
        depth = np.where(depth > 0, depth, found * np.median(depth[both] / found[both]))
    return Survey(focal_px, depth.astype(np.float32), found > 0 if found is not None and both.any() else None)


def _units(anchor_depth: np.ndarray, triangulated: np.ndarray | None) -> Units:
    unit = _median(anchor_depth)
    both = (anchor_depth > 0) & (triangulated > 0) if triangulated is not None else np.zeros(anchor_depth.shape, bool)
    if triangulated is None or not both.any():
        return Units(unit, unit)
    ratio = float(np.median(triangulated[both] / anchor_depth[both]))
    return Units(unit if abs(np.log(ratio)) < ONE_UNIT else unit * ratio, unit)


def _median(depth: np.ndarray) -> float:
    return float(np.median(depth[depth > 0]))
