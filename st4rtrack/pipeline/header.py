"""What a scene says of how it was made; a run that goes on compares it."""

from typing import Any, Literal

from st4rtrack.io.files import absolute, matches_of
from st4rtrack.io.scene import SceneHeader
from st4rtrack.io.scene.table import DEFAULT_FIELDS, FRAME_QUALITY
from st4rtrack.model.network import St4RTrack
from st4rtrack.types import PixelMap, UserError, Video


def scene_header(
    source: Video,
    video: Video,
    pixel_map: PixelMap,
    model: St4RTrack,
    anchor_index: int,
    points_dtype: Literal["float32", "float16"],
    *,
    options: dict[str, Any],
    known: dict[str, Any] | None = None,
) -> SceneHeader:
    """Header of the scene of a video.

    Args:
        source, video: as the user has it, and at network size.
        pixel_map: pixels of the first to pixels of the second.
        model: whose name, hash and type are kept.
        anchor_index: of the processed frames.
        points_dtype: of the stored points.
        options: what else decides what the scene holds, plain values.
        known: what the user said of the video, plain values.
    """
    info: dict[str, Any] = {
        "model": {"name": model.name, "hash": model.weights_hash, "dtype": str(model.dtype).removeprefix("torch.")},
        "options": options,
        "source": {
            "video": _absolute_source(source.source),
            "name": source.name,
            "fps": _rate(source),
            "first_frame": int(source.frame_index[0]),
            "last_frame": int(source.frame_index[-1]),
        },
    }
    if known is not None:
        info["known"] = known
    return SceneHeader(
        num_frames=len(source),
        height=video.height,
        width=video.width,
        anchor_index=anchor_index,
        pixel_map=pixel_map,
        source_size=(source.height, source.width),
        info=info,
        points_dtype=points_dtype,
        fields=(*DEFAULT_FIELDS, *FRAME_QUALITY, *(("reconstruction_source",) if model.config.hints else ())),
    )


def _absolute_source(source: str) -> str:
    """The path of a file, folder or glob from the root, so that exports find it from any folder; anything else as it is."""
    try:
        path = absolute(source)
        return str(path) if path.exists() or matches_of(path) else source
    except (OSError, ValueError, UserError):  # no path
        return source


def _rate(video: Video) -> float | None:
    """Mean frames per second of what is processed."""
    span = float(video.time_s[-1] - video.time_s[0])
    return round((len(video) - 1) / span, 6) if span > 0 else None
