"""Reference frame with known depth, against which other frames are registered."""

from dataclasses import dataclass

import numpy as np

from st4rtrack.classical.flow import FlowChain, returns, sample_flow
from st4rtrack.classical.two_view import pinhole, pixel_rays, pixels_of_points
from st4rtrack.geometry.camera import pixel_grid
from st4rtrack.geometry.transforms import invert_rigid, rigid, transform_maps
from st4rtrack.geometry.vectors import length

MIN_POINTS, MAX_POINTS = 30, 500
MIN_POSE_INLIERS = 0.3
POSE_ERROR_PX = 1.5
REPROJECTION_PX = 3.0


@dataclass
class Reference:
    """A frame with known depth, and the flow from it to the current frame.

    Attributes:
        grey: [height, width] uint8.
        depth: [height, width], 0 where unknown.
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
        import poselib  # lazy import: training on rendered pairs does not need it

        chosen = np.flatnonzero(seen)
        if len(chosen) < MIN_POINTS:
            return None
        chosen = chosen[np.linspace(0, len(chosen) - 1, min(MAX_POINTS, len(chosen))).astype(int)]  # raster order: spread out
        rays = pixel_rays(pixel_grid(*self.size), focal_px, self.size).reshape(-1, 3)[chosen]
        points = (rays * self.depth.ravel()[chosen, None]).astype(np.float64)
        options = {"max_reproj_error": POSE_ERROR_PX, "max_iterations": 200, "min_iterations": 30, "seed": 0}
        pixels = self.pixels.reshape(-1, 2)[chosen].astype(np.float64)
        pose, result = poselib.estimate_absolute_pose(pixels, points, pinhole(focal_px, self.size), options, {})
        frame_from_reference = rigid(np.asarray(pose.R), np.asarray(pose.t))
        if not np.isfinite(frame_from_reference).all() or result["num_inliers"] < MIN_POSE_INLIERS * len(chosen):
            return None
        return self.anchor_from_reference @ invert_rigid(frame_from_reference)

    def carried(self, anchor_from_frame: np.ndarray, focal_px: float) -> np.ndarray:
        """Reference depth [height, width] warped into the current frame where backward flow and reprojection agree."""
        frame_from_reference = invert_rigid(anchor_from_frame) @ self.anchor_from_reference
        grid, size = pixel_grid(*self.size), self.size
        back_px = grid + self.chain.backward
        inverse = np.where(self.depth > 0, 1 / np.maximum(self.depth, 1e-6), 0.0).astype(np.float32)
        known = sample_flow((self.depth > 0).astype(np.float32), back_px) > 0.99
        distance = 1 / np.maximum(sample_flow(inverse, back_px), 1e-6)
        here = transform_maps(frame_from_reference, pixel_rays(back_px, focal_px, size) * distance[..., None])
        sound = known & returns(self.chain.backward, self.chain.forward, share=0.02) & (here[..., 2] > 0.02)
        sound &= length(pixels_of_points(here, focal_px, size) - grid) < REPROJECTION_PX
        return np.where(sound, here[..., 2], 0.0).astype(np.float32)
