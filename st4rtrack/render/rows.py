"""Rows of frames and of their results (depth, confidence, tracks) for pictures of scenes."""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

from st4rtrack.geometry.vectors import all_components
from st4rtrack.render.draw import (
    ACCENT,
    CONFIDENCE_MAP,
    DEPTH_MAP,
    GREY,
    INK,
    PAGE,
    chip,
    colour_bar,
    dot,
    fit_image,
    lines,
    map_colours,
    number,
    put_text,
    rgb_tuple,
    robust_range,
    text_width,
)
from st4rtrack.render.sample import MOVING_TAIL, STATIC_TAIL, AnchorTracks, ShownFrames, not_far
from st4rtrack.scene import Scene

_ENLARGED = 2


@dataclass(frozen=True)
class Layout:
    """Layout in pixels."""

    width: int  # width of the picture
    margin: int  # margin, gutter: outer margin, and space between cells
    gutter: int
    heading: int  # height of the line above a row
    text: int  # text, small: letter heights
    small: int
    cell_height: int  # cell_height, cell_width: size of one frame
    cell_width: int
    pitch: int  # distance between the left sides of neighbouring cells
    shown: int  # number of frames per row
    rows_abreast: int  # number of rows side by side; more than one if there are few frames

    @property
    def inner(self) -> int:
        return self.width - 2 * self.margin


def plan_layout(num_frames: int, height: int, width: int, picture_width: int) -> Layout:
    """Plan how many frames of height x width pixels a row shows, and at which size."""
    scale = picture_width / 1600
    margin, gutter = round(28 * scale), max(round(10 * scale), 4)
    inner = picture_width - 2 * margin
    tallest = 0.205 * picture_width
    most = int(np.clip(np.ceil(inner / (tallest * width / height)), 6, 8))
    shown = min(num_frames, most)
    abreast = int(np.clip(most // shown, 1, 4))
    columns = shown * abreast
    pitch = (inner + gutter) // columns
    cell_width = max(min(pitch - gutter, round(1.25 * tallest * width / height)), 1)
    return Layout(
        width=picture_width,
        margin=margin,
        gutter=gutter,
        heading=round(36 * scale),
        text=max(round(18 * scale), 11),
        small=max(round(14 * scale), 10),
        cell_height=max(round(cell_width * height / width), 1),
        cell_width=cell_width,
        pitch=pitch,
        shown=shown,
        rows_abreast=abreast,
    )


def identity_colours(query_px: np.ndarray) -> np.ndarray:
    """Colours [points, 3] uint8 by position in the anchor: hue from left to right, paler to the top.

    Positions are ranked, so that neighbours differ in dense regions too.
    """
    count = max(len(query_px) - 1, 1)
    across, down = (np.argsort(np.argsort(query_px[:, axis], kind="stable"), kind="stable") / count for axis in (0, 1))
    hsv = np.stack([172 * across, 255 * (0.55 + 0.45 * down), np.full(len(query_px), 255.0)], axis=-1)
    return cv2.cvtColor(np.rint(hsv).astype(np.uint8)[None], cv2.COLOR_HSV2RGB)[0]


def frame_cell(scene: Scene, frame: int, rgb: np.ndarray, height: int, width: int, text: int, border: int) -> np.ndarray:
    """Picture of a frame with its time; the anchor is marked by a border of `border` pixels."""
    cell = fit_image(rgb, height, width)
    chip(cell, f"t = {float(scene.time_s[frame]):.2f} s", text)
    if frame == scene.anchor_index:
        cv2.rectangle(cell, (0, 0), (width - 1, height - 1), ACCENT, border)
        chip(cell, "anchor", text, fill=ACCENT, alpha=1.0, upper_right=True)
    return cell


def frames_row(scene: Scene, shown: ShownFrames, layout: Layout) -> np.ndarray:
    """Row of the sampled frames with their times; the anchor is marked."""
    size, border = (layout.cell_height, layout.cell_width), 2 * max(layout.gutter // 3, 1)
    frames = zip(shown.index.tolist(), shown.rgb)
    cells = [frame_cell(scene, t, rgb, *size, layout.small, border) for t, rgb in frames]
    return _row("Frames", cells, layout, lambda *_: None)


def depth_row(shown: ShownFrames, layout: Layout) -> np.ndarray:
    """Row of reconstruction depth in each frame's own camera, with a common range; a sky has the largest other depth."""
    others = shown.depth[not_far(shown.depth)]
    depth = np.minimum(shown.depth, others.max()) if others.size else shown.depth
    return _map_row("Depth", "of the reconstruction, in each frame's camera", depth, ("near", "far"), DEPTH_MAP, layout)


def confidence_row(shown: ShownFrames, layout: Layout) -> np.ndarray:
    """Row of reconstruction confidence; logarithmic because its range is wide."""
    assert shown.confidence is not None
    with np.errstate(all="ignore"):
        logarithm = np.log(np.where(shown.confidence > 0, shown.confidence, np.nan))
    return _map_row("Confidence", "of the reconstruction", logarithm, ("low", "high"), CONFIDENCE_MAP, layout)


def _map_row(
    heading: str, explanation: str, maps: np.ndarray, words: tuple[str, str], colour_map: int, layout: Layout
) -> np.ndarray:
    """Row of maps [shown, height, width] in colours, of depth or of the logarithm of confidence."""
    reverse, limits = colour_map == DEPTH_MAP, robust_range(maps[:, ::2, ::2])
    low, high = (number(limit if reverse else float(np.exp(limit))) for limit in limits)
    colours = (map_colours(values, limits, colour_map, reverse=reverse) for values in maps)
    cells = [fit_image(each, layout.cell_height, layout.cell_width, smooth=False) for each in colours]

    def legend(image: np.ndarray, right: int, baseline: int) -> None:
        bar_legend(image, right, baseline, f"{words[0]} {low}", f"{high} {words[1]}", colour_map, layout, reverse=reverse)

    return _row(heading, cells, layout, legend, explanation)


def tracks_row(shown: ShownFrames, tracks: AnchorTracks, colours: np.ndarray, layout: Layout) -> np.ndarray:
    """Row of the anchor's points in each frame, with their paths over the previous frames."""
    cells = [
        draw_tracks(shown.rgb[k], tracks, colours, int(t), layout.cell_height, layout.cell_width)
        for k, t in enumerate(shown.index.tolist())
    ]

    def legend(image: np.ndarray, right: int, baseline: int) -> None:
        radius, middle = 0.25 * layout.small, baseline - 0.32 * layout.small
        x = right - put_text(image, "hidden", right, baseline, layout.small, GREY, align="right")
        dot(image, np.array([x - 2.5 * radius, middle]), radius, GREY, hollow=True)
        x = round(x - 8 * radius)
        x -= put_text(image, "seen", x, baseline, layout.small, GREY, align="right")
        dot(image, np.array([x - 2.5 * radius, middle]), radius, GREY)

    return _row(
        "Tracks",
        cells,
        layout,
        legend,
        f"of the anchor's points, tails over the past {MOVING_TAIL} frames; colour: position in the anchor",
    )


def draw_tracks(rgb: np.ndarray, tracks: AnchorTracks, colours: np.ndarray, frame: int, height: int, width: int) -> np.ndarray:
    """Draw tracks over one frame.

    Args:
        rgb: [frame height, frame width, 3] uint8.
        tracks: tracks that include `frame` and the frames before it.
        colours: [points, 3] uint8.
        frame: frame index.
        height, width: size of the picture in pixels.
    Returns:
        [height, width, 3] uint8: the dimmed frame; visible points as discs, occluded ones as rings; points behind the camera or
        out of view are omitted.
    """
    canvas = _dimmed(fit_image(rgb, height * _ENLARGED, width * _ENLARGED))
    here = int(np.searchsorted(tracks.frame, frame))
    scale = np.array([width / rgb.shape[1], height / rgb.shape[0]]) * _ENLARGED
    radius = np.clip(width / 100, 1.2, 2.6) * _ENLARGED
    first = max(int(np.searchsorted(tracks.frame, frame - MOVING_TAIL)), 0)
    static_tail = STATIC_TAIL if tracks.moving.any() else MOVING_TAIL
    for j in range(first, here):
        age = frame - int(tracks.frame[j])
        _draw_tail_step(canvas, tracks, colours, scale, j, moving=True, alpha=1 - 0.8 * age / MOVING_TAIL)
        if age <= static_tail:
            _draw_tail_step(canvas, tracks, colours, scale, j, moving=False, alpha=0.6 - 0.4 * age / static_tail)
    pixels, seen = tracks.pixels_px[here], tracks.visible[here]
    with np.errstate(invalid="ignore"):
        inside = all_components((pixels >= 0) & (pixels <= (rgb.shape[1], rgb.shape[0])))
    for wanted in (inside & ~seen, inside & seen & ~tracks.moving, inside & seen & tracks.moving):
        for k in np.flatnonzero(wanted):
            size = radius if tracks.moving[k] else 0.75 * radius
            if seen[k]:
                dot(canvas, pixels[k] * scale, size, rgb_tuple(colours[k]), rim=(25, 25, 25))
            else:
                dot(canvas, pixels[k] * scale, 0.9 * size, rgb_tuple(0.6 * colours[k] + 50), hollow=True)
    return np.ascontiguousarray(cv2.resize(canvas, (width, height), interpolation=cv2.INTER_AREA))


def _draw_tail_step(
    canvas: np.ndarray, tracks: AnchorTracks, colours: np.ndarray, scale: np.ndarray, step: int, *, moving: bool, alpha: float
) -> None:
    """Draw tracks from frame `step` to the next; thin where the point is occluded."""
    overlay = canvas.copy()
    chosen = np.flatnonzero(tracks.moving == moving)
    seen = tracks.visible[step, chosen] & tracks.visible[step + 1, chosen]
    start, end = tracks.pixels_px[step : step + 2, chosen] * scale
    lines(overlay, start, end, colours[chosen], np.where(seen, _ENLARGED + int(moving), 1))
    cv2.addWeighted(overlay, alpha, canvas, 1 - alpha, 0, dst=canvas)


def _dimmed(image: np.ndarray) -> np.ndarray:
    """Darken and desaturate an image, so that the tracks provide the colours."""
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None]
    return np.rint(0.62 * (0.75 * grey + 0.25 * image) + 12).astype(np.uint8)


def _row(
    heading: str, cells: list[np.ndarray], layout: Layout, legend: Callable[[np.ndarray, int, int], None], explanation: str = ""
) -> np.ndarray:
    """Row of cells under a heading; `legend(image, right end, baseline)` draws at the right of the heading."""
    width = layout.pitch * (layout.shown - 1) + max(layout.cell_width, layout.pitch - layout.gutter)
    image = np.full((layout.heading + layout.cell_height, width, 3), PAGE, np.uint8)
    right = layout.pitch * (len(cells) - 1) + layout.cell_width
    legend(image, right, baseline_of(layout))
    put_heading(image, heading, explanation, right, layout)
    for k, cell in enumerate(cells):
        image[layout.heading :, k * layout.pitch :][:, : layout.cell_width] = cell
    return image


def put_heading(image: np.ndarray, heading: str, explanation: str, right: int, layout: Layout) -> None:
    """Draw a bold heading at the left and, if there is room before the legend, an explanation beside it."""
    used = put_text(image, heading, 0, baseline_of(layout), layout.text, INK, bold=True) + layout.small
    free = np.flatnonzero((image[: layout.heading, used:right] != PAGE).any(axis=(0, 2)))
    room = int(free[0]) if len(free) else right - used
    if explanation and text_width(explanation, layout.small) < room - layout.small:
        put_text(image, explanation, used, baseline_of(layout), layout.small, GREY)


def baseline_of(layout: Layout) -> int:
    """Baseline of a heading's text, in pixels from its top."""
    return layout.heading - round(0.28 * layout.heading)


def bar_legend(
    image: np.ndarray, right: int, baseline: int, low: str, high: str, colour_map: int, layout: Layout, *, reverse: bool = False
) -> None:
    """Draw a colour bar legend, `low [colours] high`, ending at `right`."""
    gap, length, thickness = layout.small // 2, min(round(0.1 * layout.width), image.shape[1] // 4), round(0.75 * layout.small)
    x = right - put_text(image, high, right, baseline, layout.small, GREY, align="right") - gap - length
    colour_bar(image, x, baseline - thickness + 1, length, thickness, colour_map, reverse=reverse)
    put_text(image, low, x - gap, baseline, layout.small, GREY, align="right")
