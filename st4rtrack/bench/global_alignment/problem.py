"""What global alignment is given and what it seeks.

Symbols: an edge (i, j) is a pair of images; its points X_i and X_j are both in camera i's frame, in a scale of the pair's own.
Pixels here are relative to the principal point, which is the middle of the image.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from st4rtrack.geometry.camera import intrinsics_from_focal, pixel_grid, scale_intrinsics


@dataclass(frozen=True)
class AlignmentOptions:
    """How to align.

    Attributes:
        iterations: of Adam; 0 leaves the start as it is.
        schedule: how the learning rate falls to its end.
        learning_rate, final_learning_rate: of Adam.
        shared_focal: one focal length for all images.
        smoothness: weight of the motion between consecutive cameras (MonST3R: 0.01).
        flow_weight: of the optical flow term, where there is flow (MonST3R: 0.01).
        max_pixels: at most so many pixels of an image are optimised, on a regular grid; the others follow them (`dense.py`).
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
    """The network's answers for all edges.

    Attributes:
        edges: [edges, 2] image numbers (i, j).
        points: [edges, 2, height, width, 3] X_i and X_j in camera i's frame, float16 or float32.
        confidence: [edges, 2, height, width] at least 1.
    """

    edges: np.ndarray
    points: np.ndarray
    confidence: np.ndarray

    @property
    def num_images(self) -> int:
        """Images 0..n-1, the largest number being in some edge."""
        return int(self.edges.max()) + 1

    def in_order(self) -> "PairwisePointmaps":
        """The same edges in increasing order, so that sums run in one order however the edges came."""
        order = np.lexsort((self.edges[:, 1], self.edges[:, 0]))
        if (order == np.arange(len(order))).all():
            return self
        return PairwisePointmaps(self.edges[order], self.points[order], self.confidence[order])

    def sampled(self, max_pixels: int | None = None) -> "Problem":
        """The same at every k-th pixel of every k-th row, k being the least that leaves at most `max_pixels` of an image; not copied."""
        height, width = self.points.shape[2:4]
        stride = 1
        while max_pixels is not None and -(-height // stride) * -(-width // stride) > max_pixels:
            stride += 1
        first = (stride - 1) // 2
        rows, columns = slice(min(first, height - 1), None, stride), slice(min(first, width - 1), None, stride)
        centred_px = pixel_grid(height, width)[rows, columns] - (width / 2, height / 2)
        return Problem(
            edges=self.edges,
            points=self.points[:, :, rows, columns],
            confidence=self.confidence[:, :, rows, columns],
            centred_px=centred_px,
            stride=stride,
            image_size=(height, width),
        )


@dataclass(frozen=True)
class Problem:
    """Pairwise pointmaps at the pixels that are optimised.

    Attributes:
        edges, points, confidence: as of `PairwisePointmaps`, maps of the sampled size.
        centred_px: [rows, columns, 2] where the samples are, relative to the principal point.
        stride: pixels between samples.
        image_size: (height, width) of the whole maps.
    """

    edges: np.ndarray
    points: np.ndarray
    confidence: np.ndarray
    centred_px: np.ndarray
    stride: int
    image_size: tuple[int, int]

    @property
    def num_images(self) -> int:
        """Images 0..n-1."""
        return int(self.edges.max()) + 1

    def map_intrinsics(self, focal_px: float) -> np.ndarray:
        """Intrinsics [3, 3] of the sampled map, seen as an image of its own, for a focal length in pixels of the whole image."""
        first_px = self.centred_px[0, 0] + (self.image_size[1] / 2, self.image_size[0] / 2)
        scale, offset = 1 / self.stride, 0.5 - first_px / self.stride
        whole = intrinsics_from_focal(focal_px, *self.image_size)
        return scale_intrinsics(whole, (scale, scale), (float(offset[0]), float(offset[1])))


def log_confidence(confidence: np.ndarray) -> np.ndarray:
    """log C, the weight of points of confidence C, float32.

    C is taken as at least 1 + 2^-10, the least that half precision tells from 1, so that no point is without weight.
    """
    return np.log(np.maximum(np.asarray(confidence, np.float32), 1 + 2**-10))


@dataclass
class Solution:
    """What is sought; also the start.

    Attributes:
        world_from_camera: [images, 4, 4].
        focal_px: [images] pixels of the whole image.
        depth: [images, rows, columns] z-depth at the sampled pixels.
        edge_scale, edge_rotation, edge_translation: [edges], [edges, 3, 3], [edges, 3], of `x_world = scale * (R x_edge + t)`.
    """

    world_from_camera: np.ndarray
    focal_px: np.ndarray
    depth: np.ndarray
    edge_scale: np.ndarray
    edge_rotation: np.ndarray
    edge_translation: np.ndarray
