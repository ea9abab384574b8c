"""Cameras of a video estimated by the global solver, in the form of known geometry."""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from st4rtrack.classical.solver.cameras import radial_distortion, solve_video
from st4rtrack.classical.solver.evidence import PRIOR_FOCAL
from st4rtrack.classical.solver.key_frames import key_frames, working_scale
from st4rtrack.classical.solver.turning import turning_camera
from st4rtrack.geometry.camera import intrinsics_from_focal
from st4rtrack.geometry.transforms import rigid
from st4rtrack.options import KnownGeometry
from st4rtrack.timing import timed
from st4rtrack.types import KnownVideo, UserError, Video

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class HintInputs:
    """Inputs of the camera estimation of a video.

    Attributes:
        video: at network size.
        anchor_index: index of the anchor.
        known: known geometry, in network pixels; pose estimation uses its static pixels.
        content: the video at source size without bars, for the camera solver; its centre is that of `video`.
        scale: network pixels per content pixel, horizontal and vertical.
        static: function from a frame index to [height, width] bool, user-provided static pixels; `None` where unknown.
        zoom: whether the focal length may change.
    """

    video: Video
    anchor_index: int
    known: KnownVideo
    content: Video
    scale: tuple[float, float] = (1.0, 1.0)
    static: Callable[[int], np.ndarray] | None = None
    zoom: bool = False


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
    intrinsics = intrinsics_from_focal(solved.focal_px, source.height, source.width)
    return replace(
        known,
        cameras=solved.world_from_camera,
        intrinsics=intrinsics if known.intrinsics is None else known.intrinsics,
    )


@timed("solver")
def solved_cameras(inputs: HintInputs, min_parallax_deg: float = 0.0) -> KnownVideo | None:
    """Known geometry with the cameras of the global solver added; `None` if they are unreliable.

    Args:
        min_parallax_deg: median parallax of the points below which the cameras also count as unreliable.
    """
    content, scale, known, anchor_index = inputs.content, inputs.scale, inputs.known, inputs.anchor_index
    focal_px, source = (None, "video") if known.focal_px is None else (known.focal_px / scale[0], known.focal_source)
    zoom: bool | np.ndarray = inputs.zoom
    if known.focals_px is not None:
        focal_px, zoom = float(known.focals_px[0]) / scale[0], known.focals_px / known.focals_px[0]
    solved = solve_video(content, anchor_index=anchor_index, focal_px=focal_px, static=known.static, zoom=zoom)
    if not solved.trusted or solved.evidence.parallax_deg < min_parallax_deg:
        logger.info("the global solver is not used: %s", solved.distrust or "too little parallax")
        return None
    centre = np.array([content.width, content.height]) / 2

    def points(index: int) -> np.ndarray:
        px, depth = solved.points_of(index)
        return np.column_stack([(px - centre) * scale + (inputs.video.width / 2, inputs.video.height / 2), depth])

    focals_px = None if solved.zoom is None else solved.focal_px * scale[0] * solved.zoom
    return replace(
        known,
        focal_px=solved.focal_px * scale[0] if focals_px is None else float(focals_px[anchor_index]),
        focals_px=focals_px,
        focal_source="prior" if solved.focal_by_prior else source,
        world_from_camera=solved.world_from_camera,
        points=points,
        radial=radial_distortion(solved, (content.height, content.width)) if focals_px is None else None,
    )


@timed("solver")
def turning_cameras(inputs: HintInputs) -> KnownVideo | None:
    """Known geometry plus rotations and focal lengths of a camera that zooms without translation; `None` for others."""
    content, known, anchor_index = inputs.content, inputs.known, inputs.anchor_index
    to_working = working_scale(content.height, content.width)
    to_network = inputs.scale[0] / to_working
    height, width = round(content.height * to_working), round(content.width * to_working)
    first_px = known.focal_px if known.focals_px is None else float(known.focals_px[0])
    focal_px = PRIOR_FOCAL * max(height, width) if first_px is None else first_px / to_network
    keys = key_frames(enumerate(content.frames()), num_frames=len(content), static=known.static)
    found = turning_camera(keys, len(content), (height, width), focal_px, known=known.focal_px is not None)
    if found is None or not np.isfinite(found.z[anchor_index]):
        return None
    rotation = found.first_from_frame[anchor_index].T @ found.first_from_frame
    seen = np.flatnonzero(np.isfinite(found.z))
    focals_px = known.focals_px
    if focals_px is None:
        focals_px = found.focal_px * to_network * np.exp(np.interp(np.arange(len(content)), seen, found.z[seen]))
    source = known.focal_source if known.focal_px is not None else "video" if found.decided else "prior"
    return replace(
        known,
        focal_px=float(focals_px[anchor_index]),
        focals_px=focals_px,
        focal_source=source,
        world_from_camera=rigid(rotation, np.zeros(3)),
    )
