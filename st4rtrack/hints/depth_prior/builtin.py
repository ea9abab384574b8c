"""The monocular depth head of a network as depth prior."""

import cv2
import numpy as np
import torch

from st4rtrack.hints.depth_prior import PriorDepth
from st4rtrack.hints.frame_encoder import FrameEncoder
from st4rtrack.model.monocular import MonocularNetwork
from st4rtrack.timing import timed


class BuiltinPrior:
    """Depth, expected log-depth error and focal length of single frames from a monocular head.

    Args:
        network: from `load_monocular`, or part of the network of the run.

    Attributes:
        encoder: encodes the frames.
    """

    def __init__(self, network: MonocularNetwork) -> None:
        self.name = f"{network.name} ({network.weights_hash[:12]})"
        self.encoder = FrameEncoder(network)

    @timed("prior", settles=True)
    def __call__(self, rgb: np.ndarray, index: int, focal_px: float | None = None) -> PriorDepth:
        """Predict at the native size of the network; the result has the size of the frame."""
        with torch.inference_mode():
            found = self.encoder.network.depth(self.encoder(rgb))
        size = (rgb.shape[1], rgb.shape[0])
        maps = [value[0].cpu().numpy() for value in (found.log_depth, found.log_error)]
        depth, log_error = (np.exp(cv2.resize(each, size, interpolation=cv2.INTER_LINEAR)) for each in maps)
        return PriorDepth("depth", depth, log_error, float(found.log_focal.exp()) * max(size))
