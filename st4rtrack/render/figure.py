"""Figure of a scene for a paper: one row per frame, as in the paper's Fig. 4, with text kept as text in PDF."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from st4rtrack.io.files import whole_file
from st4rtrack.io.formats.common import need
from st4rtrack.render.draw import GREY, INK, RECONSTRUCTION, TRACKING, Colour, fit_image
from st4rtrack.render.panels import PanelRenderer
from st4rtrack.render.sample import choose_frames
from st4rtrack.scene import Scene
from st4rtrack.types import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ENDINGS = (".pdf", ".png", ".jpg")
_POINTS = 300_000
_VIEW_ASPECT = 1.25
_GAP_IN, _LETTERS_PT = 0.04, 7.0
_SCREEN_DPI = 100
"""Resolution at which track marks have their on-screen size; they scale with the resolution."""

_LEGEND = "Tracks: colour is the position in the anchor frame, rings are occluded. Cameras: first (pink) to last (yellow). "


@dataclass(frozen=True)
class FigureLayout:
    """Layout in inches."""

    width: float  # width, height: size of the figure
    height: float
    left: float  # left, top, bottom: margins for the times, the headings, and the legend line
    top: float
    bottom: float
    row: float  # height of a row of pictures
    columns: tuple[float, ...]  # widths of the pictures of a row

    def place(self, row: int, column: int) -> tuple[float, float, float, float]:
        """Left, bottom, width and height of a picture as fractions of the figure."""
        left = self.left + sum(self.columns[:column]) + column * _GAP_IN
        bottom = self.height - self.top - (row + 1) * self.row - row * _GAP_IN
        return left / self.width, bottom / self.height, self.columns[column] / self.width, self.row / self.height


def plan_figure(rows: int, frame_height: int, frame_width: int, width_in: float, *, legend: bool) -> FigureLayout:
    """Plan the layout: frame pictures in the frames' aspect ratio, 3D views slightly wider than high."""
    letters = _LETTERS_PT / 72
    left, top, bottom = 1.6 * letters, 2.7 * letters, (1.9 * letters if legend else 0.0)
    aspect = frame_width / frame_height
    row = (width_in - left - 4 * _GAP_IN) / (2 * aspect + 3 * _VIEW_ASPECT)
    height = top + rows * row + (rows - 1) * _GAP_IN + bottom
    return FigureLayout(width_in, height, left, top, bottom, row, (aspect * row,) * 2 + (_VIEW_ASPECT * row,) * 3)


def write_figure(
    scene: Scene,
    path: str | Path,
    *,
    rows: int = 4,
    frames: Sequence[int] | None = None,
    width_in: float = 7.0,
    dpi: int = 300,
    turn_deg: float = 30.0,
    legend: bool = True,
) -> None:
    """Write a figure: per row a frame, its tracks, both outputs of the pair, and the accumulated results so far.

    Args:
        scene: in memory or on disk; frames are read one at a time.
        path: .pdf (pictures, with text as text), .png or .jpg; written atomically.
        rows: Number of rows, one frame each, spread over the scene.
        frames: Frames to show instead of `rows`.
        width_in: Width in inches; 7: a page of two columns.
        dpi: Resolution in pixels per inch.
        turn_deg: Angle between the cameras and the views in degrees.
        legend: Add a line that explains the colours.
    Raises:
        UserError: unknown suffix, missing matplotlib, or frame out of range.
    """
    path = Path(path)
    if path.suffix.lower() not in ENDINGS:
        raise UserError(f"{path} must end in {' or '.join(ENDINGS)}")
    figure = draw_figure(scene, chosen_frames(scene, rows, frames), width_in=width_in, dpi=dpi, turn_deg=turn_deg, legend=legend)
    import matplotlib

    with matplotlib.rc_context({"pdf.fonttype": 42}), whole_file(path) as file:  # TrueType fonts, which publishers accept
        metadata = {"CreationDate": None} if path.suffix.lower() == ".pdf" else None
        figure.savefig(file, format=path.suffix[1:].lower(), dpi=dpi, metadata=metadata)


def chosen_frames(scene: Scene, rows: int, frames: Sequence[int] | None) -> list[int]:
    """Frame indices of the rows, increasing."""
    if frames is None:
        if rows < 1:
            raise UserError(f"rows must be at least 1, got {rows}")
        solved = np.flatnonzero(scene.solved_frames)
        if rows == 1:
            return solved[-1:].tolist()  # the first frame alone would show no motion
        return solved[choose_frames(len(solved), rows, int(np.searchsorted(solved, scene.anchor_index)))].tolist()
    wrong = [t for t in frames if not 0 <= t < len(scene)]
    if wrong or not len(frames):
        raise UserError(f"frames must be in 0..{len(scene) - 1}, got {', '.join(map(str, wrong)) or 'none'}")
    return sorted(set(frames))


def draw_figure(scene: Scene, frames: Sequence[int], *, width_in: float, dpi: int, turn_deg: float, legend: bool) -> "Figure":
    """Draw the figure of `write_figure` for frames in increasing order."""
    Figure = need("matplotlib.figure", "figure").Figure
    frame_height, frame_width = scene.rgb.shape[1:3]
    layout = plan_figure(len(frames), frame_height, frame_width, width_in, legend=legend)
    if not (layout.row >= 0.2 and 20 <= dpi <= 1200):
        raise UserError(f"{width_in:g} inches at {dpi} dpi is not a valid figure size; try 7 inches at 300 dpi")
    cell = max(round(layout.row * dpi), 1), max(round(layout.columns[0] * dpi), 1)
    view = cell[0], max(round(layout.columns[-1] * dpi), 1)
    renderer = PanelRenderer(
        scene,
        cell=cell,
        pair=view,
        view=view,
        azimuths_deg=(turn_deg,),
        spacing_px=17 * dpi / _SCREEN_DPI / 2,
        most_points=_POINTS,
    )
    figure = Figure(figsize=(layout.width, layout.height))
    for row, frame in enumerate(frames):
        panels = renderer.at(frame, turn_deg)
        pictures = fit_image(panels.input, *cell), panels.tracks, panels.pair, panels.reconstruction, panels.trajectories
        for column, picture in enumerate(pictures):
            axes = figure.add_axes(layout.place(row, column))
            axes.imshow(picture, aspect="auto", interpolation="none")
            axes.set_axis_off()
        _row_name(figure, layout, row, scene, frame)
    _headings(figure, layout)
    if legend:
        figure.text(
            layout.left / layout.width, 0.5 * layout.bottom / layout.height, _LEGEND, fontsize=6, color=_hex(GREY), va="center"
        )
    return figure


def _row_name(figure: "Figure", layout: FigureLayout, row: int, scene: Scene, frame: int) -> None:
    _, bottom, _, height = layout.place(row, 0)
    name = f"t = {float(scene.time_s[frame]):.2f} s" + (" (anchor)" if frame == scene.anchor_index else "")
    x = 0.42 * layout.left / layout.width
    figure.text(x, bottom + height / 2, name, fontsize=_LETTERS_PT, color=_hex(INK), rotation=90, ha="center", va="center")


def _headings(figure: "Figure", layout: FigureLayout) -> None:
    """Draw headings above the first row; the heading of the pair names its two colours."""
    upper, lower = (1 - share * layout.top / layout.height for share in (0.28, 0.72))
    names = (("Video", ""), ("Tracks", ""), ("Pair output", ""), ("Accumulated", "reconstruction"), ("Accumulated", "tracking"))
    for column, (first, second) in enumerate(names):
        left, _, width, _ = layout.place(0, column)
        middle = left + width / 2
        alone = column < 2
        figure.text(middle, lower if alone else upper, first, fontsize=_LETTERS_PT, color=_hex(INK), ha="center", va="center")
        if second:
            figure.text(middle, lower, second, fontsize=_LETTERS_PT, color=_hex(INK), ha="center", va="center")
    left, _, width, _ = layout.place(0, 2)
    middle, apart = left + width / 2, 0.02 / layout.width
    figure.text(middle - apart, lower, "tracking", fontsize=_LETTERS_PT, color=_hex(TRACKING), ha="right", va="center")
    figure.text(middle + apart, lower, "reconstr.", fontsize=_LETTERS_PT, color=_hex(RECONSTRUCTION), ha="left", va="center")


def _hex(colour: Colour) -> str:
    return "#" + "".join(f"{channel:02x}" for channel in colour)
