"""Cameras of a video by the global solver, as something that is known of it."""

import logging
from dataclasses import replace

from st4rtrack.classical.given import Given
from st4rtrack.classical.solver.cameras import solve_video
from st4rtrack.types import Video

logger = logging.getLogger(__name__)


def solved_cameras(content: Video, scale: float, anchor_index: int, given: Given) -> Given | None:
    """What is known of a video, with solved cameras; `None` where they cannot be trusted.

    Args:
        content: the video at source size, without bars.
        scale: network pixels per pixel of it.
        given: what is known so far, in network pixels.
    """
    focal_px = None if given.focal_px is None else given.focal_px / scale
    solved = solve_video(content, anchor_index=anchor_index, focal_px=focal_px, static=given.static)
    if not solved.trusted:
        logger.info("the global solver is not used: %s", solved.distrust)
        return None
    source = "video" if given.focal_px is None else given.focal_source
    return replace(given, focal_px=solved.focal_px * scale, focal_source=source, world_from_camera=solved.world_from_camera)
