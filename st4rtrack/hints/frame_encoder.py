"""Encoding of frames by the monocular network, shared by depth prior and matching head."""

import cv2
import numpy as np
import torch
from torch import Tensor

from st4rtrack.model.monocular import MonocularNetwork
from st4rtrack.preprocess import normalize_images
from st4rtrack.timing import timed


class FrameEncoder:
    """Backbone maps of frames at the native size of a network. Those of the last frame are cached.

    Attributes:
        network: from `load_monocular`, or part of the network of the run.
    """

    def __init__(self, network: MonocularNetwork) -> None:
        self.network = network
        self._last: tuple[np.ndarray, tuple[Tensor, ...]] | None = None

    @timed("prior", settles=True)
    def __call__(self, rgb: np.ndarray) -> tuple[Tensor, ...]:
        """Maps of one frame [height, width, 3] uint8 at strides 2 to 32."""
        last = self._last
        if last is None or last[0] is not rgb:
            image = normalize_images(self._resized(rgb)[None]).to(next(self.network.parameters()).device)
            with torch.inference_mode():
                self._last = last = rgb, self.network.encode(image)
        return last[1]  # another thread may have replaced `_last`

    def _resized(self, rgb: np.ndarray) -> np.ndarray:
        """Resize a frame to the long side of training, with sides that are multiples of the network's stride."""
        config = self.network.config
        multiple, scale = config.size_multiple, config.image_size / max(rgb.shape[:2])
        height, width = (max(multiple, round(side * scale / multiple) * multiple) for side in rgb.shape[:2])
        return cv2.resize(rgb, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
