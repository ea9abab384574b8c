"""Plots of a report. matplotlib is optional and imported late; figures are drawn without its global state."""

import importlib.util
import logging
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from st4rtrack.bench.score_files import NO_SET, set_of
from st4rtrack.bench.scores import Group, Key, Scores
from st4rtrack.io.files import whole_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

MARK = "st4rtrack bench report"
"""Written to the metadata of every plot, so that a later report recognises its own files."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#555555")
"""Okabe and Ito's colour-blind safe palette, without its yellow, which is pale on white."""
STYLES: tuple[Any, ...] = ("-", "--", ":", "-.")
INK, QUIET = "#333333", "#D9D9D9"
LABEL_LENGTH = 34
MAX_BARS_IN = 30.0
"""Maximum length of the bar panel in inches, so that fifty sequences of many methods still give an image that can be opened."""

_CURVES = {
    "time": ("Error over time", "frame"),
    "distance": ("Error by distance", "true distance from the camera of frame 0 (m)"),
    "motion": ("Error by motion", "true path length (m)"),
}
"""Title and horizontal axis of each curve."""
_BARS = {
    "tracking, all points": Key("tracking", "all", "median", "apd"),
    "reconstruction": Key("reconstruction", "", "median", "apd"),
}
_APD, _EPE = "APD (%), higher is better", "EPE (m), lower is better"


def has_matplotlib() -> bool:
    """Whether matplotlib is installed, so that plots can be drawn."""
    return importlib.util.find_spec("matplotlib") is not None


def plot_group(group: Group, folder: Path) -> list[tuple[str, Path]]:
    """Draw the plots that the scores of one protocol allow into a folder.

    Returns:
        Title and PNG path of each plot; a PDF of the same name is beside it.
    """
    plots = []
    for name, (title, _) in _CURVES.items():
        if scores := _with_same_bins(name, [one for one in group.scores if name in one.curves]):
            plots.append((title, _save(_curves(name, scores, group), folder / f"error_{name}_{group.slug}.png")))
    sets = list(dict.fromkeys(set_of(name) for one in group.scores for name in one.sequences))
    for k, of in enumerate(sets):
        title = "APD per sequence" + (f", {of}" if of != NO_SET else "")
        if (figure := _bars(title, of, group)) is not None:
            number = f"_{k + 1}" if len(sets) > 1 else ""
            plots.append((title, _save(figure, folder / f"apd_sequences_{group.slug}{number}.png")))
    return plots


def _with_same_bins(name: str, scores: list[Scores]) -> list[Scores]:
    """Scores whose bins equal those of the first; others cannot share its axis."""
    same = [one for one in scores if name == "time" or one.curves[name].at == scores[0].curves[name].at]
    for one in scores:
        if one not in same:
            logger.warning("%s: bins of %s differ from those of %s; left out of that plot", one.path, name, scores[0].path)
    return same


def _curves(name: str, scores: Sequence[Scores], group: Group) -> "Figure":
    """Figure with two panels, EPE and APD, and one line per method."""
    title, axis = _CURVES[name]
    labels = [one.label for one in scores]
    figure = _figure(8.0, max(3.4, 0.9 + 0.18 * len(scores)), f"{title}: tracking, all points, global median alignment", group)
    panels = figure.subplots(1, 2)
    curves = [one.curves[name] for one in scores]
    same_points = name != "time" and len({curve.points for curve in curves}) == 1
    for axes, what, label in zip(panels, ("epe", "apd"), (_EPE, _APD)):
        for method, curve in zip(labels, curves):
            values = [float("nan") if value is None else value for value in getattr(curve, what)]
            at = curve.at if name == "time" else range(len(values))
            k = [one.label for one in group.scores].index(method)  # the same look in all plots
            marker = "o" if len(values) <= 12 else None
            colour, style = COLOURS[k % len(COLOURS)], STYLES[k // len(COLOURS) % len(STYLES)]
            axes.plot(at, values, linewidth=1.8, marker=marker, markersize=5, clip_on=False, color=colour, linestyle=style)
        _quiet(axes, label, "y")
        axes.set_ylim(0, 100 if what == "apd" else None)
        if name != "time":
            _label_bins(axes, curves[0].at, curves[0].points if same_points else None)
    figure.supxlabel(axis + ("; below: number of points" if same_points else ""), fontsize=9, color=INK)
    _legend(figure, panels[0].lines, labels)
    return figure


def _label_bins(axes: "Axes", at: Sequence[float | None], points: Sequence[float] | None) -> None:
    """Label the bins of a panel; with the number of points in each, if it is the same for all methods."""
    from matplotlib.ticker import EngFormatter

    edges = [None if edge is None else f"{edge:g}" for edge in at]
    names = [f"{low}–{high}" if high is not None else f"over {low}" for low, high in pairwise(edges)]
    if points is not None:
        names = [f"{name}\n{EngFormatter(places=0, sep='')(count)}" for name, count in zip(names, points)]
    axes.set_xticks(range(len(names)), names)
    axes.set_xlim(-0.4, len(names) - 0.6)


def _bars(title: str, of: str, group: Group) -> "Figure | None":
    """Figure with one bar per sequence and method; tracking and reconstruction side by side if both exist."""
    names = list(dict.fromkeys(name for one in group.scores for name in one.sequences if set_of(name) == of))
    rows = [[one.sequences.get(name, {}) for name in names] for one in group.scores]
    parts = {label: key for label, key in _BARS.items() if any(key in row for method in rows for row in method)}
    if not parts:
        return None
    row = min(max(0.3, 0.13 * len(rows)), MAX_BARS_IN / len(names))
    figure = _figure(1.4 + 3.2 * len(parts), max(2.2, 1.3 + len(names) * row, 0.9 + 0.18 * len(rows)), title, group)
    panels = figure.subplots(1, len(parts), sharey=True, squeeze=False)[0]
    thick, bars = min(0.8 / len(rows), 0.3), []
    for axes, (label, key) in zip(panels, parts.items()):
        bars = []
        for k, method in enumerate(rows):
            colour, values = COLOURS[k % len(COLOURS)], [row.get(key) for row in method]
            at = [place + (k - (len(rows) - 1) / 2) * thick for place in range(len(values))]
            bars.append(axes.barh(at, [value or 0.0 for value in values], thick * 0.9, color=colour))
            for place in (place for place, value in zip(at, values) if value is None):  # a dash, not a zero
                axes.text(0.8, place, "–", fontsize=8, va="center", color=colour)
        _quiet(axes, label, "x")
        axes.set_xlim(0, 100)
        axes.set_ylim(len(names) - 0.5, -0.5)
    panels[0].set_yticks(range(len(names)), [_fitting(name.rpartition("/")[2], 28) for name in names], parse_math=False)
    figure.supxlabel(f"{_APD}; global median alignment", fontsize=9, color=INK)
    _legend(figure, bars, [one.label for one in group.scores])
    return figure


def _figure(width_in: float, height_in: float, title: str, group: Group) -> "Figure":
    """Figure with room for a legend at its right; its title names the protocol, so that a plot can be passed on alone."""
    from matplotlib.figure import Figure

    legend_in = 0.7 + 0.075 * max(len(_fitting(one.label, LABEL_LENGTH)) for one in group.scores)
    figure = Figure(figsize=(width_in + legend_in, height_in), dpi=150, layout="constrained")
    shown = f"{_fitting(title, 68)}; {_fitting(group.title, 20)} protocol"
    figure.suptitle(shown, x=0.01, ha="left", fontsize=10.5, color=INK, parse_math=False)
    return figure


def _quiet(axes: "Axes", title: str, grid: Any) -> None:
    """Minimal axes: no box, a pale grid along one axis, the panel title above."""
    axes.set_title(title, fontsize=9, loc="left", color=INK)
    axes.spines[["top", "right", "left" if grid == "y" else "bottom"]].set_visible(False)
    axes.spines[:].set_color(QUIET)
    axes.grid(axis=grid, color=QUIET, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8, colors=INK, length=0)


def _legend(figure: "Figure", handles: Sequence[Any], labels: Sequence[str]) -> None:
    shown = [_fitting(label, LABEL_LENGTH) for label in labels]
    legend = figure.legend(handles, shown, loc="outside right upper", frameon=False, fontsize=8, labelcolor=INK, handlelength=2.6)
    for text in legend.get_texts():
        text.set_parse_math(False)


def _fitting(text: str, length: int) -> str:
    """Shorten text in the middle, where names differ least; a space protects names that begin with _ (matplotlib drops them)."""
    if len(text) > length:
        text = f"{text[: length // 2 - 1]}…{text[-length // 2 :]}"
    return f" {text}" if text.startswith("_") else text


def _save(figure: "Figure", path: Path) -> Path:
    with whole_file(path) as file:
        figure.savefig(file, format="png", metadata={"Software": MARK})
    with whole_file(path.with_suffix(".pdf")) as file:
        figure.savefig(file, format="pdf", metadata={"Creator": MARK, "CreationDate": None})
    return path
