"""Clip with ground truth: the interface between data set readers and the trainer."""

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from st4rtrack.geometry.camera import pixel_grid, unproject


@dataclass(frozen=True)
class Clip:
    """Frames of one video with ground truth; NumPy, time first; world = camera frame of frame 0 (the anchor); metres."""

    rgb: np.ndarray  # [T, H, W, 3] uint8
    depth: np.ndarray  # [T, H, W] float32, z, 0 where unknown
    intrinsics: np.ndarray  # [T, 3, 3] float64, pixels, centre of the first pixel at 0.5
    world_from_camera: np.ndarray  # [T, 4, 4] float64; exactly the identity for frame 0
    # [T, H, W, 3] float32, positions at every time of the points shown by the pixels of frame 0
    tracking_points_world: np.ndarray
    tracking_valid: np.ndarray  # [T, H, W] bool, where those positions are known (sparse for data sets with mesh vertices)
    name: str  # name of the clip, for messages
    moving: np.ndarray | None = None  # [H, W] bool, pixels of frame 0 that show dynamic points, or None
    supervised: np.ndarray | None = None  # [H, W] bool, pixels of frame 0 whose tracks supervise the training, or None for all

    @property
    def reconstruction_points_world(self) -> np.ndarray:
        """Unprojected depth of every frame, in the world: [T, H, W, 3] float32."""
        pixels = pixel_grid(*self.depth.shape[1:])
        points = []
        for depth, intrinsics, world_from_camera in zip(self.depth, self.intrinsics, self.world_from_camera, strict=True):
            in_camera = unproject(pixels, depth, intrinsics)
            points.append(in_camera @ world_from_camera[:3, :3].T + world_from_camera[:3, 3])
        return np.stack(points).astype(np.float32)

    @property
    def reconstruction_valid(self) -> np.ndarray:
        """Pixels with known depth: [T, H, W] bool."""
        return self.depth > 0


class ClipSource(Protocol):
    """Infinite source of clips: every index >= 0 gives a clip, always the same one."""

    def clip(self, index: int) -> Clip:
        """Return clip `index`."""
        ...
