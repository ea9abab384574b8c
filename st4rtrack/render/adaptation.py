"""Summary picture of adaptations: scenes side by side, and curves of the training loss and held-out loss."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from st4rtrack.io.files import write_whole
from st4rtrack.render.curves import Curve, draw_curves
from st4rtrack.render.draw import GREY, INK, PAGE, put_text
from st4rtrack.render.rows import Layout, depth_row, frames_row, identity_colours, plan_layout, tracks_row
from st4rtrack.render.sample import choose_frames, moving_pixels, read_frames, read_tracks
from st4rtrack.render.views import tracks_panel
from st4rtrack.scene import Scene

PLOTS_PER_ROW = 4


@dataclass(frozen=True)
class Plot:
    """Plot of several curves with a common axis.

    Attributes:
        title: quantity and its unit.
        curves: curves over steps.
        marked_x: step to mark, such as the selected one, or `None`.
    """

    title: str
    curves: Sequence[Curve]
    marked_x: float | None = None


def render_adaptation(
    scenes: Mapping[str, Scene], plots: Sequence[Plot], *, title: str, subtitle: str, width: int = 1600
) -> np.ndarray:
    """Render one picture to judge adaptations by.

    Args:
        scenes: scenes of the same frames, by name (before and after, for instance), drawn two per row; may be empty.
        plots: plots below the scenes.
        title, subtitle: two lines at the top.
        width: width of the picture in pixels.
    Returns:
        [height, width, 3] uint8 RGB.
    """
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
    whole = plan_layout(min(3, len(scene)), height, frame_width, 2 * width)
    shown, gutter = min(3, len(scene)), whole.gutter
    pitch = (width + gutter) // 3
    cell_width = pitch - gutter
    cell_height = max(round(cell_width * height / frame_width), 1)
    return Layout(
        width=width,
        margin=0,
        gutter=gutter,
        heading=whole.heading,
        text=whole.text,
        small=whole.small,
        cell_height=cell_height,
        cell_width=cell_width,
        pitch=pitch,
        shown=shown,
        rows_abreast=1,
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
