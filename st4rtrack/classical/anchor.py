"""An anchor and its neighbouring frames: dense matches, depth from known cameras and known depth, and the units of both."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from st4rtrack.classical.flow import FlowChain, bidirectional_flow, returns
from st4rtrack.classical.solver.evidence import PRIOR_FOCAL
from st4rtrack.classical.static_depth import depth_from_flow
from st4rtrack.geometry.camera import pixel_grid
from st4rtrack.geometry.transforms import invert_rigid, rigid
from st4rtrack.timing import timed
from st4rtrack.types import KnownVideo

NEIGHBOUR_FRAMES = 64
MATCHED_FRAMES = 12
"""Number of neighbouring frames that are read, and how many of them, evenly spaced, are matched with the anchor."""
MIN_KNOWN_SHARE = 0.05
"""Share of the anchor whose depth must be triangulated for it to be known."""
ONE_UNIT = 0.1
"""Log difference of the units of user-provided cameras and depth below which they count as equal: the error of triangulation."""


@dataclass(frozen=True)
class Matches:
    """Matches of anchor pixels in several frames.

    Attributes:
        anchor_px: [points, 2].
        frame_px: [frames, points, 2].
        valid: [frames, points] bool.
        size: (height, width) of the images.
    """

    anchor_px: np.ndarray
    frame_px: np.ndarray
    valid: np.ndarray
    size: tuple[int, int]

    def at_one_focal(self, zoom: np.ndarray) -> "Matches":
        """Matches rescaled to the focal length of the anchor; `zoom` [frames]: focal lengths of the frames over it."""
        centre = np.array([self.size[1] / 2, self.size[0] / 2])
        return replace(self, frame_px=centre + (self.frame_px - centre) / zoom[:, None, None])


@timed("geometry")
def neighbour_matches(anchor_rgb: np.ndarray, frames: Sequence[np.ndarray], static: np.ndarray | None) -> Matches | None:
    """Matches of the pixels of an anchor [height, width, 3] uint8 in its neighbouring frames; `None` without frames.

    Args:
        frames: neighbouring frames in their order; every pixel is matched in a selection of them (`matched_frames`).
        static: [height, width] bool, usable pixels of the anchor; `None`: all.
    """
    if not frames:
        return None
    grey, *others = (cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY) for rgb in (anchor_rgb, *frames))
    height, width = grey.shape
    chosen = set(matched_frames(len(others)))
    grid, chain, last = pixel_grid(height, width), FlowChain(height, width), grey
    pixels, valid = [], []
    for k, frame in enumerate(others):
        chain.extend(*bidirectional_flow(last, frame))
        if k in chosen:
            chain.correct(*bidirectional_flow(grey, frame, chain.forward, chain.backward))
            pixels.append((grid + chain.forward).reshape(-1, 2))
            valid.append(returns(chain.forward, chain.backward, share=0.02).ravel())
        last = frame
    usable = np.stack(valid) if static is None else np.stack(valid) & static.ravel()
    return Matches(grid.reshape(-1, 2), np.stack(pixels), usable, (height, width))


def matched_frames(count: int) -> list[int]:
    """Indices of the frames, out of `count`, that are matched with the anchor."""
    return np.unique(np.linspace(0, count - 1, MATCHED_FRAMES).astype(int)).tolist() if count else []


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
