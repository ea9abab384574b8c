"""Dense matches between an anchor and its neighbouring frames."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from st4rtrack.classical.flow import FlowChain, bidirectional_flow, returns
from st4rtrack.geometry.camera import pixel_grid
from st4rtrack.timing import timed

NEIGHBOUR_FRAMES = 64
MATCHED_FRAMES = 12
"""Number of neighbouring frames that are read, and how many of them, evenly spaced, are matched with the anchor."""


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
        """Matches as seen with the focal length of the anchor; `zoom` [frames] is that of the frames over it."""
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
