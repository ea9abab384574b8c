"""Inputs and unknowns of global alignment.

Symbols: an edge (i, j) is a pair of images; its points X_i and X_j are both in camera i's frame, in an arbitrary scale per pair.
Pixel coordinates here are relative to the principal point, which is the image centre.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from st4rtrack.geometry.camera import intrinsics_from_focal, pixel_grid, scale_intrinsics


@dataclass(frozen=True)
class AlignmentOptions:
    """Options of global alignment.

    Attributes:
        iterations: Adam iterations; 0 keeps the initial solution.
        schedule: decay of the learning rate.
        learning_rate, final_learning_rate: learning rates of Adam, first and last.
        shared_focal: use one focal length for all images.
        smoothness: weight of the relative motion of consecutive cameras (MonST3R: 0.01).
        flow_weight: weight of the optical flow term, if there is flow (MonST3R: 0.01).
        max_pixels: maximum number of optimised pixels per image, on a regular grid; `initialise.py` extends depth to the others.
    """

    iterations: int = 300
    schedule: Literal["linear", "cosine"] = "linear"
    learning_rate: float = 0.01
    final_learning_rate: float = 1e-6
    shared_focal: bool = False
    smoothness: float = 0.0
    flow_weight: float = 0.0
    max_pixels: int = 4000


@dataclass(frozen=True)
class PairwisePointmaps:
    """Pointmaps and confidences that the network predicts for all edges.

    Attributes:
        edges: [edges, 2] image indices (i, j).
        points: [edges, 2, height, width, 3] X_i and X_j in camera i's frame, float16 or float32.
        confidence: [edges, 2, height, width], at least 1.
    """

    edges: np.ndarray
    points: np.ndarray
    confidence: np.ndarray

    @property
    def num_images(self) -> int:
        """Number of images: largest image index of the edges, plus one."""
        return int(self.edges.max()) + 1

    def in_order(self) -> "PairwisePointmaps":
        """Sort the edges, so that the order of summation does not depend on the input order."""
        order = np.lexsort((self.edges[:, 1], self.edges[:, 0]))
        return PairwisePointmaps(self.edges[order], self.points[order], self.confidence[order])

    def sampled(self, max_pixels: int | None = None) -> "Problem":
        """Subsample every k-th pixel of every k-th row (a view); smallest k that leaves at most `max_pixels` per image."""
        height, width = self.points.shape[2:4]
        stride = 1
        while max_pixels is not None and -(-height // stride) * -(-width // stride) > max_pixels:
            stride += 1
        first = (stride - 1) // 2
        rows, columns = slice(min(first, height - 1), None, stride), slice(min(first, width - 1), None, stride)
        centred_px = pixel_grid(height, width)[rows, columns] - (width / 2, height / 2)
        points, confidence = self.points[:, :, rows, columns], self.confidence[:, :, rows, columns]
        return Problem(self.edges, points, confidence, centred_px, stride, (height, width))


@dataclass(frozen=True)
class Problem(PairwisePointmaps):
    """Pairwise pointmaps at the optimised pixels.

    Attributes:
        centred_px: [rows, columns, 2] positions of the samples relative to the principal point.
        stride: pixels between samples.
        image_size: (height, width) of the full-size maps.
    """

    centred_px: np.ndarray
    stride: int
    image_size: tuple[int, int]

    def map_intrinsics(self, focal_px: float) -> np.ndarray:
        """Intrinsics [3, 3] of the sampled map as an image, for a focal length in pixels of the whole image."""
        first_px = self.centred_px[0, 0] + (self.image_size[1] / 2, self.image_size[0] / 2)
        scale, offset = 1 / self.stride, 0.5 - first_px / self.stride
        whole = intrinsics_from_focal(focal_px, *self.image_size)
        return scale_intrinsics(whole, (scale, scale), (float(offset[0]), float(offset[1])))


def log_confidence(confidence: np.ndarray) -> np.ndarray:
    """Log confidence, float32: the weight of points of confidence C is log C.

    C is clamped to at least 1 + 2^-10, the smallest half-precision number above 1, so that every point has a positive weight.
    """
    return np.log(np.maximum(np.asarray(confidence, np.float32), 1 + 2**-10))


@dataclass
class Solution:
    """Values of the unknowns, initial or optimised.

    Attributes:
        world_from_camera: [images, 4, 4].
        focal_px: [images] pixels of the whole image.
        depth: [images, rows, columns] z-depth at the sampled pixels.
        edge_scale, edge_rotation, edge_translation: [edges], [edges, 3, 3], [edges, 3] in `x_world = scale * (R x_edge + t)`.
    """

    world_from_camera: np.ndarray
    focal_px: np.ndarray
    depth: np.ndarray
    edge_scale: np.ndarray
    edge_rotation: np.ndarray
    edge_translation: np.ndarray
