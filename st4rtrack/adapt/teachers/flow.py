"""Built-in track teacher: OpenCV optical flow, without weights (`classical/two_chains.py`)."""

import hashlib
import tempfile

import cv2
import numpy as np

from st4rtrack.adapt.priors import TeacherTracks
from st4rtrack.adapt.teachers.teacher import require_frames
from st4rtrack.classical.two_chains import flows_from_first, follow_forward_backward

VERSION = 1


class FlowTeacher:
    """Track teacher that tracks any anchor points by optical flow to both ends of the video.

    The flow of the last video is cached in a temporary file, so that tracking additional points costs little.
    """

    follows_any = True

    def __init__(self) -> None:
        self._known = ""
        self._flows: list[np.ndarray] = []

    @property
    def name(self) -> str:
        return f"optical flow {VERSION} (OpenCV {cv2.__version__})"

    def tracks(self, rgb: np.ndarray, query_px: np.ndarray, anchor_index: int) -> TeacherTracks:
        """Track points; visible as long as they pass the forward-backward check."""
        require_frames(rgb)
        ways = [rgb[anchor_index:], rgb[anchor_index::-1]]
        found = [follow_forward_backward(way, flows, query_px) for way, flows in zip(ways, self._flows_of(ways), strict=True)]
        after, before = found
        pixels = np.concatenate([before.pixels_px[:0:-1], after.pixels_px]).astype(np.float32)
        visible = np.concatenate([before.visible[:0:-1], after.visible])
        return TeacherTracks(np.asarray(query_px, np.float64), pixels, visible, self.name)

    def _flows_of(self, ways: list[np.ndarray]) -> list[np.ndarray]:
        """Flows [frames - 1, 4, height, width, 2] per direction from the anchor; float16 resolves 1/16 pixel at 100 pixels."""
        key = hashlib.sha256(str([way.shape for way in ways]).encode())
        for frame in (frame for way in ways for frame in way):
            key.update(frame.tobytes())
        if key.hexdigest() != self._known:
            self._flows = [_kept(way) for way in ways]
            self._known = key.hexdigest()
        return self._flows


def _kept(way: np.ndarray) -> np.ndarray:
    shape = (len(way) - 1, 4, *way.shape[1:3], 2)
    if not shape[0]:
        return np.zeros(shape, np.float16)
    with tempfile.TemporaryFile() as file:  # the memory map keeps it open and frees it when released
        flows = np.memmap(file, np.float16, "w+", shape=shape)
    for t, flow in enumerate(flows_from_first(way)):
        flows[t] = flow
    return flows
