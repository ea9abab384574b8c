"""Frames that the first anchor no longer sees: their place in the world is handed on from anchor to anchor.

A network that knows only the two images of a pair cannot place a frame that has nothing in common with the anchor. So where less than
`LOST` of the anchor's points are seen, the last frame whose place is known becomes an anchor: what it shows is in the world, and each
pair of it with a frame that follows is brought into the world by the similarity on which its points, most of them static, agree
with where they were. Before it loses sight in turn, the next one takes over.
"""

import logging
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np

from st4rtrack.geometry.align import Sim3
from st4rtrack.io.scene import SceneSink
from st4rtrack.io.scene.table import FRAME_QUALITY
from st4rtrack.pipeline.anchor_pairs import Pairs
from st4rtrack.pipeline.cameras import solve_camera
from st4rtrack.pipeline.coverage import shown_by
from st4rtrack.pipeline.joins import same_content, world_from_camera, world_from_pair
from st4rtrack.pipeline.tracks import visibility_probability
from st4rtrack.types import Pointmap, TwoPointmaps

logger = logging.getLogger(__name__)

LOST, FOUND = 0.2, 0.5
"""Share of the first anchor's points that are seen: below the first a frame is lost, from the second on it is found again."""

HAND_OVER = 0.4
"""Share of an anchor's points below which the next one takes over; early, since the join is as good as what both see."""


def relay(pairs: Pairs, sink: SceneSink) -> dict[str, Any]:
    """Gives the frames that the first anchor has lost a reconstruction and a camera in the world, by way of anchors between.

    What was predicted of them against the first anchor is replaced, and no point of it counts as visible there. Killed, it begins again: it
    reads only what it does not change.

    Args:
        pairs: of any frame with those around it.
        sink: a scene all frames of which are written.
    Returns:
        Plain data: how many frames were lost, and the frames that handed on.
    """
    anchors: list[int] = []
    lost = _lost_frames(sink)
    for way in (range(sink.header.anchor_index, sink.header.num_frames), range(sink.header.anchor_index, -1, -1)):
        known = ~lost
        for last, index in pairwise(way):
            if not known[index]:
                anchors.append(last)
                for placed in _hand_on(pairs, sink, last, way.step, lost):
                    known[placed] = True
    if anchors:
        logger.info("%d frames show nothing of the first anchor: placed by %d anchors between", lost.sum(), len(anchors))
    return {"lost_frames": int(lost.sum()), "relayed_by": anchors}


def _lost_frames(sink: SceneSink) -> np.ndarray:
    """[time] bool; once lost, a frame must be seen well to be found again."""
    lost = np.zeros(sink.header.num_frames, bool)
    for way in (range(sink.header.anchor_index, len(lost)), range(sink.header.anchor_index, -1, -1)):
        for last, index in pairwise(way):
            lost[index] = sink.read("visible", index).mean() < (FOUND if lost[last] else LOST)
    return lost


def _hand_on(pairs: Pairs, sink: SceneSink, anchor: int, step: int, lost: np.ndarray) -> Iterator[int]:
    """Places the lost frames that follow an anchor as long as enough of it is seen, the first in any case; gives their numbers."""
    ahead = _following(pairs, anchor, step)
    own = next(ahead)[1]
    shown = shown_by(sink, anchor)
    start = world_from_pair(own.reconstruction, shown)
    similarity = world_from_camera(own.reconstruction, shown) if start is None else start[0]
    content = similarity(np.asarray(own.tracking.points_world, np.float64))
    for index, maps in ahead:
        if not lost[index]:
            return
        similarity = same_content(maps.tracking, content) or similarity
        if not _place(sink, anchor, index, maps, similarity, least_seen=HAND_OVER if index != anchor + step else 0.0):
            return
        yield index


def _following(pairs: Pairs, anchor: int, step: int) -> Iterator[tuple[int, TwoPointmaps]]:
    """The anchor itself, and then the frames on one side of it."""
    if step < 0:
        yield next(pairs.along(anchor, 1))
    yield from pairs.along(anchor, step)


def _place(sink: SceneSink, anchor: int, index: int, maps: TwoPointmaps, similarity: Sim3, *, least_seen: float) -> bool:
    """Writes a lost frame anew where at least so much of the anchor is seen in it."""
    intrinsics, rgb = sink.read("intrinsics", index), sink.read("rgb", index)
    surface = similarity(np.asarray(maps.reconstruction.points_world, np.float64)).astype(np.float32)
    found = solve_camera(Pointmap(surface, maps.reconstruction.confidence), intrinsics)
    neighbour = index - int(np.sign(index - anchor))
    camera = sink.read("world_from_camera", neighbour) if found is None else found
    points = similarity(np.asarray(maps.tracking.points_world, np.float64))
    in_world = TwoPointmaps(Pointmap(points, maps.tracking.confidence), Pointmap(surface, maps.reconstruction.confidence))
    seen = visibility_probability(in_world, camera, intrinsics, sink.read("rgb", anchor), rgb) > 0.5
    if seen.mean() < least_seen:
        return False
    replaced = {
        "visible": np.zeros(rgb.shape[:2], bool),
        "visibility": np.zeros(rgb.shape[:2], np.float16),
        "reconstruction_points": surface,
        "reconstruction_confidence": maps.reconstruction.confidence,
        "world_from_camera": camera,
        "solved": found is not None,
    }
    replaced |= {name: np.float32(np.nan) for name in FRAME_QUALITY}  # of the pose that is replaced
    sink.update_frame(index, **replaced)
    return True
