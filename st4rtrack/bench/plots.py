"""Plots of a report. matplotlib is optional and imported late; figures are drawn without its global state."""

import importlib.util
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from st4rtrack.bench.scores import NO_SET, Curve, Group, Key, Scores, set_of
from st4rtrack.io.files import whole_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARK = "st4rtrack bench report"
"""In the metadata of every plot, so that a later report knows its own files."""

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#555555")
"""Okabe and Ito's palette, told apart by colour-blind readers, without its yellow, which is pale on white."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X")
STYLES: tuple[Any, ...] = ("-", "--", ":", "-.")
INK, QUIET = "#333333", "#D9D9D9"

_CURVES = {
    "time": "Error over time",
    "distance": "Error by distance",
    "motion": "Error by motion",
}
_AXES = {
    "time": "frame",
    "distance": "true distance from the first camera (m)",
    "motion": "length of the true path (m)",
}
_APD, _EPE = "APD (%), higher is better", "EPE (m), lower is better"


def has_matplotlib() -> bool:
    """Whether plots can be drawn."""
    return importlib.util.find_spec("matplotlib") is not None


def plot_group(group: Group, folder: Path) -> list[tuple[str, Path]]:
    """Draws what the scores of one protocol allow, each plot as PNG and PDF.

    Args:
        group: score files of one protocol.
        folder: where the plots go.
    Returns:
        Title and PNG of each; the PDF is beside it under the same name.
    """
    plots = []
    for name, title in _CURVES.items():
        scores = [one for one in group.scores if name in one.curves]
        if scores:
            figure = _curves(name, title, scores, _looks(group))
            plots.append((title, _save(figure, folder / f"error_{name}_{group.slug}.png")))
    sets = list(dict.fromkeys(set_of(name) for one in group.scores for name in one.sequences))
    for k, of in enumerate(sets):
        title = "APD of single sequences" + (f", {of}" if of != NO_SET else "")
        if (figure := _bars(title, of, group)) is not None:
            number = f"_{k + 1}" if len(sets) > 1 else ""
            plots.append((title, _save(figure, folder / f"apd_sequences_{group.slug}{number}.png")))
    return plots


def _looks(group: Group) -> dict[str, dict[str, Any]]:
    """Colour, marker and line of each method: the same in all plots of a protocol."""
    return {
        one.label: {
            "color": COLOURS[k % len(COLOURS)],
            "marker": MARKERS[k % len(MARKERS)],
            "linestyle": STYLES[k // len(COLOURS) % len(STYLES)],
        }
        for k, one in enumerate(group.scores)
    }


def _curves(name: str, title: str, scores: Sequence[Scores], looks: dict[str, dict[str, Any]]) -> "Figure":
    """Two panels, EPE and APD; a line per method."""
    figure = _figure(9.5, max(3.4, 0.9 + 0.36 * len(scores)))
    panels = figure.subplots(1, 2)
    curves = {one.label: one.curves[name] for one in scores}
    for axes, what, label in zip(panels, ("epe", "apd"), (_EPE, _APD)):
        for method, curve in curves.items():
            values = getattr(curve, what)
            at = curve.at if name == "time" else range(len(values))
            known = [(x, value) for x, value in zip(at, values) if value is not None]
            look = looks[method] | ({"marker": "none"} if len(known) > 12 else {})
            axes.plot([x for x, _ in known], [y for _, y in known], linewidth=1.8, markersize=5, **look)
        _quiet(axes, label, "y")
        axes.set_ylim(0, 100 if what == "apd" else None)
        if name != "time":
            _label_bins(axes, list(curves.values()))
    figure.supxlabel(_AXES[name] + (_counted(curves) if name != "time" else ""), fontsize=9, color=INK)
    figure.suptitle(f"{title}: tracking, all points, global median alignment", fontsize=10.5, color=INK)
    _legend(figure, panels[0].lines, list(curves))
    return figure


def _label_bins(axes: "Axes", curves: list[Curve]) -> None:
    """Names of the bins under a panel; how many points they hold, where that is the same for all methods."""
    longest = max(curves, key=lambda curve: len(curve.points))
    edges = [None if edge is None else f"{edge:g}" for edge in longest.at]
    names = [f"{low}–{high}" if high else f"over {low}" for low, high in pairwise(edges)]
    if len({curve.points for curve in curves}) == 1:
        names = [f"{name}\n{_short(count)}" for name, count in zip(names, longest.points)]
    axes.set_xticks(range(len(names)), names)
    axes.set_xlim(-0.4, len(names) - 0.6)


def _counted(curves: dict[str, Curve]) -> str:
    return "; below, points counted" if len({curve.points for curve in curves.values()}) == 1 else ""


def _short(count: float) -> str:
    """1234567 -> 1.2M."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.2g}{unit}" if count < 100 * size else f"{count / size:.0f}{unit}"
    return f"{count:.0f}"


def _bars(title: str, of: str, group: Group) -> "Figure | None":
    """A bar per sequence and method; tracking and reconstruction side by side where there are both."""
    parts = {
        "tracking, all points": Key("tracking", "all", "median", "apd"),
        "reconstruction": Key("reconstruction", "", "median", "apd"),
    }
    names = list(dict.fromkeys(name for one in group.scores for name in one.sequences if set_of(name) == of))
    parts = {
        label: key
        for label, key in parts.items()
        if any(one.sequences.get(name, {}).get(key) is not None for one in group.scores for name in names)
    }
    if not parts:
        return None
    thick = min(0.8 / len(group.scores), 0.3)
    figure = _figure(3.2 + 3.2 * len(parts), 1.3 + len(names) * max(0.3, 0.13 * len(group.scores)))
    panels = figure.subplots(1, len(parts), sharey=True, squeeze=False)[0]
    bars = []
    for axes, (label, key) in zip(panels, parts.items()):
        bars = [
            axes.barh(
                [row + (k - (len(group.scores) - 1) / 2) * thick for row in range(len(names))],
                [one.sequences.get(name, {}).get(key) or 0.0 for name in names],
                height=thick * 0.9,
                color=look["color"],
                alpha=1 if k < len(COLOURS) else 0.55,
            )
            for k, (one, look) in enumerate(zip(group.scores, _looks(group).values()))
        ]
        _quiet(axes, label, "x")
        axes.set_xlim(0, 100)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
    panels[0].set_yticks(range(len(names)), [_fitting(name.rpartition("/")[2], 28) for name in names])
    for text in panels[0].get_yticklabels():
        text.set_parse_math(False)
    figure.supxlabel(f"{_APD}; global median alignment", fontsize=9, color=INK)
    figure.suptitle(_fitting(title, 60), fontsize=10.5, color=INK, parse_math=False)
    _legend(figure, bars, [one.label for one in group.scores])
    return figure


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=150, layout="constrained")


def _quiet(axes: "Axes", title: str, grid: str) -> None:
    """Nothing drawn that is not read: no box, a pale grid along one axis, the panel's figure above it."""
    axes.set_title(title, fontsize=9, loc="left", color=INK)
    axes.spines[["top", "right", "left" if grid == "y" else "bottom"]].set_visible(False)
    axes.spines[:].set_color(QUIET)
    axes.grid(axis="y" if grid == "y" else "x", color=QUIET, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8, colors=INK, length=0)


def _legend(figure: "Figure", handles: Sequence[Any], labels: Sequence[str]) -> None:
    shown = [_fitting(label, 34) for label in labels]
    legend = figure.legend(handles, shown, loc="outside right upper", frameon=False, fontsize=8, labelcolor=INK)
    for text in legend.get_texts():
        text.set_parse_math(False)


def _fitting(text: str, length: int) -> str:
    """Cut in the middle, where names of models and files differ least; names that begin with _ would be hidden."""
    if len(text) > length:
        text = f"{text[: length // 2 - 1]}…{text[-length // 2 :]}"
    return f" {text}" if text.startswith("_") else text


def _save(figure: "Figure", path: Path) -> Path:
    with whole_file(path) as file:
        figure.savefig(file, format="png", metadata={"Software": MARK})
    with whole_file(path.with_suffix(".pdf")) as file:
        figure.savefig(file, format="pdf", metadata={"Creator": MARK, "CreationDate": None})
    return path
