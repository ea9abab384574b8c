"""Dense matches between an anchor and its neighbouring frames, and the survey that suits the camera motion."""

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np

from st4rtrack.classical.camera_motion import CameraMotion, MotionKind, camera_motion
from st4rtrack.classical.flow import FlowChain, dense_flow, returns
from st4rtrack.classical.rotation import RotationFocal, rotation_focal
from st4rtrack.classical.survey import PRIOR_FOCAL, Matches, Survey, survey
from st4rtrack.geometry.camera import pixel_grid
from st4rtrack.threads import parallel_map

SURVEY_FRAMES = 64
SURVEY_MATCHES = 12
"""Number of neighbouring frames that a survey reads, and how many of them, evenly spaced, it matches with the anchor."""
WITHOUT_DEPTH = ("fixed", "rotation", "zoom", "dolly_zoom")
"""Camera motions without information about depth, or whose depth is not modelled."""


def motion_of(anchor_rgb: np.ndarray, frames: Sequence[np.ndarray], static: np.ndarray | None = None) -> CameraMotion | None:
    """Camera motion between an anchor [height, width, 3] uint8 and its neighbouring frames; `None` without frames.

    Args:
        static: [height, width] bool, usable pixels of the anchor; `None`: all.
    """
    matches = survey_matches(anchor_rgb, frames, static)
    return None if matches is None else camera_motion(matches, static=static)


def survey_matches(anchor_rgb: np.ndarray, frames: Sequence[np.ndarray], static: np.ndarray | None) -> Matches | None:
    """Matches between the static pixels of an anchor and its neighbouring frames; `None` without frames."""
    if not frames:
        return None
    grey, *others = (cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY) for rgb in (anchor_rgb, *frames))
    matches = dense_matches(grey, others)
    if static is not None:
        matches.valid[:] &= static.ravel()
    return matches


def survey_by_motion(
    matches: Matches, kind: MotionKind, focal_px: float | None, static: np.ndarray | None
) -> tuple[Survey | None, RotationFocal | None]:
    """Survey suited to a camera motion, and the focal length of a pure rotation if it is not known."""
    if kind in WITHOUT_DEPTH:
        return None, rotation_focal(matches) if kind == "rotation" and focal_px is None else None
    if kind == "forward" and focal_px is None:
        focal_px = PRIOR_FOCAL * max(matches.size)
    surveyed = survey(matches, focal_px)
    return surveyed if surveyed is None else replace(surveyed, still=static), None


def matched_frames(count: int) -> list[int]:
    """Indices of the frames, out of `count`, that a survey matches with the anchor."""
    return np.unique(np.linspace(0, count - 1, SURVEY_MATCHES).astype(int)).tolist() if count else []


def dense_matches(grey: np.ndarray, frames: list[np.ndarray]) -> Matches:
    """Matches of every pixel of an image with a selection of the following frames."""
    height, width = grey.shape
    chosen = set(matched_frames(len(frames)))
    grid, chain, last = pixel_grid(height, width), FlowChain(height, width), grey
    pixels, valid = [], []
    for k, frame in enumerate(frames):
        chain.extend(*bidirectional_flow(last, frame))
        if k in chosen:
            chain.correct(*bidirectional_flow(grey, frame, chain.forward, chain.backward))
            pixels.append((grid + chain.forward).reshape(-1, 2))
            valid.append(returns(chain.forward, chain.backward, share=0.02).ravel())
        last = frame
    return Matches(grid.reshape(-1, 2), np.stack(pixels), np.stack(valid), (height, width))


def bidirectional_flow(
    a: np.ndarray, b: np.ndarray, forward: np.ndarray | None = None, backward: np.ndarray | None = None, *, enlarge: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Flow from a to b and back, computed in parallel where OpenCV may use two threads."""
    there, back = parallel_map(lambda call: dense_flow(*call, enlarge=enlarge), ((a, b, forward), (b, a, backward)))
    return there, back
