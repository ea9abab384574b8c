"""Plots of a report. matplotlib is optional and imported late; figures are drawn without its global state."""

import importlib.util
import logging
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from st4rtrack.bench.score_files import NO_SET, set_of
from st4rtrack.bench.scores import Group, Key, ScoreCurve, Scores
from st4rtrack.io.files import whole_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

logger = logging.getLogger(__name__)

MARK = "st4rtrack bench report"
"""Written to the metadata of every plot, so that a later report recognises its own files."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#555555")
"""Okabe and Ito's colour-blind safe palette, without its yellow, which is pale on white."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
STYLES: tuple[Any, ...] = ("-", "--", ":", "-.")
HATCHES = (None, "////", "....", "xxxx")
INK, QUIET = "#333333", "#D9D9D9"
LABEL_LENGTH = 34
MAX_BARS_IN = 30.0
"""Maximum length of the bar panel in inches, so that fifty sequences of many methods still give an image that can be opened."""

_CURVES = {
    "time": "Error over time",
    "distance": "Error by distance",
    "motion": "Error by motion",
}
_AXES = {
    "time": "frame",
    "distance": "true distance from the camera of frame 0 (m)",
    "motion": "true path length (m)",
}
_BARS = {
    "tracking, all points": Key("tracking", "all", "median", "apd"),
    "reconstruction": Key("reconstruction", "", "median", "apd"),
}
_APD, _EPE = "APD (%), higher is better", "EPE (m), lower is better"


def has_matplotlib() -> bool:
    """Whether matplotlib is installed, so that plots can be drawn."""
    return importlib.util.find_spec("matplotlib") is not None


def plot_group(group: Group, folder: Path) -> list[tuple[str, Path]]:
    """Draw the plots that the scores of one protocol allow, each as PNG and PDF.

    Args:
        group: score files of one protocol.
        folder: output folder of the plots.
    Returns:
        Title and PNG path of each plot; the PDF has the same name.
    """
    plots = []
    for name, title in _CURVES.items():
        scores = _with_same_bins(name, [one for one in group.scores if name in one.curves])
        if scores:
            figure = _curves(name, title, scores, group)
            plots.append((title, _save(figure, folder / f"error_{name}_{group.slug}.png")))
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


def _looks(group: Group) -> dict[str, dict[str, Any]]:
    """Colour, marker and line style of each method, the same in all plots of a protocol."""
    return {
        one.label: {
            "color": COLOURS[k % len(COLOURS)],
            "marker": MARKERS[k % len(MARKERS)],
            "linestyle": STYLES[k // len(COLOURS) % len(STYLES)],
        }
        for k, one in enumerate(group.scores)
    }


def _curves(name: str, title: str, scores: Sequence[Scores], group: Group) -> "Figure":
    """Figure with two panels, EPE and APD, and one line per method."""
    looks = _looks(group)
    figure = _figure(8.0, max(3.4, 0.9 + 0.18 * len(scores)), [one.label for one in scores])
    panels = figure.subplots(1, 2)
    curves = {one.label: one.curves[name] for one in scores}
    for axes, what, label in zip(panels, ("epe", "apd"), (_EPE, _APD)):
        for method, curve in curves.items():
            values = getattr(curve, what)
            at = curve.at if name == "time" else range(len(values))
            known = [(x, value) for x, value in zip(at, values) if value is not None]
            look = looks[method] | ({"marker": "none"} if len(known) > 12 else {})
            axes.plot([x for x, _ in known], [y for _, y in known], linewidth=1.8, markersize=5, clip_on=False, **look)
        _quiet(axes, label, "y")
        axes.set_ylim(0, 100 if what == "apd" else None)
        if name != "time":
            _label_bins(axes, list(curves.values()))
    figure.supxlabel(_AXES[name] + (_counted(curves) if name != "time" else ""), fontsize=9, color=INK)
    _title(figure, f"{title}: tracking, all points, global median alignment", group)
    _legend(figure, panels[0].lines, list(curves))
    return figure


def _label_bins(axes: "Axes", curves: list[ScoreCurve]) -> None:
    """Label the bins of a panel; with the number of points in each, if it is the same for all methods."""
    edges = [None if edge is None else f"{edge:g}" for edge in curves[0].at]
    names = [f"{low}–{high}" if high is not None else f"over {low}" for low, high in pairwise(edges)]
    if len({curve.points for curve in curves}) == 1:
        names = [f"{name}\n{_short(count)}" for name, count in zip(names, curves[0].points)]
    axes.set_xticks(range(len(names)), names)
    axes.set_xlim(-0.4, len(names) - 0.6)


def _counted(curves: dict[str, ScoreCurve]) -> str:
    return "; below: number of points" if len({curve.points for curve in curves.values()}) == 1 else ""


def _short(count: float) -> str:
    """Abbreviate a count: 1234567 -> 1.2M."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.2g}{unit}" if count < 100 * size else f"{count / size:.0f}{unit}"
    return f"{count:.0f}"


def _bars(title: str, of: str, group: Group) -> "Figure | None":
    """Figure with one bar per sequence and method; tracking and reconstruction side by side if both exist."""
    names = list(dict.fromkeys(name for one in group.scores for name in one.sequences if set_of(name) == of))
    rows = [[one.sequences.get(name, {}) for name in names] for one in group.scores]
    parts = {label: key for label, key in _BARS.items() if any(key in row for method in rows for row in method)}
    if not parts:
        return None
    methods = [one.label for one in group.scores]
    row = min(max(0.3, 0.13 * len(rows)), MAX_BARS_IN / len(names))
    figure = _figure(1.4 + 3.2 * len(parts), max(2.2, 1.3 + len(names) * row, 0.9 + 0.18 * len(rows)), methods)
    panels = figure.subplots(1, len(parts), sharey=True, squeeze=False)[0]
    bars = []
    for axes, (label, key) in zip(panels, parts.items()):
        bars = _bar_panel(axes, [[row.get(key) for row in method] for method in rows], list(_looks(group).values()))
        _quiet(axes, label, "x")
        axes.set_xlim(0, 100)
        axes.set_ylim(len(names) - 0.5, -0.5)
    panels[0].set_yticks(range(len(names)), [_fitting(name.rpartition("/")[2], 28) for name in names])
    for text in panels[0].get_yticklabels():
        text.set_parse_math(False)
    figure.supxlabel(f"{_APD}; global median alignment", fontsize=9, color=INK)
    _title(figure, title, group)
    _legend(figure, bars, methods)
    return figure


def _bar_panel(axes: "Axes", values: list[list[float | None]], looks: list[dict[str, Any]]) -> list[Any]:
    """Draw bars of values [methods][sequences]; a missing value is a dash, not a zero."""
    thick = min(0.8 / len(values), 0.3)
    bars = []
    for k, (of_method, look) in enumerate(zip(values, looks)):
        rows = [row + (k - (len(values) - 1) / 2) * thick for row in range(len(of_method))]
        hatch = HATCHES[k // len(COLOURS) % len(HATCHES)]
        lengths = [value or 0.0 for value in of_method]
        bars.append(axes.barh(rows, lengths, thick * 0.9, color=look["color"], hatch=hatch, edgecolor="white", linewidth=0))
        for row in (row for row, value in zip(rows, of_method) if value is None):
            axes.text(0.8, row, "–", fontsize=8, va="center", color=look["color"])
    return bars


def _figure(width_in: float, height_in: float, labels: Sequence[str]) -> "Figure":
    """Figure with room for a legend at its right."""
    from matplotlib.figure import Figure

    legend_in = 0.7 + 0.075 * max(len(_fitting(label, LABEL_LENGTH)) for label in labels)
    return Figure(figsize=(width_in + legend_in, height_in), dpi=150, layout="constrained")


def _title(figure: "Figure", text: str, group: Group) -> None:
    """Title at the left, clear of the legend; includes the protocol, so that a plot can be passed on alone."""
    shown = f"{_fitting(text, 68)}; {_fitting(group.title, 20)} protocol"
    figure.suptitle(shown, x=0.01, ha="left", fontsize=10.5, color=INK, parse_math=False)


def _quiet(axes: "Axes", title: str, grid: str) -> None:
    """Minimal axes: no box, a pale grid along one axis, the panel title above."""
    axes.set_title(title, fontsize=9, loc="left", color=INK)
    axes.spines[["top", "right", "left" if grid == "y" else "bottom"]].set_visible(False)
    axes.spines[:].set_color(QUIET)
    axes.grid(axis="y" if grid == "y" else "x", color=QUIET, linewidth=0.7)
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
