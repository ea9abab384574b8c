"""A survey of the anchor where focal length, cameras or depth are known: they replace what would be estimated."""

from dataclasses import dataclass

import numpy as np

from st4rtrack.classical.survey import Matches, Survey, depth_with_cameras, survey
from st4rtrack.classical.two_view import ASSUMED_FOCAL
from st4rtrack.types import KnownVideo

ONE_UNIT = 0.1
"""Cameras and depth whose units differ by less (log) are in one unit: the difference is what triangulation is wrong by."""


@dataclass(frozen=True)
class Units:
    """Lengths of the known cameras and the known depth that are one unit of a survey; `None` where none says."""

    cameras: float | None = None
    depth: float | None = None


def survey_known(
    known: KnownVideo,
    anchor_depth: np.ndarray | None,
    matches: Matches | None,
    cameras: list[np.ndarray | None],
) -> tuple[Survey | None, Units]:
    """A survey as of `survey`, from what is given as far as it goes.

    Args:
        known: of the video.
        anchor_depth: [H, W] of the anchor, 0 where unknown; or `None`.
        matches: of the anchor with frames around it, `None` where there is no such frame.
        cameras: `frame_from_anchor` of the same frames, `None` where unknown.
    Returns:
        The survey, its median depth 1, or `None` where neither depth nor parallax is there; and the units of what was given.
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
    """A survey of an anchor with the cameras and the focal length of a solver, in whose unit the anchor's median depth is 1.

    Args:
        matches, cameras: as of `survey_known`.
    """
    assert known.focal_px is not None
    triangulated = depth_with_cameras(matches, cameras, known.focal_px)
    depth = np.zeros(matches.size, np.float32) if triangulated is None else triangulated.astype(np.float32)
    return Survey(known.focal_px, depth), Units(cameras=1.0)


def _of_depth(anchor_depth: np.ndarray, found: np.ndarray | None, focal_px: float) -> Survey:
    """A survey whose depth is what is given, and elsewhere what was found, brought to it. What was found is what stands still."""
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
