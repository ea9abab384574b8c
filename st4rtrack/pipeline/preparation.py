"""Preparation of a video for the network: bars cropped, resized, with a usable anchor and the user-provided geometry."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from st4rtrack.classical.frame_checks import frame_state
from st4rtrack.classical.layout import Layout, find_layout, is_panorama, sampled_indices
from st4rtrack.classical.two_view import SEED
from st4rtrack.geometry.camera import pixel_grid
from st4rtrack.geometry.sampling import nearest_pixel
from st4rtrack.hints.cameras import with_solved_cameras
from st4rtrack.hints.depth_prior import DepthPrior
from st4rtrack.hints.provider import takes_hints
from st4rtrack.io.files import absolute, matches_of
from st4rtrack.io.known.calibration import undistorted
from st4rtrack.io.known.known import known_of_video
from st4rtrack.io.known.matching import SourceSize
from st4rtrack.io.scene import SceneHeader
from st4rtrack.io.scene.description import read_json
from st4rtrack.io.scene.table import DEFAULT_FIELDS, FRAME_QUALITY
from st4rtrack.model.config import ModelConfig
from st4rtrack.model.network import St4RTrack
from st4rtrack.options import KnownGeometry, ReconstructOptions
from st4rtrack.pipeline.quality_warnings import quality_warning
from st4rtrack.preprocess import crop, stretch_to_network_size, to_network_size
from st4rtrack.types import KnownVideo, PixelMap, QualityWarning, UserError, Video

LAYOUT_FRAMES = 240
"""Number of first frames in which bars, overlays and stereo are detected; they are read a second time."""
LAYOUT_SIDE = 320
FIRST_FRAMES_SHARE, FEATURES_SHARE = 0.1, 0.4
"""Shares of the preparation that are done after the first frames, and after the camera solver has read the video; measured. The rest
is a few calls that report nothing: solving, and the fused geometry of the anchor."""
ANCHOR_FRAMES = 300
"""Number of frames searched for a usable anchor."""


def watched(video: Video, report: Callable[[float], None] | None, begin: float, end: float, num_frames: int) -> Video:
    """The video, wrapped: one pass over it calls `report` with shares that increase from `begin` to `end`."""
    if report is None:
        return video
    count = iter(range(1, num_frames + 1))

    def read(start: int, stop: int) -> Iterator[np.ndarray]:
        for frame in video.read(start, stop):
            if (done := next(count, None)) is not None:
                report(begin + (end - begin) * done / num_frames)
            yield frame

    return replace(video, read=read)


@dataclass(frozen=True)
class PreparedVideo:
    """A video at network size, with the results of its preparation.

    Attributes:
        video: the video at network size.
        pixel_map: source pixels to network pixels.
        anchor_index: index of the anchor among the processed frames.
        overlay: [height, width] bool, pixels of logos and subtitles; `None` without any.
        warnings: warnings about the images.
        content: the source video without distortion and bars.
        content_px: (left, top, right, bottom) of the image inside the bars, in pixels of the source without distortion.
        source: the source video.
        user: user-provided geometry; `None` without any.
    """

    video: Video
    pixel_map: PixelMap
    anchor_index: int
    overlay: np.ndarray | None
    warnings: tuple[QualityWarning, ...]
    content: Video
    content_px: tuple[int, int, int, int]
    source: Video
    user: KnownVideo | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) at the network."""
        return self.video.height, self.video.width

    @property
    def source_size(self) -> SourceSize:
        """Size of the source video, and its map to network pixels."""
        return SourceSize(self.source.height, self.source.width, self.pixel_map)

    @property
    def known(self) -> KnownVideo:
        """User-provided geometry, plus focal length and overlays from the file metadata and the images, unless user-provided."""
        known, overlay = self.user or KnownVideo(), self.overlay
        if self.source.focal_px is not None and known.focal_px is None:
            known = replace(known, focal_px=self.source.focal_px * self.pixel_map.scale[0], focal_source="metadata")
        if overlay is None:
            return known
        static = known.static
        return replace(known, static=lambda index: ~overlay if static is None else static(index) & ~overlay)


def prepare(
    source: Video,
    config: ModelConfig,
    options: ReconstructOptions,
    *,
    known: KnownGeometry | None = None,
    output: str | Path | None = None,
    progress: Callable[[float], None] | None = None,
) -> PreparedVideo:
    """Crop bars (with `fit` "crop"), resize to network size, choose the anchor, and read the known geometry.

    A black or blank anchor frame is replaced by the nearest usable one, with a warning. If `output` contains a complete scene,
    its bars are reused, since only its options remain to be compared.

    Args:
        progress: called with the share of the preparation that is done, as frames are read here and by the camera solver.
    Raises:
        UserError: an option is not valid for the video, or the known geometry cannot be used.
    """
    if not isinstance(options.refine, bool):
        raise UserError(f"refine must be True or False, got {options.refine!r}")
    fit, index = options.fit, anchor_index(options.anchor, len(source))
    known = known or KnownGeometry()
    source = watched(source, progress, 0.0, FIRST_FRAMES_SHARE, min(len(source), LAYOUT_FRAMES))
    ideal, lens_map, geometry = undistorted(source, known)
    whole = Layout((0, 0, source.width, source.height), None, "none")
    layout = whole if fit != "crop" else _stored_layout(output, source)
    sample = _sample(ideal) if layout is None else []
    layout = layout or find_layout(sample, (source.height, source.width))
    content, content_map = crop(ideal, *layout.content)
    resize = to_network_size if fit == "crop" else stretch_to_network_size
    video, resize_map = resize(content, long_side=options.size or config.image_size, patch_size=config.patch_size)
    usable = _usable_anchor(video, index)
    warnings = _layout_warnings(layout, source)
    if is_panorama(sample):
        warnings.append(quality_warning("panorama"))
    if usable != index:
        warnings.append(quality_warning("anchor_moved", [index, usable], asked=index, used=usable))
    pixel_map = lens_map.then(content_map).then(resize_map)
    overlay = _overlay(layout, source, video, pixel_map.ideal)
    user = None
    if known:
        geometry = with_solved_cameras(geometry, ideal, usable)
        user = known_of_video(geometry, source, pixel_map, (video.height, video.width), usable)
    content = watched(content, progress, FIRST_FRAMES_SHARE, FEATURES_SHARE, len(source))
    return PreparedVideo(video, pixel_map, usable, overlay, tuple(warnings), content, layout.content, source, user)


def anchor_index(anchor: int | str, num_frames: int) -> int:
    """Anchor index among the processed frames: a number, the middle frame for "middle", or 0 for "auto".

    Raises:
        UserError: it is none of these.
    """
    if anchor == "middle":
        return num_frames // 2
    if anchor == "auto":
        return 0
    if isinstance(anchor, str) or not 0 <= anchor < num_frames:
        raise UserError(f"anchor must be in 0..{num_frames - 1} (processed frames), 'middle' or 'auto', got {anchor!r}")
    return int(anchor)


def _stored_layout(output: str | Path | None, source: Video) -> Layout | None:
    """Layout stored in the complete scene of a folder; `None` without one."""
    try:
        data = read_json(Path(output or ""))
        left, top, right, bottom = (int(side) for side in data["info"]["results"]["content_px"])
    except (UserError, KeyError, TypeError, ValueError):
        return None
    possible = data.get("status") == "complete" and 0 <= left < right <= source.width and 0 <= top < bottom <= source.height
    return Layout((left, top, right, bottom), None, "none") if possible else None


def _sample(source: Video) -> list[np.ndarray]:
    """Small frames that show the layout of a video."""
    num_frames = min(len(source), LAYOUT_FRAMES)
    wanted = set(sampled_indices(num_frames))
    scale = min(LAYOUT_SIDE / max(source.height, source.width), 1.0)
    size = (max(round(source.width * scale), 1), max(round(source.height * scale), 1))
    frames = (frame for index, frame in enumerate(source.frames(0, num_frames)) if index in wanted)
    return [cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames]


def _overlay(layout: Layout, source: Video, video: Video, pixel_map: PixelMap) -> np.ndarray | None:
    """Overlay at network size."""
    if layout.overlay is None or not layout.overlay.any():
        return None
    source_px = pixel_map.source_from_network(pixel_grid(video.height, video.width))
    height, width = layout.overlay.shape
    row, column = nearest_pixel(source_px * (width / source.width, height / source.height), height, width)
    return layout.overlay[row, column]


def _layout_warnings(layout: Layout, source: Video) -> list[QualityWarning]:
    warnings = []
    left, top, right, bottom = layout.content
    if layout.content != (0, 0, source.width, source.height):
        bars = {"left": left, "top": top, "right": source.width - right, "bottom": source.height - bottom}
        sizes = ", ".join(f"{name} {size} px" for name, size in bars.items() if size)
        warnings.append(quality_warning("bars", bars=sizes))
    if layout.overlay is not None and layout.overlay.any():
        warnings.append(quality_warning("overlay"))
    if layout.stereo != "none":
        warnings.append(quality_warning("side_by_side"))
    return warnings


def _usable_anchor(video: Video, index: int) -> int:
    """Nearest usable frame at or after an index, else the nearest before it, else the index itself."""
    after = range(index, min(index + ANCHOR_FRAMES, len(video)))
    for number, rgb in zip(after, video.frames(after.start, after.stop), strict=True):
        if frame_state(rgb) == "usable":
            return number
    before = range(max(index - ANCHOR_FRAMES, 0), index)
    states = [frame_state(rgb) for rgb in video.frames(before.start, before.stop)]
    usable = [number for number, state in zip(before, states, strict=True) if state == "usable"]
    return usable[-1] if usable else index


def scene_header(prepared: PreparedVideo, model: St4RTrack, options: ReconstructOptions, prior: DepthPrior | None) -> SceneHeader:
    """Create the header of the scene of a video, with all that affects the scene: model, options and known geometry."""
    source = prepared.source
    info: dict[str, Any] = {
        "model": {"name": model.name, "hash": model.weights_hash, "dtype": str(model.dtype).removeprefix("torch.")},
        "options": {
            "refine": ["smoothness"] if options.refine else [],
            "depth_prior": "none" if prior is None else prior.name,
            **({"anchor": "auto"} if options.anchor == "auto" else {}),
            **({"zoom": options.zoom} if options.zoom != "auto" else {}),
        },
        "source": {
            "video": _absolute_source(source.source),
            "name": source.name,
            "fps": _rate(source),
            "first_frame": int(source.frame_index[0]),
            "last_frame": int(source.frame_index[-1]),
        },
    }
    if prepared.user is not None and prepared.user.description is not None:
        info["known"] = prepared.user.description
    height, width = prepared.size
    return SceneHeader(
        num_frames=len(source),
        height=height,
        width=width,
        anchor_index=prepared.anchor_index,
        pixel_map=prepared.pixel_map,
        source_size=(source.height, source.width),
        info=info,
        points_dtype=options.points_dtype,
        fields=(*DEFAULT_FIELDS, *FRAME_QUALITY, *(("reconstruction_source",) if takes_hints(model.config) else ())),
    )


def environment(device: torch.device, batch_size: int) -> dict[str, Any]:
    """Settings that the last digits of a scene depend on, plain data for `scene.json`.

    CPU runs are always reproducible: with the same versions, batches and threads, sums are computed in the same order, and all
    random choices are seeded.
    """
    return {
        "device": str(device),
        "threads": torch.get_num_threads(),
        "batch_size": batch_size,
        "deterministic": device.type == "cpu" or torch.are_deterministic_algorithms_enabled(),
        "seed": SEED,
        "torch": torch.__version__,
    }


def _absolute_source(source: str) -> str:
    """Absolute path of a file, folder or glob, so that exports find it from any folder; anything else unchanged."""
    try:
        path = absolute(source)
        return str(path) if path.exists() or matches_of(path) else source
    except (OSError, ValueError, UserError):  # not a path
        return source


def _rate(video: Video) -> float | None:
    """Mean frame rate of the processed frames, in frames per second."""
    span = float(video.time_s[-1] - video.time_s[0])
    return round((len(video) - 1) / span, 6) if span > 0 else None
