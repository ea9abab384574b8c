"""Tracked pixels of every frame: one bit per pixel, in a file, so that memory does not grow with the video."""

import tempfile
from pathlib import Path

import cv2
import numpy as np

from st4rtrack.geometry.track_assignment import tracked_view
from st4rtrack.io.scene import SceneSink
from st4rtrack.scene import FrameSurface

ENOUGH = 0.01
"""Untracked share of a frame up to which no further anchor is added for it."""


class Coverage:
    """Pixels of each frame that belong to a tracked point.

    Args:
        sink: a scene with all frames written.

    Attributes:
        missing: [time] share of untracked pixels of each frame.
        holes: [time] share in untracked regions at least three pixels wide, without thin borders and specks.
    """

    def __init__(self, sink: SceneSink) -> None:
        header = sink.header
        self._sink, self._shape = sink, (header.height, header.width)
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # the mapping outlives the file name
            size = (header.num_frames, -(-header.height * header.width // 8))
            self._bits = np.memmap(Path(folder) / "coverage", np.uint8, mode="w+", shape=size)
        self.missing, self.holes = np.ones(header.num_frames), np.ones(header.num_frames)

    def mask(self, index: int) -> np.ndarray:
        """[height, width] bool: pixels of a frame that are tracked or need no track."""
        count = self._shape[0] * self._shape[1]
        return np.unpackbits(self._bits[index], count=count).astype(bool).reshape(self._shape)

    def add(self, index: int, points_world: np.ndarray, usable: np.ndarray) -> float:
        """Add tracked points [height, width, 3] of a frame; only those in the mask `usable` [height, width] cover pixels.

        Returns the newly covered share of the frame.
        """
        covered, surface = self.mask(index), surface_of(self._sink, index)
        depth = surface.depth
        covered |= ~np.isfinite(depth)
        points = points_world[usable]
        view = tracked_view(points, np.ones(len(points), bool), depth, surface.world_from_camera, surface.intrinsics)
        before = self.missing[index]
        self.set(index, covered | view.covered(depth, ~covered))
        return float(before - self.missing[index])

    def set(self, index: int, covered: np.ndarray) -> None:
        """Set the covered pixels [height, width] of a frame."""
        self._bits[index] = np.packbits(covered.reshape(-1))
        self.missing[index] = 1 - covered.mean()
        holes = cv2.morphologyEx((~covered).astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
        self.holes[index] = holes.mean()

    def next_anchor(self) -> int | None:
        """Frame with the largest untracked regions, the best next anchor; `None` if every frame is covered well enough."""
        index = int(np.argmax(self.holes))
        return index if self.holes[index] > ENOUGH else None


def surface_of(sink: SceneSink, index: int) -> FrameSurface:
    """Surface of a written frame."""
    points = np.asarray(sink.read("reconstruction_points", index), np.float32)
    confidence = sink.read("reconstruction_confidence", index)
    return FrameSurface(points, confidence, sink.read("world_from_camera", index), sink.read("intrinsics", index))
