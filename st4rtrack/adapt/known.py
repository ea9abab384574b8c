"""What the user knows of the videos of an adaptation: intrinsics and cameras, from a file for each of them."""

from st4rtrack.io.known.known import Known
from st4rtrack.types import UserError, Video


def known_of_one(known: Known, video: Video) -> Known:
    """What is known of one of the videos, {name} in a path being its name.

    Raises:
        UserError: something is given that adaptation has no use for.
    """
    for name in ("depth", "depth_per_unit", "static_mask", "metres_per_unit", "known_distance"):
        if getattr(known, name) is not None:
            raise UserError(
                f"adaptation uses known intrinsics and cameras, not {name}; depth is a teacher (depth=FILE, --depth FILE)"
            )
    return known.of_video(video.name)
