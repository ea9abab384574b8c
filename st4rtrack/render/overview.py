"""Overview picture of a scene: frames, depth, confidence, tracks, and the whole scene from a second viewpoint."""

from pathlib import Path

import cv2
import numpy as np

from st4rtrack.io.files import write_whole
from st4rtrack.render.draw import ACCENT, GREY, INK, PAGE, TIME_MAP, number, put_text, text_width, video_name
from st4rtrack.render.panels import reconstruction_panel, tracks_panel
from st4rtrack.render.rows import (
    Layout,
    bar_legend,
    baseline_of,
    confidence_row,
    depth_row,
    frames_row,
    identity_colours,
    plan_layout,
    put_heading,
    tracks_row,
)
from st4rtrack.render.sample import AnchorTracks, ShownFrames, choose_frames, moving_pixels, read_frames, read_tracks, scene_facts
from st4rtrack.scene import Scene
from st4rtrack.types import UserError

LEAST_WIDTH_PX = 480
SHOWN_WARNINGS = 4
"""Maximum number of warnings in the picture; scene.json has all."""


def render_overview(scene: Scene, *, width: int = 1600) -> np.ndarray:
    """Render one picture to judge a scene by: [height, width, 3] uint8 RGB, at least 480 pixels wide.

    From the top: the quality line and warnings; sampled frames; depth of the reconstruction in each frame's own camera; its
    confidence; tracks of the anchor's points; the scene from a second viewpoint; the 3D paths of the dynamic points.
    """
    if width < LEAST_WIDTH_PX:
        raise ValueError(f"width of an overview must be at least {LEAST_WIDTH_PX} pixels, got {width}")
    frame_height, frame_width = scene.rgb.shape[1:3]
    layout = plan_layout(len(scene), frame_height, frame_width, width)
    shown = read_frames(scene, choose_frames(len(scene), layout.shown, scene.anchor_index))
    moving = moving_pixels(scene, shown.index)
    tracks = read_tracks(scene, shown.index, moving, spacing_px=17 * width / 1600 * frame_width / layout.cell_width)
    colours = identity_colours(tracks.query_px)

    rows = [frames_row(scene, shown, layout), depth_row(shown, layout)]
    if shown.confidence is not None:
        rows.append(confidence_row(shown, layout))
    rows.append(tracks_row(shown, tracks, colours, layout))
    strips = [_title(scene, layout), *_quality(scene, layout)]
    strips += [_abreast(rows[k : k + layout.rows_abreast], layout) for k in range(0, len(rows), layout.rows_abreast)]
    strips.append(_panels(scene, shown, tracks, colours, moving, layout))
    strips.append(_caption(scene, shown, moving, layout))
    body = np.concatenate(strips)
    picture = np.full((len(body) + 2 * (layout.margin // 2), width, 3), PAGE, np.uint8)
    picture[layout.margin // 2 :][: len(body), layout.margin : layout.margin + layout.inner] = body
    return picture


def write_overview(scene: Scene, path: str | Path, *, width: int = 1600) -> Path:
    """Write `render_overview(scene)` as an image, in the format of the suffix (.png, .jpg, ...).

    Raises:
        UserError: the suffix is not that of an image format, or the file cannot be written.
    """
    path = Path(path)
    if not cv2.haveImageWriter(path.name):
        raise UserError(f"{path} must end in an image format; use .png")
    encoded = cv2.imencode(path.suffix, render_overview(scene, width=width)[..., ::-1])[1]
    try:
        write_whole(path, encoded.tobytes())
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}); choose another path") from error
    return path


def _abreast(rows: list[np.ndarray], layout: Layout) -> np.ndarray:
    image = np.full((rows[0].shape[0], layout.inner, 3), PAGE, np.uint8)
    for k, row in enumerate(rows):
        left = k * layout.pitch * layout.shown
        image[:, left : left + row.shape[1]] = row[:, : layout.inner - left]
    return image


def _panels(
    scene: Scene, shown: ShownFrames, tracks: AnchorTracks, colours: np.ndarray, moving: np.ndarray, layout: Layout
) -> np.ndarray:
    """The two larger views, side by side."""
    width = (layout.inner - layout.gutter) // 2
    height = round(0.66 * width)
    image = np.full((layout.heading + height, layout.inner, 3), PAGE, np.uint8)
    left, right = image[:, :width], image[:, -width:]
    left[layout.heading :] = reconstruction_panel(scene, shown, (height, width))
    right[layout.heading :] = tracks_panel(scene, shown, tracks, colours, moving, (height, width))
    start, end = float(scene.time_s[0]), float(scene.time_s[-1])
    if len(scene) > 1:
        bar_legend(left, width, baseline_of(layout), f"camera {start:.2f} s", f"{end:.2f} s", TIME_MAP, layout)
    frames = "1 frame" if len(shown) == 1 else f"{len(shown)} frames"
    put_heading(left, "From a second viewpoint", f"reconstruction of {frames}", width, layout)
    if tracks.moving.any():
        what = "the anchor's points at the end, and paths of the dynamic ones"
    else:
        what = "the anchor's points" + ("; no dynamic ones detected" if len(scene) > 1 else "")
    put_heading(right, "Tracks in 3D", what, width, layout)
    return image


def _quality(scene: Scene, layout: Layout) -> list[np.ndarray]:
    """Strips with the quality line and the first warnings; empty for a scene without a quality report."""
    report = scene.quality
    if report is None:
        return []
    serious_first = sorted(report.warnings, key=lambda warning: not warning.serious)
    summary = _wrapped(report.summary(len(scene)), layout.small, layout.inner)
    texts = [(line, GREY if report.reliable else ACCENT) for line in summary]
    texts += [(warning.sentence, ACCENT if warning.serious else GREY) for warning in serious_first[:SHOWN_WARNINGS]]
    strips = []
    for text, colour in texts:
        image = np.full((round(1.5 * layout.small), layout.inner, 3), PAGE, np.uint8)
        put_text(image, _shortened(text, layout.small, layout.inner), 0, round(1.1 * layout.small), layout.small, colour)
        strips.append(image)
    return strips


def _wrapped(text: str, size: int, width: int) -> list[str]:
    """Break text at blanks into lines of at most `width` pixels, if its words allow it."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".lstrip()
        lines[-1:] = [longer] if not lines[-1] or text_width(longer, size) <= width else [lines[-1], word]
    return lines


def _shortened(text: str, size: int, width: int, *, bold: bool = False) -> str:
    """Truncate text with dots if it is wider than `width` pixels."""
    while len(text) > 4 and text_width(text, size, bold=bold) > width:
        text = text[: max(len(text) - 6, 1)] + "..."
    return text


def _title(scene: Scene, layout: Layout) -> np.ndarray:
    image = np.full((round(1.1 * layout.heading), layout.inner, 3), PAGE, np.uint8)
    baseline = round(0.75 * layout.heading)
    used = put_text(image, "St4RTrack", layout.inner, baseline, layout.text, GREY, align="right")
    room = layout.inner - used - layout.text
    name = _shortened(video_name(scene.info), round(1.25 * layout.text), room, bold=True)
    put_text(image, name, 0, baseline, round(1.25 * layout.text), INK, bold=True)
    return image


def _caption(scene: Scene, shown: ShownFrames, moving: np.ndarray, layout: Layout) -> np.ndarray:
    """Further facts on one line; what does not fit is dropped from the end."""
    parts = caption_parts(scene, shown, moving)
    while len(parts) > 1 and text_width("   |   ".join(parts), layout.small) > layout.inner:
        parts.pop()
    image = np.full((layout.heading, layout.inner, 3), PAGE, np.uint8)
    put_text(image, "   |   ".join(parts), 0, round(0.8 * layout.heading), layout.small, GREY)
    return image


def caption_parts(scene: Scene, shown: ShownFrames, moving: np.ndarray) -> list[str]:
    """Facts of a scene for its caption, most important first."""
    parts = scene_facts(scene)
    if shown.visible_share is not None:
        parts.append(f"{100 * float(np.median(shown.visible_share)):.0f} % of the anchor's points visible (median)")
    parts.append(f"{100 * float(moving.mean()):.0f} % dynamic" + ("" if scene.tracking.moving is not None else " (estimated)"))
    if not scene.solved_frames.all():
        parts.append(f"{int((~scene.solved_frames).sum())} unsolved frames")
    results = scene.info.get("results")
    seconds = results.get("seconds") if isinstance(results, dict) else None
    if isinstance(seconds, int | float):
        parts.append(f"processed in {number(float(seconds))} s")
    return parts
