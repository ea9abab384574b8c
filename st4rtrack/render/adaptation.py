"""Summary picture of adaptations: scenes side by side, and curves of the training loss and held-out loss."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np

from st4rtrack.io.files import write_whole
from st4rtrack.render.draw import ACCENT, GREY, INK, NOTHING, PAGE, Colour, dot, line, number, put_text, text_width
from st4rtrack.render.panels import tracks_panel
from st4rtrack.render.rows import Layout, depth_row, frames_row, identity_colours, plan_layout, tracks_row
from st4rtrack.render.sample import choose_frames, moving_pixels, read_frames, read_tracks
from st4rtrack.scene import Scene

BLUE: Colour = (0, 114, 178)
_ENLARGED = 2


@dataclass(frozen=True)
class Curve:
    """Curve of a plot."""

    name: str  # name in the legend
    x: np.ndarray  # x, y: [points]; non-finite values are skipped
    y: np.ndarray
    colour: Colour = BLUE  # line colour
    marks: bool = False  # whether to draw discs at the points, for short curves


def draw_curves(
    title: str, curves: Sequence[Curve], size: tuple[int, int], *, text: int = 14, marked_x: float | None = None
) -> np.ndarray:
    """Draw curves over steps from the smallest x; y starts at zero if the values come near it; a vertical line at `marked_x`."""
    height, width = size
    image = np.full((height, width, 3), PAGE, np.uint8)
    put_text(image, title, 0, 1.1 * text, text, INK, bold=True)
    drawn = [np.stack([curve.x, curve.y], axis=1).astype(np.float64) for curve in curves]
    drawn = [points[np.isfinite(points).all(axis=1)] for points in drawn]
    every = np.concatenate([np.zeros((0, 2)), *drawn])
    if not len(every):
        put_text(image, "no data", 0, height / 2, text, GREY)
        return image
    low, high = _limits(every)
    left = max(text_width(number(y), text) for y in (low[1], high[1])) + text // 2
    right, bottom, top = width - text // 2, height - round(1.8 * text), round(2.0 * text)

    def pixels(points: np.ndarray) -> np.ndarray:
        return (left, bottom) + (points - low) / (high - low) * (right - left, top - bottom)

    for y in np.linspace(low[1], high[1], 3):
        level = float(pixels(np.array([low[0], y]))[1])
        line(image, np.array([left, level]), np.array([right, level]), NOTHING)
        put_text(image, number(y), left - text // 2, level + 0.35 * text, text, GREY, align="right")
    put_text(image, f"{low[0]:g}", left, height - 0.4 * text, text, GREY)
    put_text(image, f"step {high[0]:g}", right, height - 0.4 * text, text, GREY, align="right")
    large = cv2.resize(image, (width * _ENLARGED, height * _ENLARGED), interpolation=cv2.INTER_NEAREST)
    if marked_x is not None:
        ends = pixels(np.array([[marked_x, low[1]], [marked_x, high[1]]])) * _ENLARGED
        line(large, ends[0], ends[1], ACCENT, _ENLARGED)
    for curve, points in zip(curves, drawn, strict=True):
        corners = pixels(points) * _ENLARGED
        for start, end in pairwise(corners):
            line(large, start, end, curve.colour, 3)
        for centre in corners if curve.marks or len(corners) == 1 else ():
            dot(large, centre, 2.5 * _ENLARGED, curve.colour)
    image = np.ascontiguousarray(cv2.resize(large, (width, height), interpolation=cv2.INTER_AREA))
    right_end: float = width
    for curve in reversed(curves if len(curves) > 1 else []):  # the legend, beside the title
        right_end -= put_text(image, curve.name, right_end, 1.1 * text, text, curve.colour, align="right") + text
    return image


def _limits(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper limits (x, y) [2] of the axes of a plot of points [points, 2]."""
    low, high = points.min(axis=0), points.max(axis=0)
    margin = 0.08 * (high[1] - low[1])
    low[1] = 0.0 if 0 <= low[1] < 0.5 * high[1] else low[1] - margin
    high[1] += margin
    flat = high - low <= 1e-9 * np.maximum(np.maximum(np.abs(low), np.abs(high)), 1e-6)
    return low, np.where(flat, low + np.maximum(np.abs(low), 1.0), high)


PLOTS_PER_ROW = 4


@dataclass(frozen=True)
class Plot:
    """Plot of several curves with a common axis."""

    title: str  # quantity and its unit
    curves: Sequence[Curve]  # curves over steps
    marked_x: float | None = None  # step to mark, such as the selected one, or `None`


def render_adaptation(
    scenes: Mapping[str, Scene], plots: Sequence[Plot], *, title: str, subtitle: str, width: int = 1600
) -> np.ndarray:
    """Render one picture to judge adaptations by."""
    margin = round(0.0175 * width)
    inner = width - 2 * margin
    text = max(round(18 * width / 1600), 11)
    body = np.concatenate(
        [_title(title, subtitle, inner, text), *_pairs(scenes, inner, margin, text), *_plot_rows(plots, inner, text)]
    )
    picture = np.full((len(body) + margin, width, 3), PAGE, np.uint8)
    picture[margin // 2 :][: len(body), margin : margin + inner] = body
    return picture


def write_adaptation(path: Path, scenes: Mapping[str, Scene], plots: Sequence[Plot], *, title: str, subtitle: str) -> Path:
    """Write `render_adaptation` as PNG or JPEG, by the suffix of the path."""
    picture = render_adaptation(scenes, plots, title=title, subtitle=subtitle)
    options = [] if path.suffix == ".png" else [cv2.IMWRITE_JPEG_QUALITY, 85]  # OpenCV warns about this option for PNG
    write_whole(path, cv2.imencode(path.suffix, picture[..., ::-1], options)[1].tobytes())
    return path


def _pairs(scenes: Mapping[str, Scene], inner: int, gutter: int, text: int) -> list[np.ndarray]:
    """Picture strips of two scenes each."""
    if not scenes:
        return []
    half = (inner - gutter) // 2
    # one dynamic mask for all columns, so that they show the same points
    first = next(iter(scenes.values()))
    index = choose_frames(len(first), 3, first.anchor_index)
    moving = np.logical_or.reduce([moving_pixels(scene, index) for scene in scenes.values()])
    columns = [_column(scene, name, moving, half, text) for name, scene in scenes.items()]
    strips = []
    for pair in (columns[start : start + 2] for start in range(0, len(columns), 2)):
        strip = np.full((max(len(column) for column in pair), inner, 3), PAGE, np.uint8)
        for column, left in zip(pair, (0, inner - half)):
            strip[: len(column), left : left + half] = column
        strips.append(strip)
    return strips


def _column(scene: Scene, name: str, moving: np.ndarray, width: int, text: int) -> np.ndarray:
    """Frames, depth, 2D tracks and 3D tracks of one scene."""
    layout = _half_layout(scene, width)
    shown = read_frames(scene, choose_frames(len(scene), layout.shown, scene.anchor_index))
    frame_width = scene.rgb.shape[2]
    tracks = read_tracks(scene, shown.index, moving, spacing_px=14 * frame_width / layout.cell_width)
    colours = identity_colours(tracks.query_px)
    heading = np.full((2 * text, width, 3), PAGE, np.uint8)
    put_text(heading, name, 0, 1.5 * text, round(1.2 * text), INK, bold=True)
    rows = [frames_row(scene, shown, layout), depth_row(shown, layout), tracks_row(shown, tracks, colours, layout)]
    panel = tracks_panel(scene, shown, tracks, colours, moving, (round(0.6 * width), width))
    gap = np.full((text, width, 3), PAGE, np.uint8)
    return np.concatenate([heading, *(_fitted(row, width) for row in rows), gap, panel, gap])


def _half_layout(scene: Scene, width: int) -> Layout:
    """Layout of three frames side by side in half the page width, with full-size text."""
    height, frame_width = scene.rgb.shape[1:3]
    shown = min(3, len(scene))
    whole = plan_layout(shown, height, frame_width, 2 * width)
    pitch = (width + whole.gutter) // 3
    cell = pitch - whole.gutter, max(round((pitch - whole.gutter) * height / frame_width), 1)
    return replace(
        whole, width=width, margin=0, cell_width=cell[0], cell_height=cell[1], pitch=pitch, shown=shown, rows_abreast=1
    )


def _fitted(row: np.ndarray, width: int) -> np.ndarray:
    fitted = np.full((row.shape[0], width, 3), PAGE, np.uint8)
    fitted[:, : row.shape[1]] = row[:, :width]
    return fitted


def _plot_rows(plots: Sequence[Plot], inner: int, text: int) -> list[np.ndarray]:
    columns = min(PLOTS_PER_ROW, max(len(plots), 2))
    gutter = 2 * text
    width = (inner - (columns - 1) * gutter) // columns
    height = round(0.55 * width)
    small = round(0.8 * text)
    rows = []
    for start in range(0, len(plots), columns):
        row = np.full((height + text, inner, 3), PAGE, np.uint8)
        for k, plot in enumerate(plots[start : start + columns]):
            drawn = draw_curves(plot.title, plot.curves, (height, width), text=small, marked_x=plot.marked_x)
            row[:height, k * (width + gutter) :][:, :width] = drawn
        rows.append(row)
    return rows


def _title(title: str, subtitle: str, inner: int, text: int) -> np.ndarray:
    image = np.full((round(3.4 * text), inner, 3), PAGE, np.uint8)
    put_text(image, "St4RTrack", inner, 1.2 * text, text, GREY, align="right")
    put_text(image, title, 0, 1.3 * text, round(1.25 * text), INK, bold=True)
    put_text(image, subtitle, 0, 2.6 * text, round(0.85 * text), GREY)
    return image
