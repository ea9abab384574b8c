"""Depth of an anchor from known cameras and known depth, and the units of both."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from st4rtrack.classical.anchor_matches import Matches, matched_frames
from st4rtrack.classical.solver.evidence import PRIOR_FOCAL
from st4rtrack.classical.static_depth import depth_from_flow
from st4rtrack.geometry.transforms import invert_rigid, rigid
from st4rtrack.types import KnownVideo

MIN_KNOWN_SHARE = 0.05
"""Share of the anchor whose depth must be triangulated for it to be known."""
ONE_UNIT = 0.1
"""Log difference of the units of user-provided cameras and depth below which they count as equal: the error of triangulation."""


@dataclass(frozen=True)
class Units:
    """Lengths of the known cameras and of the known depth that equal one unit of `AnchoredGeometry`; `None` if undetermined."""

    cameras: float | None = None
    depth: float | None = None


@dataclass(frozen=True)
class AnchorDepth:
    """Depth of an anchor.

    Attributes:
        depth: z-depth [height, width] where it is static with parallax, or where it is known (else 0; median 1).
        static: [height, width] bool, pixels usable for pose estimation; `None`: all with depth.
        measured: the depth is triangulated or known, not from a prior.
    """

    depth: np.ndarray
    static: np.ndarray | None = None
    measured: bool = True


def triangulated_anchor(known: KnownVideo, matches: Matches | None, anchor_index: int, order: Sequence[int]) -> np.ndarray | None:
    """z-depth [height, width] of the anchor in the unit of the known cameras, 0 where unknown; `None` without cameras."""
    if matches is None or known.world_from_camera is None:
        return None
    indices = [order[k] for k in matched_frames(len(order))]
    if known.focals_px is not None:
        matches = matches.at_one_focal(known.focals_px[indices] / known.focals_px[anchor_index])
    cameras = [known.anchor_from_camera(anchor_index, index) for index in indices]
    usable = [k for k, camera in enumerate(cameras) if camera is not None]
    relative = [invert_rigid(camera) for camera in cameras if camera is not None]
    unit = max((float(np.linalg.norm(camera[:3, 3])) for camera in relative), default=0.0)
    if unit == 0:
        return np.zeros(matches.size, np.float32)
    relative = [rigid(camera[:3, :3], camera[:3, 3] / unit) for camera in relative]
    flow = (matches.frame_px[usable] - matches.anchor_px).reshape(-1, *matches.size, 2)
    valid = matches.valid[usable].reshape(-1, *matches.size)
    focal_px = known.focal_px or PRIOR_FOCAL * max(matches.size)
    found = depth_from_flow(list(flow), list(valid), relative, focal_px, matches.size)
    return unit * found.depth * (found.known.mean() >= MIN_KNOWN_SHARE)


def known_anchor_depth(
    known: KnownVideo, triangulated: np.ndarray | None, anchor_index: int, user: KnownVideo
) -> tuple[AnchorDepth | None, Units]:
    """Depth of the anchor from user-provided depth and triangulated depth, and the units of known cameras and depth."""
    provided, solved = known.depth_of(anchor_index), user.world_from_camera is None
    if provided is not None and (provided > 0).any():
        unit = _median(provided)
        both = (provided > 0) & (triangulated > 0) if triangulated is not None else np.zeros(provided.shape, bool)
        if triangulated is None or not both.any():
            return AnchorDepth((provided / unit).astype(np.float32)), Units(None if solved else unit, unit)
        ratio = float(np.median(triangulated[both] / provided[both]))
        depth = np.where(provided > 0, provided, triangulated / ratio) / unit
        same = not solved and abs(np.log(ratio)) < ONE_UNIT
        return AnchorDepth(depth.astype(np.float32), triangulated > 0), Units(unit if same else unit * ratio, unit)
    if triangulated is None or not (solved or triangulated.any()):
        return None, Units()
    unit = 1.0 if solved else _median(triangulated)  # the solver's unit is the median depth of the anchor's points
    return AnchorDepth((triangulated / unit).astype(np.float32)), Units(cameras=unit)


def _median(depth: np.ndarray) -> float:
    return float(np.median(depth[depth > 0]))
