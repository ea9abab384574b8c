"""A survey of the anchor where something is known beforehand: the focal length, cameras, depth. It replaces what would be estimated."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from st4rtrack.classical.survey import Matches, Survey, depth_with_cameras, survey
from st4rtrack.classical.two_view import ASSUMED_FOCAL
from st4rtrack.geometry.transforms import invert_rigid
from st4rtrack.types import FocalSource

ONE_UNIT = 0.1
"""Cameras and depth whose units differ by less (log) are in one unit: the difference is what triangulation is wrong by."""


@dataclass(frozen=True)
class Given:
    """What is known of the frames of a video.

    Attributes:
        focal_px: network pixels, or `None`.
        focal_source: who says so.
        world_from_camera: [T, 4, 4] in any world and unit, NaN where unknown; or `None`.
        depth: [H, W] of a frame by its number, 0 where unknown; or `None`.
        static: [H, W] bool of a frame; or `None`.
        points: static points that a frame by its number sees, [n, 3] network pixels (u, v) and z-depth in the cameras' unit; or `None`.
    """

    focal_px: float | None = None
    world_from_camera: np.ndarray | None = None
    depth: Callable[[int], np.ndarray] | None = None
    static: Callable[[int], np.ndarray] | None = None
    focal_source: FocalSource = "user"
    points: Callable[[int], np.ndarray] | None = None

    def anchor_from_camera(self, anchor_index: int, index: int) -> np.ndarray | None:
        """[4, 4] in the cameras' unit, or `None` where it is unknown."""
        if self.world_from_camera is None:
            return None
        found = invert_rigid(self.world_from_camera[anchor_index]) @ self.world_from_camera[index]
        return found if np.isfinite(found).all() else None

    def depth_of(self, index: int) -> np.ndarray | None:
        """[H, W] in the depth's unit, or `None`."""
        return None if self.depth is None else self.depth(index)


@dataclass(frozen=True)
class Units:
    """Lengths of the given cameras and the given depth that are one unit of a survey; `None` where none says."""

    cameras: float | None = None
    depth: float | None = None


def survey_given(
    given: Given,
    anchor_depth: np.ndarray | None,
    matches: Matches | None,
    cameras: list[np.ndarray | None],
) -> tuple[Survey | None, Units]:
    """A survey as of `survey`, from what is given as far as it goes.

    Args:
        given: of the video.
        anchor_depth: [H, W] of the anchor, 0 where unknown; or `None`.
        matches: of the anchor with frames around it, `None` where there is no such frame.
        cameras: `frame_from_anchor` of the same frames, `None` where unknown.
    Returns:
        The survey, its median depth 1, or `None` where neither depth nor parallax is there; and the units of what was given.
    """
    found = None if matches is None else survey(matches, given.focal_px)
    size = matches.size if matches is not None else (0, 0) if anchor_depth is None else anchor_depth.shape
    focal = given.focal_px or (found.focal_px if found is not None else ASSUMED_FOCAL * max(size))
    triangulated = None
    if matches is not None and given.world_from_camera is not None:
        triangulated = depth_with_cameras(matches, cameras, focal)
    if anchor_depth is not None and (anchor_depth > 0).any():
        known = found.depth if found is not None else None
        return _of_depth(anchor_depth, known, focal), _units(anchor_depth, triangulated)
    if triangulated is not None:
        unit = _median(triangulated)
        return Survey(focal, (triangulated / unit).astype(np.float32)), Units(cameras=unit)
    return found, Units()


def survey_solved(given: Given, matches: Matches, cameras: list[np.ndarray | None]) -> tuple[Survey, Units]:
    """A survey of an anchor with the cameras and the focal length of a solver, in whose unit the anchor's median depth is 1.

    Args:
        matches, cameras: as of `survey_given`.
    """
    assert given.focal_px is not None
    triangulated = depth_with_cameras(matches, cameras, given.focal_px)
    depth = np.zeros(matches.size, np.float32) if triangulated is None else triangulated.astype(np.float32)
    return Survey(given.focal_px, depth), Units(cameras=1.0)


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
