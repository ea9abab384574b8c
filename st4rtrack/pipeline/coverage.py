"""What of every frame belongs to a track already: one bit per pixel, in a file, so that memory does not grow with the video."""

import tempfile
from pathlib import Path

import cv2
import numpy as np

from st4rtrack.geometry.following import Shown
from st4rtrack.geometry.ownership import tracked_view
from st4rtrack.io.scene import SceneSink

ENOUGH = 0.01
"""Share of a frame below which what is not tracked yet is no reason for another anchor."""


class Coverage:
    """Which pixels of which frames belong to a tracked point.

    Args:
        sink: a scene all frames of which are written.

    Attributes:
        missing: [time] share of each frame's pixels that belong to no track.
        holes: [time] the share that lies in holes at least three pixels wide; the rest are rims and specks.
    """

    def __init__(self, sink: SceneSink) -> None:
        header = sink.header
        self._sink, self._shape = sink, (header.height, header.width)
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:  # the mapping outlives the name
            size = (header.num_frames, -(-header.height * header.width // 8))
            self._bits = np.memmap(Path(folder) / "coverage", np.uint8, mode="w+", shape=size)
        self.missing, self.holes = np.ones(header.num_frames), np.ones(header.num_frames)

    def mask(self, index: int) -> np.ndarray:
        """[height, width] bool: the pixels of a frame that belong to a track, or show nothing."""
        count = self._shape[0] * self._shape[1]
        return np.unpackbits(self._bits[index], count=count).astype(bool).reshape(self._shape)

    def add(self, index: int, points_world: np.ndarray, usable: np.ndarray) -> float:
        """Tracked points [height, width, 3] at a frame's time, of which those `usable` [height, width] own what they are seen at.

        Returns the share of the frame that was not covered before.
        """
        covered, shown = self.mask(index), shown_by(self._sink, index)
        depth = shown.depth
        covered |= ~np.isfinite(depth)
        points = points_world[usable]
        view = tracked_view(points, np.ones(len(points), bool), depth, shown.world_from_camera, shown.intrinsics)
        before = self.missing[index]
        self.set(index, covered | view.covered(depth, ~covered))
        return float(before - self.missing[index])

    def set(self, index: int, covered: np.ndarray) -> None:
        """Says which pixels [height, width] of a frame belong to a track."""
        self._bits[index] = np.packbits(covered.reshape(-1))
        self.missing[index] = 1 - covered.mean()
        holes = cv2.morphologyEx((~covered).astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
        self.holes[index] = holes.mean()

    def next_anchor(self) -> int | None:
        """The frame that shows most of what is not tracked yet, rims and specks aside; `None` where every frame is covered well enough."""
        index = int(np.argmax(self.holes))
        return index if self.holes[index] > ENOUGH else None


def shown_by(sink: SceneSink, index: int) -> Shown:
    """What a frame that is written shows."""
    points = np.asarray(sink.read("reconstruction_points", index), np.float32)
    confidence = sink.read("reconstruction_confidence", index)
    return Shown(points, confidence, sink.read("world_from_camera", index), sink.read("intrinsics", index))
