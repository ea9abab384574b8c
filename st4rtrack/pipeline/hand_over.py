"""Anchor hand-over: registration through intermediate anchors of frames without overlap with the first anchor.

A network that processes a single pair cannot register a frame without overlap with the anchor. So where less than `LOST_BELOW`
of the anchor's points are visible, the last registered frame becomes an intermediate anchor. Each pair of it with a following
frame is aligned to the world by a similarity: most of its points are static, and their world positions are known. Before its
visibility drops in turn, the next intermediate anchor takes over.
"""

import logging
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from st4rtrack.geometry.align import Sim3
from st4rtrack.io.scene import SceneSink
from st4rtrack.io.scene.table import FRAME_QUALITY
from st4rtrack.pipeline.alignment import same_content, world_from_camera, world_from_pair
from st4rtrack.pipeline.anchor_pairs import Pairs
from st4rtrack.pipeline.cameras import solve_camera
from st4rtrack.pipeline.coverage import surface_of
from st4rtrack.pipeline.tracks import visibility_probability
from st4rtrack.types import Pointmap, TwoPointmaps

logger = logging.getLogger(__name__)

LOST_BELOW, RECOVERED_ABOVE = 0.2, 0.5
"""Visible share of the first anchor's points: below the first value a frame is lost, above the second it is recovered."""

HAND_OVER_BELOW = 0.4
"""Visible share of an anchor's points below which the next one takes over; early, since the alignment needs a large overlap."""


def register_lost_frames(pairs: Pairs, sink: SceneSink) -> dict[str, Any]:
    """Register the frames without overlap with the first anchor through intermediate anchors.

    Their predictions from the first anchor are replaced, and none of its points counts as visible there. After an interruption it
    starts again: it reads only what it does not change.

    Args:
        pairs: predicts pairs of any frame with its neighbours.
        sink: a scene with all frames written.
    Returns:
        Plain data: number of lost frames, and indices of the intermediate anchors.
    """
    anchors: list[int] = []
    lost = _lost_frames(sink)
    for direction in (range(sink.header.anchor_index, sink.header.num_frames), range(sink.header.anchor_index, -1, -1)):
        known = ~lost
        for last, index in pairwise(direction):
            if not known[index]:
                anchors.append(last)
                for registered in _hand_over(pairs, sink, last, direction.step, lost):
                    known[registered] = True
    if anchors:
        logger.info("%d frames do not overlap the first anchor: registered by %d intermediate anchors", lost.sum(), len(anchors))
    return {"lost_frames": int(lost.sum()), "relayed_by": anchors}


def _lost_frames(sink: SceneSink) -> np.ndarray:
    """[time] bool; a lost frame is recovered only at the higher threshold (hysteresis)."""
    lost = np.zeros(sink.header.num_frames, bool)
    for direction in (range(sink.header.anchor_index, len(lost)), range(sink.header.anchor_index, -1, -1)):
        for last, index in pairwise(direction):
            lost[index] = sink.read("visible", index).mean() < (RECOVERED_ABOVE if lost[last] else LOST_BELOW)
    return lost


def _hand_over(pairs: Pairs, sink: SceneSink, anchor: int, step: int, lost: np.ndarray) -> Iterator[int]:
    """Register the lost frames after an anchor while enough of it is visible, at least the first one; yield their indices."""
    ahead = _following(pairs, anchor, step)
    own = next(ahead)[1]
    surface = surface_of(sink, anchor)
    start = world_from_pair(own.reconstruction, surface)
    similarity = world_from_camera(own.reconstruction, surface) if start is None else start[0]
    content = similarity(np.asarray(own.tracking.points_world, np.float64))
    for index, maps in ahead:
        if not lost[index]:
            return
        similarity = same_content(maps.tracking, content) or similarity
        if not _register(sink, anchor, index, maps, similarity, min_visible=HAND_OVER_BELOW if index != anchor + step else 0.0):
            return
        yield index


def _following(pairs: Pairs, anchor: int, step: int) -> Iterator[tuple[int, TwoPointmaps]]:
    """Pairs of the anchor with itself, then with the frames on one side of it."""
    if step < 0:
        yield next(pairs.along(anchor, 1))
    yield from pairs.along(anchor, step)


def _register(sink: SceneSink, anchor: int, index: int, maps: TwoPointmaps, similarity: Sim3, *, min_visible: float) -> bool:
    """Rewrite a lost frame if at least the share `min_visible` of the anchor is visible in it."""
    intrinsics, rgb = sink.read("intrinsics", index), sink.read("rgb", index)
    surface = similarity(np.asarray(maps.reconstruction.points_world, np.float64)).astype(np.float32)
    found = solve_camera(Pointmap(surface, maps.reconstruction.confidence), intrinsics)
    neighbour = index - int(np.sign(index - anchor))
    camera = sink.read("world_from_camera", neighbour) if found is None else found
    points = similarity(np.asarray(maps.tracking.points_world, np.float64))
    in_world = TwoPointmaps(Pointmap(points, maps.tracking.confidence), Pointmap(surface, maps.reconstruction.confidence))
    seen = visibility_probability(in_world, camera, intrinsics, sink.read("rgb", anchor), rgb) > 0.5
    if seen.mean() < min_visible:
        return False
    replaced = {
        "visible": np.zeros(rgb.shape[:2], bool),
        "visibility": np.zeros(rgb.shape[:2], np.float16),
        "reconstruction_points": surface,
        "reconstruction_confidence": maps.reconstruction.confidence,
        "world_from_camera": camera,
        "solved": found is not None,
    }
    replaced |= {name: np.float32(np.nan) for name in FRAME_QUALITY}  # the metrics belong to the replaced pose
    sink.update_frame(index, **replaced)
    return True
