"""Tables of a report, independent of the output format: one protocol each, scored rows ranked, transcribed rows unranked."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from math import fsum

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
    "calibration_error": "calibration error",
    "ate": "ATE",
    "rpe_translation": "RPE translation",
    "rpe_rotation": "RPE rotation",
    "focal_error": "focal error",
    "static_motion": "motion of static points",
    "abs_rel": "AbsRel",
    "delta_1_25": "within 1.25",
    "delta_1_03": "within 1.03",
    "scale_drift": "scale drift",
    "points": "points",
    "frames": "frames",
}
_DIGITS = {"%": 2, "m": 4, "degrees": 3, "ratio": 4}
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


IN_FRAMES = ("cameras", "static")
"""Parts whose metrics are counted in frames, not in points."""


@dataclass(frozen=True)
class Column:
    """Column of numbers: `heading` (a set, for instance) above the metric's name; `better` is higher, lower or None."""

    heading: str
    name: str
    unit: str
    better: str | None
    digits: int


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
    source: str = ""
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
        """Cells [lines][columns] as (text, whether it is the best of its rank, as displayed)."""
        texts = [[_shown(value, column) for value, column in zip(line.values, self.columns)] for line in self.lines]
        best = [self._best(texts, k) for k in range(len(self.columns))]
        return [
            [(text, line.rank is not None and text == best[k].get(line.rank)) for k, text in enumerate(row)]
            for line, row in zip(self.lines, texts)
        ]

    def _best(self, texts: list[list[str]], column: int) -> dict[str, str]:
        """Text of the best value by rank; none if a line has no competitor or the metric has no better direction."""
        better = self.columns[column].better
        ranks: dict[str, list[tuple[float, str]]] = {}
        for line, row in zip(self.lines, texts):
            value = line.values[column]
            if line.rank is not None and value is not None:
                ranks.setdefault(line.rank, []).append((float(value), row[column]))
        if better is None:
            return {}
        choose = max if better == "higher" else min
        return {rank: choose(values)[1] for rank, values in ranks.items() if len(values) > 1}


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
    rows = [
        (name, one.label, one.sequences[name])
        for name in dict.fromkeys(name for one in group.scores for name in one.sequences)
        for one in group.scores
        if name in one.sequences
    ]
    tables = []
    for title, parts in IN_SEQUENCES.items():
        shown = [
            (heading, part.key(figure))
            for heading, part in parts
            for figure in part.figures
            if any(part.key(figure) in figures for _, _, figures in rows)
        ]
        columns = tuple(_column(heading, key.figure) for heading, key in shown)
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
        columns = [_column(published.sets.get(name, name), figure) for name in sets + printed_mean for figure in part.figures]
        if rows:
            lines = tuple(_transcribed(row, part, sets, bool(printed_mean)) for row in rows)
            tables.append(Table(part.title, ("method",), tuple(columns), lines))
    return tables


def _part_table(part: Part, scores: Sequence[Scores], published: bool) -> Table:
    part = replace(part, figures=tuple(figure for figure in part.figures if any(part.key(figure) in one.mean for one in scores)))
    sets = [name for name in dict.fromkeys(name for one in scores for name in one.sets) if _has(part, name, scores)]
    with_mean = len(sets) > 1
    headings = [*sets, MEAN_OF_SETS] if with_mean else ["" if name == NO_SET else name for name in sets]
    columns = [_column(heading, figure) for heading in headings for figure in part.figures]
    counted = "frames" if part.part in IN_FRAMES else "points"
    columns += [Column("", "sequences", "", None, 0), Column("", counted, "", None, 0)]
    lines = [Line((one.label,), _values(one, part, sets, with_mean, counted)) for one in scores]
    if published and (ours := [name for name in map(published_set, sets) if name]):
        rows = [row for row in read_published().select(part.part, part.subset, part.alignment) if _covers(row, ours)]
        lines += [_transcribed(row, part, sets, with_mean, ("sequences", counted)) for row in rows]
    return Table(part.title, ("method",), tuple(columns), tuple(lines))


def _has(part: Part, name: str, scores: Iterable[Scores]) -> bool:
    return any(part.key(figure) in one.sets.get(name, {}) for one in scores for figure in part.figures)


def _values(one: Scores, part: Part, sets: list[str], with_mean: bool, counted: str) -> tuple[Value, ...]:
    by_set = [[one.sets.get(name, Figures()).get(part.key(figure)) for figure in part.figures] for name in sets]
    values: list[Value] = [value for figures in by_set for value in figures]
    if with_mean:
        values += [_mean(column) for column in zip(*by_set)]
    points = one.mean.get(Key(part.part, part.subset, "", counted))
    return (*values, one.count(part.part, part.subset), points)


def _mean(values: Sequence[float | None]) -> float | None:
    """Mean over all sets; None if one is missing, because a mean over other sets is a different metric."""
    known = [value for value in values if value is not None]
    return fsum(known) / len(known) if len(known) == len(values) else None


def _covers(row: PublishedRow, sets: Iterable[str]) -> bool:
    return any(row.figures.get(name) for name in sets)


def _transcribed(row: PublishedRow, part: Part, sets: list[str], with_mean: bool, counts: tuple[str, ...] = ()) -> Line:
    """A published row in the columns of a table. A printed mean is shown only if the table has exactly the sets of that mean."""
    names: list[str | None] = [published_set(name) for name in sets]
    if with_mean:
        over = {name for name in row.figures if name != MEAN}
        names.append(MEAN if set(names) == over else None)
    values = [row.figures.get(name or "", {}).get(figure) for name in names for figure in part.figures]
    return Line((row.method,), (*values, *(None for _ in counts)), None, row.cited, row.notes)


def _column(heading: str, figure: str) -> Column:
    unit = str(FIGURES[figure]["unit"])
    return Column(heading, NAMES[figure], unit, FIGURES[figure]["better"], _DIGITS[unit])


def _shown(value: Value, column: Column) -> str:
    if value is None:
        return "–"
    return str(value) if isinstance(value, Decimal) else f"{value:,.{column.digits}f}"


def _plain(value: object) -> object:
    """Convert to what JSON returns (for comparison)."""
    return [_plain(part) for part in value] if isinstance(value, list | tuple) else value
