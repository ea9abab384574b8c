"""Registration of a frame against a reference frame: by PnP with known depth; without depth, the rotation of a rotating camera.

Symbols: ray = (x / z, y / z, 1) of a pixel; R rotates rays of the first image into the second.
"""

from dataclasses import dataclass

import numpy as np

from st4rtrack.classical.anchor import Matches
from st4rtrack.classical.flow import FlowChain, returns, sample_flow
from st4rtrack.classical.solver.evidence import PRIOR_FOCAL
from st4rtrack.classical.two_view import absolute_pose, pinhole, pixel_rays, pixels_of_points, rotation_between
from st4rtrack.geometry.camera import pixel_grid
from st4rtrack.geometry.sampling import spread_out
from st4rtrack.geometry.transforms import invert_rigid, transform_maps
from st4rtrack.geometry.vectors import length

MIN_POINTS, MAX_POINTS = 30, 500
MIN_POSE_INLIERS = 0.3
POSE_ERROR_PX = 1.5
REPROJECTION_PX = 3.0

FOCALS = np.geomspace(0.4, 3.0, 22)
"""Candidate focal lengths, in long sides of the image: 103 to 19 degrees."""
POINTS = 400
MAX_ERROR_PX = 2.0
MIN_MATCHED_SHARE = 0.25
INLIER_PX = 1.5
DECISIVE_FACTOR = 1.3
DECISIVE_PX = 0.05
"""The video determines the focal length if a change by `DECISIVE_FACTOR` raises the mean error by at least this."""


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
        chosen = np.flatnonzero(seen)
        if len(chosen) < MIN_POINTS:
            return None
        chosen = chosen[spread_out(len(chosen), MAX_POINTS)]
        rays = pixel_rays(pixel_grid(*self.size), focal_px, self.size).reshape(-1, 3)[chosen]
        points = (rays * self.depth.ravel()[chosen, None]).astype(np.float64)
        pixels = self.pixels.reshape(-1, 2)[chosen].astype(np.float64)
        camera = pinhole(focal_px, self.size)
        frame_from_reference, result = absolute_pose(pixels, points, camera, POSE_ERROR_PX, iterations=(30, 200))
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


@dataclass(frozen=True)
class RotationFocal:
    """Focal length in pixels, and whether the matches determine it (otherwise it is the prior)."""

    focal_px: float
    decided: bool


def rotation_focal(matches: Matches) -> RotationFocal:
    """Focal length with which pure rotations fit the matches best.

    A pan by a few degrees hardly constrains it: then the focal length of the prior is returned.
    """
    long_side = max(matches.size)
    costs = np.array([_mean_error(matches, ratio * long_side) for ratio in FOCALS])
    best = int(np.argmin(costs))
    low, high = (np.interp(np.log(FOCALS[best] * f), np.log(FOCALS), costs) for f in (1 / DECISIVE_FACTOR, DECISIVE_FACTOR))
    at_limit = best in (0, len(FOCALS) - 1)
    if at_limit or min(low, high) < costs[best] + DECISIVE_PX:
        return RotationFocal(PRIOR_FOCAL * long_side, False)
    a, b, _ = np.polyfit(np.log(FOCALS[best - 1 : best + 2] / FOCALS[best]), costs[best - 1 : best + 2], 2)
    step = np.log(FOCALS[1] / FOCALS[0])
    return RotationFocal(float(FOCALS[best] * np.exp(np.clip(-b / (2 * max(a, 1e-9)), -step, step))) * long_side, True)


def camera_rotation(
    source_px: np.ndarray, target_px: np.ndarray, focal_px: float, size: tuple[int, int]
) -> tuple[np.ndarray, float]:
    """Rotation [3, 3] of the rays of matches [points, 2], and the share of matches within `INLIER_PX`."""
    chosen = spread_out(len(source_px), POINTS)
    a, b = (pixel_rays(pixels[chosen], focal_px, size) for pixels in (source_px, target_px))
    rotation = rotation_between(a, b)
    return rotation, float((_errors_px(a, b, rotation, focal_px) < INLIER_PX).mean())


def _mean_error(matches: Matches, focal_px: float) -> float:
    errors = []
    for frame_px, valid in zip(matches.frame_px, matches.valid, strict=True):
        if valid.mean() < MIN_MATCHED_SHARE:
            continue
        chosen = np.flatnonzero(valid)
        chosen = chosen[spread_out(len(chosen), POINTS)]
        a, b = (pixel_rays(pixels[chosen], focal_px, matches.size) for pixels in (matches.anchor_px, frame_px))
        errors.append(np.minimum(_errors_px(a, b, rotation_between(a, b), focal_px), MAX_ERROR_PX).mean())
    return float(np.mean(errors)) if errors else np.inf


def _errors_px(a: np.ndarray, b: np.ndarray, rotation: np.ndarray, focal_px: float) -> np.ndarray:
    rotated = a @ rotation.T
    return focal_px * length(rotated[:, :2] / np.maximum(rotated[:, 2:], 1e-3) - b[:, :2])
