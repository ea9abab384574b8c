"""Reference frame with known depth, against which later frames are registered."""

from dataclasses import dataclass

import numpy as np

from st4rtrack.classical.flow import FlowChain, returns, sample_flow
from st4rtrack.classical.survey import absolute_camera, registration_error
from st4rtrack.classical.two_view import pixel_rays
from st4rtrack.geometry.camera import pixel_grid
from st4rtrack.geometry.transforms import invert_rigid
from st4rtrack.geometry.vectors import length

MIN_POSE_INLIERS = 0.3
ZOOM_FACTOR, ZOOM_GAIN, ZOOM_POINTS = 1.12, 0.98, 500
"""Zoom test: PnP is repeated with another focal length; a lower error means a zoom. Without zoom the error is at least 1.01 times
larger (rendered rooms, shared sequences and clips); a zoom of 10 % reduces it below this ratio."""
RE_PROJECTS_PX = 3.0


@dataclass
class Reference:
    """A frame with known depth, and the flow from it to the current frame.

    Attributes:
        grey: [height, width] uint8.
        depth: [height, width] in units of the survey, 0 where unknown.
        anchor_from_reference: [4, 4].
        chain: flow from the reference to the current frame.
        static: [height, width] bool, static pixels provided by the user; `None` where unknown.
        age: frames since it became the reference.
    """

    grey: np.ndarray
    depth: np.ndarray
    anchor_from_reference: np.ndarray
    chain: FlowChain
    static: np.ndarray | None
    age: int = 0
    is_anchor: bool = False

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.depth.shape[0], self.depth.shape[1]

    @property
    def pixels(self) -> np.ndarray:
        """[height, width, 2] positions of the reference pixels in the current frame."""
        return pixel_grid(*self.size) + self.chain.forward

    def visible(self) -> np.ndarray:
        """[height, width] bool: pixels matched in the current frame by the flow, and static as far as known."""
        visible = returns(self.chain.forward, self.chain.backward, share=0.02)
        return visible if self.static is None else visible & self.static

    def registered(self, seen: np.ndarray, focal_px: float) -> np.ndarray | None:
        """`anchor_from_frame` [4, 4] of the current frame by PnP on the pixels `seen` [height, width], or `None`."""
        rays = pixel_rays(pixel_grid(*self.size), focal_px, self.size)
        camera, agreeing = absolute_camera(rays[seen], self.depth[seen], self.pixels[seen], focal_px, self.size)
        if camera is None or agreeing < MIN_POSE_INLIERS:
            return None
        return self.anchor_from_reference @ invert_rigid(camera)

    def zooms(self, known_depth: np.ndarray, focal_px: float) -> bool:
        """Whether another focal length of the current frame fits the visible pixels with known depth [height, width] better."""
        chosen = np.flatnonzero((known_depth > 0) & self.visible())
        if len(chosen) < ZOOM_POINTS:
            return False
        chosen = chosen[np.linspace(0, len(chosen) - 1, ZOOM_POINTS).astype(int)]
        rays = pixel_rays(pixel_grid(*self.size), focal_px, self.size).reshape(-1, 3)[chosen]
        depth, pixels = known_depth.ravel()[chosen], self.pixels.reshape(-1, 2)[chosen]
        wide, same, tele = (
            registration_error(rays, depth, pixels, focal_px * factor, self.size)
            for factor in (1 / ZOOM_FACTOR, 1.0, ZOOM_FACTOR)
        )
        return min(wide, tele) < ZOOM_GAIN * same

    def carried(self, anchor_from_frame: np.ndarray, focal_px: float) -> np.ndarray:
        """Reference depth [height, width] warped into the current frame where backward flow and re-projection agree."""
        frame_from_reference = invert_rigid(anchor_from_frame) @ self.anchor_from_reference
        grid, size = pixel_grid(*self.size), self.size
        back_px = grid + self.chain.backward
        inverse = np.where(self.depth > 0, 1 / np.maximum(self.depth, 1e-6), 0.0).astype(np.float32)
        known = sample_flow((self.depth > 0).astype(np.float32), back_px) > 0.99
        distance = 1 / np.maximum(sample_flow(inverse, back_px), 1e-6)
        points = pixel_rays(back_px, focal_px, size) * distance[..., None]
        here = points @ frame_from_reference[:3, :3].T + frame_from_reference[:3, 3]
        pixels = here[..., :2] / np.maximum(here[..., 2:], 1e-6) * focal_px + (size[1] / 2, size[0] / 2)
        sound = known & returns(self.chain.backward, self.chain.forward, share=0.02) & (here[..., 2] > 0.02)
        sound &= length(pixels - grid) < RE_PROJECTS_PX
        return np.where(sound, here[..., 2], 0.0).astype(np.float32)
