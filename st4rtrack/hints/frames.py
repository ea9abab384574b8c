"""Grey frames of a video in a temporary file, for random access in constant memory."""

import tempfile

import cv2
import numpy as np

from st4rtrack.types import Video


class GreyFrames:
    """Frames [height, width] uint8 by index."""

    def __init__(self, video: Video) -> None:
        shape = (len(video), video.height, video.width)
        with tempfile.TemporaryFile(prefix="st4rtrack-") as file:  # the mapping outlives the file
            self._frames = np.memmap(file, np.uint8, "w+", shape=shape)
        for index, rgb in enumerate(video.frames()):
            self._frames[index] = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)

    def __call__(self, index: int) -> np.ndarray:
        return np.asarray(self._frames[index])
