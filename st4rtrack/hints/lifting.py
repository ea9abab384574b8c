"""Points of an anchor in other frames: static ones stay, moved ones are lifted from where the flow finds them."""

import numpy as np

from st4rtrack.classical.flow import returns, sample_flow
from st4rtrack.classical.two_view import TwoView, pixel_rays
from st4rtrack.geometry.camera import pixel_grid
from st4rtrack.geometry.transforms import invert_rigid, transform_maps
from st4rtrack.geometry.vectors import length

MIN_MOTION = 0.008
"""Distance of a tracked pixel from where a static point would be, in long sides of the image, from which on it has moved."""


class LiftedTracks:
    """The anchor's points along one way through a video. A point that is not seen keeps its last displacement.

    Args:
        start: [H, W, 3] the anchor's points at its own time, in its camera.
        focal_px: of all frames.
    """

    def __init__(self, start: np.ndarray, focal_px: float) -> None:
        self._start, self._focal_px = start, focal_px
        self._grid = pixel_grid(*start.shape[:2])
        self._displacement = np.zeros_like(start)

    def next(self, view: TwoView, depth: np.ndarray, dynamic: np.ndarray | None = None) -> np.ndarray:
        """[H, W, 3] at the time of the next frame of the way.

        Args:
            view: flow to the frame, and its camera.
            depth: [H, W] of the frame.
            dynamic: [H, W] bool, points of the anchor that may move; `None`: all.
        """
        height, width = depth.shape
        there = self._grid + view.forward_flow
        static = transform_maps(invert_rigid(view.anchor_from_frame), self._start)
        pixel = static[..., :2] / np.maximum(static[..., 2:], 1e-3) * self._focal_px + (width / 2, height / 2)
        away = length((pixel - there).astype(np.float32)) > MIN_MOTION * max(height, width)
        seen = returns(view.forward_flow, view.backward_flow)
        moves = away & seen if dynamic is None else away & seen & dynamic
        rays = pixel_rays(there, self._focal_px, (height, width))
        now = transform_maps(view.anchor_from_frame, rays * sample_flow(depth, there)[..., None])
        self._displacement = np.where(moves[..., None], now - self._start, self._displacement).astype(np.float32)
        self._displacement[~away & seen] = 0  # where a static point would be: it rests again, or never moved
        return self._start + self._displacement
