"""Pair graph, and the network's pointmaps for all its edges."""

import logging
import re
from dataclasses import dataclass

import numpy as np
import torch

from st4rtrack.bench.global_alignment.problem import PairwisePointmaps
from st4rtrack.model.encoder import Tokens
from st4rtrack.model.network import St4RTrack
from st4rtrack.pipeline.pointmaps import automatic_batch_size
from st4rtrack.preprocess import normalize_images
from st4rtrack.types import Pointmap, UserError

logger = logging.getLogger(__name__)

LARGEST = 6e4
"""Bound of stored values: the largest half-precision float is 65504."""


@torch.inference_mode()
def predict_pairs(model: St4RTrack, rgb: np.ndarray, edges: np.ndarray) -> PairwisePointmaps:
    """Predict both pointmaps of every edge; each image is encoded once, edges are decoded in batches.

    Results are float16 in host memory: the rounding error of 0.05 % is far below the network's, and 590 edges at 512x288 (64
    frames, five offsets, both directions) take 1.4 GB instead of 2.8 GB. Non-finite points are 0, with minimum confidence.

    Args:
        rgb: [images, height, width, 3] uint8 at a size that the network accepts.
        edges: [edges, 2] image indices (anchor, frame).
    """
    height, width = rgb.shape[1:3]
    images = normalize_images(rgb)
    batch = automatic_batch_size(model.config, model.device, height, width)
    tokens = [model.encode(images[k : k + batch].to(model.device)) for k in range(0, len(images), batch)]
    encoded = Tokens(
        torch.cat([part.features for part in tokens]),
        tokens[0].grid,
        tuple(torch.cat(level) for level in zip(*(part.levels for part in tokens), strict=True)),
    )
    points = np.empty((len(edges), 2, height, width, 3), np.float16)
    confidence = np.empty((len(edges), 2, height, width), np.float16)
    for k in range(0, len(edges), batch):
        i, j = torch.from_numpy(edges[k : k + batch]).unbind(1)
        hints = model.hints(images[i].to(model.device), images[j].to(model.device))
        first, second = (encoded.map(lambda x, which=which: x[which.to(x.device)]) for which in (i, j))
        out = model.decode(first, second, hints)
        for side, maps in enumerate((out.tracking, out.reconstruction)):
            points[k : k + batch, side], confidence[k : k + batch, side] = _half(maps)
        logger.info("pairs: %d of %d", min(k + batch, len(edges)), len(edges))
    return PairwisePointmaps(edges, points, confidence)


def _half(maps: Pointmap) -> tuple[np.ndarray, np.ndarray]:
    points, confidence = maps.points_world, maps.confidence
    assert confidence is not None
    finite = torch.isfinite(points).all(dim=-1) & torch.isfinite(confidence)
    points = torch.where(finite[..., None], points, 0.0).clamp(-LARGEST, LARGEST)
    confidence = torch.where(finite, confidence, 1.0).clamp(1.0, LARGEST)
    return points.half().cpu().numpy(), confidence.half().cpu().numpy()


KNOWN = "complete, swin-K, swinstride-K, logwin-K (these three also with -noncyclic), oneref-R"


@dataclass(frozen=True)
class Graph:
    """Rule that selects frame pairs.

    Attributes:
        kind: complete (all pairs), swin (offsets 1..K), swinstride (every second of the offsets below 2 K: 1, 3, .., 2 K - 1),
            logwin (offsets 1, 2, 4, .., 2^(K-1)), or oneref (frame R with every other).
        value: K or R.
        cyclic: whether offsets wrap around from the last to the first frame; MonST3R does not wrap for videos.
    """

    kind: str
    value: int = 0
    cyclic: bool = True

    def edges(self, frames: int) -> np.ndarray:
        """Directed pairs [edges, 2] of frame indices, both directions of each, sorted.

        Raises:
            UserError: fewer than two frames, or the reference frame does not exist.
        """
        if frames < 2:
            raise UserError(f"global alignment needs at least two frames, got {frames}")
        if self.kind == "oneref" and self.value >= frames:
            raise UserError(f"--graph oneref-{self.value} is out of range; the frames are 0..{frames - 1}")
        offsets = {
            "complete": range(1, frames),
            "swin": range(1, self.value + 1),
            "swinstride": range(1, 2 * self.value, 2),
            "logwin": [2**k for k in range(self.value)],
        }.get(self.kind, ())
        wraps = self.cyclic and self.kind != "complete"
        pairs = {(i, (i + k) % frames) for k in offsets for i in range(frames) if wraps or i + k < frames}
        pairs |= {(self.value, j) for j in range(frames) if self.kind == "oneref"}
        return np.array(sorted({pair for i, j in pairs if i != j for pair in ((i, j), (j, i))}), np.int64)


def parse_graph(text: str) -> Graph:
    """Parse a graph name such as "swinstride-5-noncyclic".

    Raises:
        UserError: the text is not the name of a graph.
    """
    match = re.fullmatch(r"(complete)|(swin|swinstride|logwin)-([1-9]\d?)(-noncyclic)?|(oneref)-(\d{1,6})", text)
    if match is None:
        raise UserError(f"--graph must be one of {KNOWN}, got {text!r}")
    kind = match[1] or match[2] or match[5]
    return Graph(kind, int(match[3] or match[6] or 0), cyclic=match[4] is None)
