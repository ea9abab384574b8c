"""Tables of a report: one protocol each, scored rows ranked, transcribed rows unranked; as Markdown, LaTeX and CSV."""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from itertools import groupby
from math import fsum
from typing import NamedTuple

from st4rtrack.bench.protocol import PUBLISHED
from st4rtrack.bench.published import MEAN, PublishedRow, published_set, read_published
from st4rtrack.bench.score import FIGURES
from st4rtrack.bench.score_files import NO_SET
from st4rtrack.bench.scores import Figures, Group, Key, Scores

Value = float | Decimal | None

NAMES = {
    "apd": "APD",
    "epe": "EPE",
    "aj": "AJ",
    "oa": "OA",
    "ate": "ATE",
    "rpe_translation": "RPE translation",
    "rpe_rotation": "RPE rotation",
    "static_motion": "motion of static points",
    "abs_rel": "AbsRel",
    "delta_1_25": "within 1.25",
    "delta_1_03": "within 1.03",
}
_DIGITS = {"%": 2, "m": 4, "degrees": 3, "ratio": 4}
_ARROWS = {"higher": "↑", "lower": "↓"}
MEAN_OF_SETS = "mean of sets"


@dataclass(frozen=True)
class Part:
    """Topic of a table: metrics of the same part of the score files."""

    title: str
    part: str
    subset: str
    alignment: str
    figures: tuple[str, ...]

    def key(self, figure: str) -> Key:
        return Key(self.part, self.subset, self.alignment, figure)


_ERRORS = ("apd", "epe")
_DEPTH = ("abs_rel", "delta_1_25", "delta_1_03")
_TAPVID3D = ("aj", "apd", "oa")
PARTS = (
    Part("Tracking, all points, global median alignment", "tracking", "all", "median", _ERRORS),
    Part("Tracking, all points, SIM(3) alignment", "tracking", "all", "sim3", _ERRORS),
    Part("Tracking, dynamic points, global median alignment", "tracking", "dynamic", "median", _ERRORS),
    Part("Tracking, dynamic points, SIM(3) alignment", "tracking", "dynamic", "sim3", _ERRORS),
    Part("Reconstruction, global median alignment", "reconstruction", "", "median", _ERRORS),
    Part("Reconstruction, SIM(3) alignment", "reconstruction", "", "sim3", _ERRORS),
    Part("Cameras", "cameras", "", "", ("ate", "rpe_translation", "rpe_rotation", "focal_error")),
    Part("Depth, relative", "depth", "", "", (*_DEPTH, "scale_drift")),
    Part("Depth, foreground", "depth", "foreground", "", _DEPTH),
    Part("Depth, background", "depth", "background", "", _DEPTH),
    Part("Depth, pixels measured by several views", "depth", "measured", "", _DEPTH),
    Part("Motion of static points", "static", "", "", ("static_motion",)),
    Part("TAPVid-3D metrics, world frame", "tapvid3d", "", "", (*_TAPVID3D, "calibration_error")),
    Part("TAPVid-3D metrics, camera frame, global median scale", "tapvid3d_camera", "", "median", _TAPVID3D),
    Part("TAPVid-3D metrics, camera frame, scale per trajectory", "tapvid3d_camera", "", "per_trajectory", _TAPVID3D),
    Part(
        "TAPVid-3D metrics, camera frame, scale per local neighbourhood", "tapvid3d_camera", "", "local_neighborhood", _TAPVID3D
    ),
)
_ALL_MEDIAN, _ALL_SIM3, _DYNAMIC_MEDIAN, _, _RECONSTRUCTION, _, _CAMERAS, _RELATIVE_DEPTH, _, _, _, _STATIC, *_ = PARTS
IN_SEQUENCES = {
    "Single sequences": (
        ("all, median", _ALL_MEDIAN),
        ("all, SIM(3)", _ALL_SIM3),
        ("dynamic, median", _DYNAMIC_MEDIAN),
        ("reconstruction, median", _RECONSTRUCTION),
    ),
    "Single sequences, depth and cameras": (("", _RELATIVE_DEPTH), ("", _CAMERAS), ("", _STATIC)),
}
"""Metrics of the tables of single sequences, with their column headings."""


class Column(NamedTuple):
    """Column of numbers: a metric, or a count, under a heading (a set, for instance)."""

    heading: str
    figure: str

    @property
    def unit_and_direction(self) -> tuple[str, str | None]:
        """Unit and better direction of a metric; ("", None) for counts."""
        figure = FIGURES.get(self.figure, {})
        return ("", None) if figure.get("unit", "count") == "count" else (str(figure["unit"]), figure["better"])

    def name(self) -> str:
        """Heading of a metric: name, unit and an arrow for the better direction."""
        unit, better = self.unit_and_direction
        name = NAMES.get(self.figure, self.figure.replace("_", " "))
        return " ".join(filter(None, (name, unit and f"({unit})", _ARROWS.get(better or ""))))

    def text(self, value: Value) -> str:
        """Format a value; transcribed ones keep their digits."""
        if value is None:
            return "–"
        return str(value) if isinstance(value, Decimal) else f"{value:,.{_DIGITS.get(self.unit_and_direction[0], 0)}f}"


@dataclass(frozen=True)
class Line:
    """Row of a table.

    Attributes:
        labels: one for each label column.
        values: one for each column of numbers.
        rank: lines of equal rank compete for bold; None for transcribed lines, which do not compete.
        source: source of transcribed scores.
        notes: keys of notes on them.
    """

    labels: tuple[str, ...]
    values: tuple[Value, ...]
    rank: str | None = ""
    source: str = "scored here"
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """Table: lines and columns."""

    title: str
    labels: tuple[str, ...]
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]

    @property
    def has_transcribed(self) -> bool:
        return any(line.rank is None for line in self.lines)

    def cells(self) -> list[list[tuple[str, bool]]]:
        """Cells [lines][columns] with labels and, if lines are transcribed, sources: text, and whether it is the best."""
        letters = note_letters()
        best = [self._best(k) for k in range(len(self.columns))]
        rows = []
        for line in self.lines:
            *labels, last = line.labels
            if line.rank is None:
                notes = ", ".join(sorted(letters[note] for note in line.notes))
                last = f"{last} †{notes and f' ({notes})'}"
            texts = [column.text(value) for column, value in zip(self.columns, line.values)]
            is_best = [line.rank is not None and text == of_rank.get(line.rank) for text, of_rank in zip(texts, best)]
            source = [(line.source, False)] if self.has_transcribed else []
            rows.append([*((label, False) for label in (*labels, last)), *zip(texts, is_best), *source])
        return rows

    def _best(self, k: int) -> dict[str, str]:
        """Text of the best value of a column by rank; none if a line has no competitor or the metric has no better direction."""
        column, ranks = self.columns[k], dict[str, list[Value]]()
        better = column.unit_and_direction[1]
        for line in self.lines:
            if line.rank is not None and line.values[k] is not None:
                ranks.setdefault(line.rank, []).append(line.values[k])
        choose = max if better == "higher" else min
        return {rank: column.text(choose(values)) for rank, values in ranks.items() if len(values) > 1 and better}  # pyright: ignore[reportArgumentType]


def note_letters() -> dict[str, str]:
    """Map from the keys of notes on transcribed rows to the letters a, b, c."""
    return {key: chr(ord("a") + k) for k, key in enumerate(read_published().notes)}


def group_tables(group: Group) -> list[Table]:
    """Make one table per scored part, by set; published scores are added if protocol and sets are the same."""
    tables = []
    for part in PARTS:
        scores = [one for one in group.scores if one.count(part.part, part.subset)]
        if scores:
            tables.append(_part_table(part, scores, is_published(group)))
    return tables


def is_published(group: Group) -> bool:
    """Whether the protocol is the published one, in its settings and not only by name."""
    return all(_plain(group.protocol.get(key, value)) == _plain(value) for key, value in asdict(PUBLISHED).items()) and (
        group.protocol["name"] == PUBLISHED.name
    )


def sequence_tables(group: Group) -> list[Table]:
    """Tables of every sequence with every method, without those of which no metric was scored."""
    names = dict.fromkeys(name for one in group.scores for name in one.sequences)
    rows = [(name, one.label, one.sequences[name]) for name in names for one in group.scores if name in one.sequences]
    tables = []
    for title, parts in IN_SEQUENCES.items():
        keys = [(heading, part.key(figure)) for heading, part in parts for figure in part.figures]
        shown = [(heading, key) for heading, key in keys if any(key in figures for _, _, figures in rows)]
        columns = tuple(Column(heading, key.figure) for heading, key in shown)
        lines = (Line((name, label), tuple(figures.get(key) for _, key in shown), name) for name, label, figures in rows)
        tables += [Table(title, ("sequence", "method"), columns, tuple(lines))] if shown else []
    return tables


def published_tables() -> list[Table]:
    """Tables of the transcribed scores alone."""
    published, tables = read_published(), []
    for part in PARTS:
        rows = published.select(part.part, part.subset, part.alignment)
        sets = [name for name in published.sets if any(row.figures.get(name) for row in rows)]
        printed_mean = [MEAN_OF_SETS] if any(MEAN in row.figures for row in rows) else []
        columns = (Column(published.sets.get(name, name), figure) for name in sets + printed_mean for figure in part.figures)
        if rows:
            lines = tuple(_transcribed(row, part, sets, bool(printed_mean)) for row in rows)
            tables.append(Table(part.title, ("method",), tuple(columns), lines))
    return tables


def _part_table(part: Part, scores: Sequence[Scores], published: bool) -> Table:
    part = replace(part, figures=tuple(figure for figure in part.figures if any(part.key(figure) in one.mean for one in scores)))
    keys = [part.key(figure) for figure in part.figures]
    sets = [
        name
        for name in dict.fromkeys(name for one in scores for name in one.sets)
        if any(key in one.sets.get(name, {}) for one in scores for key in keys)
    ]
    with_mean = len(sets) > 1
    headings = [*sets, MEAN_OF_SETS] if with_mean else ["" if name == NO_SET else name for name in sets]
    counted = _counted(part.part)
    columns = [Column(heading, figure) for heading in headings for figure in part.figures]
    lines = [Line((one.label,), _values(one, part, sets, with_mean)) for one in scores]
    if published and (ours := [name for name in map(published_set, sets) if name]):
        rows = read_published().select(part.part, part.subset, part.alignment)
        lines += [_transcribed(row, part, sets, with_mean, 2) for row in rows if any(row.figures.get(name) for name in ours)]
    return Table(part.title, ("method",), (*columns, Column("", "sequences"), Column("", counted)), tuple(lines))


def _counted(part: str) -> str:
    """What a part counts: "frames" or "points"."""
    return "frames" if part in ("cameras", "static") else "points"


def _values(one: Scores, part: Part, sets: list[str], with_mean: bool) -> tuple[Value, ...]:
    by_set = [[one.sets.get(name, Figures()).get(part.key(figure)) for figure in part.figures] for name in sets]
    values: list[Value] = [value for figures in by_set for value in figures]
    if with_mean:
        for column in zip(*by_set):  # a mean over other sets is a different metric
            known = [value for value in column if value is not None]
            values.append(fsum(known) / len(known) if len(known) == len(column) else None)
    counted = one.mean.get(Key(part.part, part.subset, "", _counted(part.part)))
    return (*values, one.count(part.part, part.subset), counted)


def _transcribed(row: PublishedRow, part: Part, sets: list[str], with_mean: bool, counts: int = 0) -> Line:
    """A published row in the columns of a table. A printed mean is shown only if the table has exactly the sets of that mean."""
    names: list[str | None] = [published_set(name) for name in sets]
    if with_mean:
        names.append(MEAN if {*names, MEAN} == row.figures.keys() else None)
    values = [row.figures.get(name or "", {}).get(figure) for name in names for figure in part.figures]
    return Line((row.method,), (*values, *[None] * counts), None, row.cited, row.notes)


def _plain(value: object) -> object:
    """Convert a value to the result of writing and reading it as JSON, for comparison."""
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value


_MARKDOWN = {ord(c): f"\\{c}" for c in "\\`*|[]<>"} | dict.fromkeys(map(ord, "\r\n"), " ")
_LATEX = {ord(c): f"\\{c}" for c in "&%$#_{}"} | {
    ord("\\"): r"\textbackslash{}",
    ord("~"): r"\textasciitilde{}",
    ord("^"): r"\textasciicircum{}",
    ord("<"): r"\textless{}",
    ord(">"): r"\textgreater{}",
    ord("["): r"{[}",
    ord("]"): r"{]}",
    ord("–"): "--",
    ord("†"): r"\dag{}",
    ord("↑"): r"$\uparrow$",
    ord("↓"): r"$\downarrow$",
    ord("\r"): " ",
    ord("\n"): " ",
}


def escape_markdown(text: str) -> str:
    """Escape text for Markdown, including tables."""
    return text.translate(_MARKDOWN)


def escape_latex(text: str) -> str:
    """Escape text for LaTeX."""
    return text.translate(_LATEX)


def markdown(table: Table) -> str:
    """Format a table as a pipe table."""
    sources = ["source"] * table.has_transcribed
    headings = [f"{column.heading} {column.name()}".strip() for column in table.columns]
    header = [escape_markdown(text) for text in (*table.labels, *headings, *sources)]
    rule = [":--"] * len(table.labels) + ["--:"] * len(table.columns) + [":--"] * len(sources)
    rows = [[f"**{text}**" if best else escape_markdown(text) for text, best in line] for line in table.cells()]
    return "\n".join(f"| {' | '.join(row)} |" for row in (header, rule, *rows))


def latex(table: Table, caption: str) -> str:
    """Format a table as a LaTeX `table` environment (package booktabs); the caption is escaped here."""
    labels, sources = len(table.labels), ["source"] * table.has_transcribed
    head = [[escape_latex(name) for name in (*table.labels, *(column.name() for column in table.columns), *sources)]]
    if any(column.heading for column in table.columns):
        groups = [(heading, len(list(under))) for heading, under in groupby(table.columns, lambda column: column.heading)]
        spans = [rf"\multicolumn{{{count}}}{{c}}{{{escape_latex(heading)}}}" for heading, count in groups]
        head.insert(0, [" "] * labels + spans + [" "] * len(sources))
    body: list[str] = []
    for transcribed, lines in groupby(zip(table.lines, table.cells()), lambda pair: pair[0].rank is None):
        body += [r"\midrule"] if transcribed and body else []
        for _, cells in lines:
            body.append(_latex_row([rf"\textbf{{{escape_latex(text)}}}" if best else escape_latex(text) for text, best in cells]))
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering\scriptsize\setlength{\tabcolsep}{3pt}",
            rf"\caption{{{escape_latex(caption)}}}",
            rf"\begin{{tabular}}{{{'l' * labels}{'r' * len(table.columns)}{'l' * len(sources)}}}",
            r"\toprule",
            *map(_latex_row, head),
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    )


def _latex_row(texts: list[str]) -> str:
    return " & ".join(texts) + r" \\"


CSV_FIELDS = (
    *("protocol", "method", "level", "name", "part", "subset", "alignment"),
    *("figure", "unit", "better", "value", "points", "source"),
)
TRANSCRIBED = "transcribed"
"""Protocol column of transcribed scores in the CSV: each follows its own source."""


def csv_text(groups: Iterable[Group]) -> str:
    """Format every score as one CSV line, not rounded; empty if it could not be computed."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_FIELDS)
    for group in groups:
        for one in group.scores:
            for level, rows in (("mean", {"mean": one.mean}), ("set", one.sets), ("sequence", one.sequences)):
                for name, figures in rows.items():
                    for key, value in figures.items():
                        if key.figure not in ("points", "frames"):
                            points = figures.get(Key(key.part, key.subset, "", _counted(key.part)))
                            of = (group.title, one.label, level, name, *key)
                            writer.writerow((*of, *_unit(key.figure), value, points, one.path.name))
    for row in read_published().rows:
        for name, values in row.figures.items():
            of = (TRANSCRIBED, row.method, "mean" if name == MEAN else "set", name, row.part, row.subset, row.alignment)
            for figure, value in values.items():
                writer.writerow((*of, figure, *_unit(figure), value, None, row.cited))
    return out.getvalue()


def _unit(figure: str) -> tuple[str, str]:
    return str(FIGURES[figure]["unit"]), FIGURES[figure]["better"] or ""
