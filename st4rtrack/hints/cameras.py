"""Cameras of a video estimated by the global solver, in the form of known geometry."""

import logging
from dataclasses import replace

import numpy as np

from st4rtrack.classical.solver.cameras import solve_video
from st4rtrack.options import KnownGeometry
from st4rtrack.timing import timed
from st4rtrack.types import KnownVideo, UserError, Video

logger = logging.getLogger(__name__)


def with_solved_cameras(known: KnownGeometry, source: Video, anchor_index: int) -> KnownGeometry:
    """Add the cameras of the global solver to the known geometry if requested; its focal length only if none is known.

    Raises:
        UserError: the solution is unreliable.
    """
    if not known.asks_solver:
        return known
    solved = solve_video(source, anchor_index=anchor_index)
    if not solved.trusted:
        raise UserError(
            f"--cameras solver: the solution is unreliable ({solved.distrust}); pass a camera file, or leave out --cameras"
        )
    intrinsics = np.array([[solved.focal_px, 0, source.width / 2], [0, solved.focal_px, source.height / 2], [0, 0, 1]])
    return replace(
        known,
        cameras=solved.world_from_camera,
        intrinsics=intrinsics if known.intrinsics is None else known.intrinsics,
    )


@timed("solver")
def solved_cameras(
    content: Video,
    size: tuple[int, int],
    scale: tuple[float, float],
    anchor_index: int,
    known: KnownVideo,
    min_parallax_deg: float = 0.0,
) -> KnownVideo | None:
    """Known geometry with solved cameras added; `None` if they are unreliable.

    Args:
        content: the video at source size, without bars.
        size: (height, width) of the network images, whose centre is that of the content.
        scale: network pixels per content pixel, horizontal and vertical.
        known: known geometry so far, in network pixels.
        min_parallax_deg: median parallax of the points below which the cameras also count as unreliable.
    """
    focal_px, source = (None, "video") if known.focal_px is None else (known.focal_px / scale[0], known.focal_source)
    solved = solve_video(content, anchor_index=anchor_index, focal_px=focal_px, static=known.static)
    if not solved.trusted or solved.evidence.parallax_deg < min_parallax_deg:
        logger.info("the global solver is not used: %s", solved.distrust or "too little parallax")
        return None
    centre = np.array([content.width, content.height]) / 2

    def points(index: int) -> np.ndarray:
        px, depth = solved.points_of(index)
        return np.column_stack([(px - centre) * scale + (size[1] / 2, size[0] / 2), depth])

    return replace(
        known,
        focal_px=solved.focal_px * scale[0],
        focal_source="prior" if solved.focal_by_prior else source,
        world_from_camera=solved.world_from_camera,
        points=points,
    )
