"""A clip with truth: what every reader of training data gives and the trainer takes."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from st4rtrack.geometry.camera import pixel_grid, unproject


@dataclass(frozen=True)
class Clip:
    """Frames of one video with truth; NumPy, time first; world = camera frame of frame 0, the anchor; metres.

    Attributes:
        rgb: [T, H, W, 3] uint8.
        depth: [T, H, W] float32, z, 0 where unknown.
        intrinsics: [T, 3, 3] float64, pixels, first centre at 0.5.
        world_from_camera: [T, 4, 4] float64; frame 0 exactly the identity.
        tracking_points_world: [T, H, W, 3] float32, where the content of frame 0's pixels is at every time.
        tracking_valid: [T, H, W] bool, where that is known (sparse for data sets with mesh vertices).
        name: of the clip, for messages.
        moving: [H, W] bool, or None.
        supervised: [H, W] bool, pixels of frame 0 whose tracks may be learnt from, or None for all.
    """

    rgb: np.ndarray
    depth: np.ndarray
    intrinsics: np.ndarray
    world_from_camera: np.ndarray
    tracking_points_world: np.ndarray
    tracking_valid: np.ndarray
    name: str
    moving: np.ndarray | None = None
    supervised: np.ndarray | None = None

    @property
    def reconstruction_points_world(self) -> np.ndarray:
        """[T, H, W, 3] float32, depth un-projected."""
        pixels = pixel_grid(*self.depth.shape[1:])
        points = []
        for depth, intrinsics, world_from_camera in zip(self.depth, self.intrinsics, self.world_from_camera, strict=True):
            in_camera = unproject(pixels, depth, intrinsics)
            points.append(in_camera @ world_from_camera[:3, :3].T + world_from_camera[:3, 3])
        return np.stack(points).astype(np.float32)

    @property
    def reconstruction_valid(self) -> np.ndarray:
        """[T, H, W] bool."""
        return self.depth > 0


class ClipSource(Protocol):
    """Clips by number: any number >= 0 gives a clip, the same one each time."""

    def clip(self, index: int) -> Clip:
        """Clip `index`."""
        ...
