"""Further anchors: extend the tracks until they cover every pixel of every frame, in one world.

The first anchor tracks its own pixels. The frame with the most untracked content becomes the next anchor, which is tracked
forwards and backwards while its new content is visible, and so on until all frames are covered. So the cost grows with the new
content.

Each pair of a further anchor is aligned to the world by a similarity between the pair and the scene on the same pixels of the
same frame: all common content is used, static or dynamic, and scale errors do not accumulate.
"""

import logging
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from st4rtrack.geometry.align import Sim3, robust_similarity
from st4rtrack.geometry.sampling import spread_out
from st4rtrack.geometry.track_assignment import tracked_view
from st4rtrack.geometry.vectors import all_finite
from st4rtrack.io.scene import SceneSink
from st4rtrack.pipeline.anchor_pairs import Pairs, surface_of
from st4rtrack.pipeline.visibility import visibility_probability
from st4rtrack.scene import FrameSurface
from st4rtrack.types import Pointmap, TwoPointmaps

logger = logging.getLogger(__name__)

LEAST_GAIN, PATIENCE = 0.01, 4
"""Newly tracked share of a frame below which, in `PATIENCE` frames in a row, an anchor is not tracked further: occluded content
may become visible again."""

MOST_PAIRS = 4.0
"""Maximum number of pairs of further anchors, in lengths of the video."""


ENOUGH = 0.01
"""Untracked share of a frame up to which no further anchor is added for it."""

MAX_POINTS = 1000
MAX_DISAGREEMENT, MIN_AGREEING = 0.1, 0.3
"""Maximum disagreement relative to the median depth, and minimum share of points within it, for a pair to be aligned."""


def add_anchors(pairs: Pairs, sink: SceneSink) -> dict[str, Any]:
    """Add anchors to a scene until every pixel of every frame is tracked, or the anchor budget is reached.

    Args:
        pairs: predicts pairs of any frame with its neighbours.
        sink: a scene with all frames written; existing anchors are kept.
    Returns:
        Plain data for the scene's results: `anchors`, one record each, `coverage` (of the worst frame and on average), and
        `pairs_per_frame` of further anchors.
    """
    coverage = _coverage_so_far(sink)
    limit = int(MOST_PAIRS * sink.header.num_frames)
    spent = sum(record["pairs"] for record in sink.anchors.records)
    while spent < limit and (anchor := coverage.next_anchor()) is not None:
        record = _follow(pairs, sink, coverage, anchor)
        sink.anchors.close(anchor, record)
        spent += record["pairs"]
        logger.info(
            "anchor at frame %d for %.1f %% new content, tracked from frame %d to %d",
            anchor,
            100 * record["new"],
            record["first"],
            record["last"],
        )
    worst = float(coverage.missing.max())
    if coverage.next_anchor() is not None:
        logger.warning("anchor budget reached: %.1f %% of the pixels of the worst frame lie on no multi-frame track", 100 * worst)
    return {
        "anchors": sink.anchors.records,
        "coverage": {"worst": 1 - worst, "mean": 1 - float(coverage.missing.mean())},
        "pairs_per_frame": spent / sink.header.num_frames,
    }


def _coverage_so_far(sink: SceneSink) -> "Coverage":
    """Coverage by the first anchor and by the complete further anchors."""
    coverage = Coverage(sink)
    for index in range(sink.header.num_frames):
        coverage.add(index, sink.read("tracking_points", index), sink.read("visible", index))
    everything = np.ones((sink.header.height, sink.header.width), bool)
    coverage.set(sink.header.anchor_index, everything)
    for index in range(sink.header.num_frames):
        if not sink.read("solved", index):  # an unsolved frame has no world coordinates
            coverage.set(index, everything)
    for record in sink.anchors.records:
        read = partial(sink.anchors.read, record["frame"])
        for index in range(record["first"], record["last"] + 1):
            coverage.add(index, read("points", index), read("visible", index) & read("valid", index))
        coverage.set(record["frame"], everything)
    return coverage


def _follow(pairs: Pairs, sink: SceneSink, coverage: "Coverage", anchor: int) -> dict[str, Any]:
    """Track the new content of a frame in both directions, and return its record."""
    new = ~coverage.mask(anchor)
    frames: list[int] = []
    residuals: list[float] = []  # relative to the depth
    start = None
    for step in (1, -1):
        similarity, unseen = start, 0
        for index, maps in pairs.along(anchor, step):
            surface = surface_of(sink, index)
            if (joined := world_from_pair(maps.reconstruction, surface)) is not None:
                similarity, residual = joined
                residuals.append(residual)
            elif similarity is None:
                similarity = world_from_camera(maps.reconstruction, surface)
            start = start or similarity
            gain = _write(sink, coverage, anchor, index, maps, similarity, surface, new)
            frames.append(index)
            unseen = 0 if gain >= LEAST_GAIN else unseen + 1
            if unseen == PATIENCE:
                break
    coverage.set(anchor, np.ones_like(new))
    return {
        "first": min(frames),
        "last": max(frames),
        "pairs": len(frames),
        "new": float(new.mean()),
        "drift_percent": 100 * float(np.median(residuals)) if residuals else None,
    }


def _write(
    sink: SceneSink,
    coverage: "Coverage",
    anchor: int,
    index: int,
    maps: TwoPointmaps,
    similarity: Sim3,
    surface: FrameSurface,
    new: np.ndarray,
) -> float:
    """Write one frame of an anchor; return the newly tracked share of the frame."""
    # rounded as stored: a resumed run computes the same coverage
    points = similarity(np.asarray(maps.tracking.points_world, np.float64)).astype(sink.header.points_dtype).astype(np.float32)
    probability = np.ones(new.shape, np.float32)
    if index != anchor:
        in_world = TwoPointmaps(Pointmap(points, maps.tracking.confidence), Pointmap(surface.points, surface.confidence))
        images = (sink.read("rgb", anchor), sink.read("rgb", index))
        probability = visibility_probability(in_world, surface.world_from_camera, surface.intrinsics, *images)
    seen = new & bool(sink.read("solved", index))
    probability = np.where(seen, probability, 0).astype(np.float16)  # rounded as stored, before the comparison
    visible = probability > 0.5
    kept = cv2.dilate(new.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0  # with the neighbours that bilinear sampling needs
    confidence = maps.tracking.confidence
    sure = np.ones(new.shape, np.float32) if confidence is None else confidence
    sink.anchors.write(
        anchor,
        index,
        points=np.where(kept[..., None], points, np.float32(np.nan)),
        confidence=np.where(kept, sure, np.float32(0)),
        visible=visible,
        valid=new,
        visibility=probability,
    )
    return coverage.add(index, points, visible)


class Coverage:
    """Pixels of each frame that belong to a tracked point: one bit per pixel, in a file, so that memory does not grow with the video.

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


def world_from_pair(reconstruction: Pointmap, surface: FrameSurface) -> tuple[Sim3, float] | None:
    """Similarity from the frame of a pair to the world, and its relative disagreement; `None` if too few pixels agree."""
    depth = surface.depth
    index = np.flatnonzero(all_finite(reconstruction.points_world) & np.isfinite(depth))
    if len(index) < 3:
        return None
    index = index[spread_out(len(index), MAX_POINTS)]
    source = np.asarray(reconstruction.points_world, np.float64).reshape(-1, 3)[index]
    target, distance = surface.points.reshape(-1, 3)[index].astype(np.float64), float(np.median(depth.reshape(-1)[index]))
    found = robust_similarity(source, target)
    if found is None or (found[1] < MAX_DISAGREEMENT * distance).mean() < MIN_AGREEING:
        return None
    return found[0], float(np.median(found[1])) / distance


def world_from_camera(reconstruction: Pointmap, surface: FrameSurface) -> Sim3:
    """Fallback similarity of an anchor pair with itself: its camera pose, and the ratio of the median depths."""
    depth, known = surface.depth, np.asarray(reconstruction.points_world)[..., 2]
    both = np.isfinite(depth) & (known > 0)
    scale = float(np.median(depth[both]) / np.median(known[both])) if both.any() else 1.0
    return Sim3(scale, surface.world_from_camera[:3, :3], surface.world_from_camera[:3, 3])
