"""Score files for the report: checked, flattened, uniquely labelled and grouped by protocol."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from st4rtrack.bench.score import FIGURES
from st4rtrack.bench.score_files import FORMAT
from st4rtrack.render.draw import printable
from st4rtrack.types import UserError


class Key(NamedTuple):
    """Key of one metric of a row: "tracking", "all", "median", "apd"; levels that do not apply are empty."""

    part: str
    subset: str
    alignment: str
    figure: str


Figures = dict[Key, float | None]
"""Metrics of a row; those that do not apply are absent, those that could not be computed are None."""

_PARTS = ("tracking", "reconstruction", "tapvid3d", "tapvid3d_camera", "cameras", "depth", "static")
_SUBSETS = ("all", "dynamic", "foreground", "background", "measured")
_ALIGNMENTS = ("median", "sim3", "per_trajectory", "local_neighborhood")


@dataclass(frozen=True)
class ScoreCurve:
    """Error curve under global median alignment.

    Attributes:
        at: [n] frame numbers, or [n + 1] bin edges in metres; a last edge of None is open.
        points: [n] number of counted points.
        apd, epe: [n] percent and metres; None where nothing was counted.
    """

    at: tuple[float | None, ...]
    points: tuple[float, ...]
    apd: tuple[float | None, ...]
    epe: tuple[float | None, ...]


@dataclass(frozen=True)
class Scores:
    """Content of a score file.

    Attributes:
        path: path of the file.
        label: unique name of the method among the files of its report and protocol.
        protocol: settings of the protocol; `name` is always present.
        sequences, sets: metrics by sequence and by folder of sequences.
        mean: mean over all sequences.
        curves: curves of the mean, by "time", "distance", "motion".
        bounds: scores of bounds on the same sequences.
    """

    path: Path
    label: str
    protocol: dict[str, Any]
    sequences: dict[str, Figures]
    sets: dict[str, Figures]
    mean: Figures
    curves: dict[str, ScoreCurve] = field(default_factory=dict)
    bounds: tuple["Scores", ...] = ()

    def count(self, part: str, subset: str) -> int:
        """Number of sequences that have the part."""
        return sum(any(key[:2] == (part, subset) for key in figures) for figures in self.sequences.values())


@dataclass(frozen=True)
class Group:
    """Score files of one protocol; only these may share a table. `slug` is the title in a form for file names."""

    title: str
    slug: str
    scores: list[Scores]

    @property
    def protocol(self) -> dict[str, Any]:
        return self.scores[0].protocol


def read_scores(path: Path) -> Scores:
    """Read and check a score file, possibly written by someone else. Unknown entries are ignored.

    Raises:
        UserError: missing, not JSON, another format, incomplete, or with other units; the message names the file.
    """
    try:
        content = json.loads(path.read_bytes(), parse_constant=lambda _: None)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); pass score files written by bench score") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON ({error}); pass score files written by bench score") from error
    if not isinstance(content, dict) or "format" not in content:
        raise UserError(f"{path} is not a score file; pass score files written by bench score")
    if content["format"] != FORMAT:
        raise UserError(f"{path} has format {content['format']!r}, this version reads {FORMAT}; score again with this version")
    try:
        return _scores(path, content)
    except UserError as error:
        raise UserError(f"{path}: {error}; score again, or repair the file") from error


def group_by_protocol(scores: Iterable[Scores]) -> list[Group]:
    """Group files whose protocols agree in name and settings; labels are made unique within each group."""
    groups: dict[str, list[Scores]] = {}
    for one in scores:
        settings = {key: value for key, value in one.protocol.items() if key != "predicted_with"}
        groups.setdefault(json.dumps(settings, sort_keys=True), []).append(one)
    names, slugs, result = Counter[str](), Counter[str](), []
    for members in groups.values():
        name = members[0].protocol["name"]
        names[name] += 1
        title = name if names[name] == 1 else f"{name}, settings {names[name]}"
        slug = "".join(c if c.isascii() and c.isalnum() else "-" for c in title)
        slugs[slug.casefold()] += 1
        number = slugs[slug.casefold()]
        result.append(Group(title, f"{slug}{number}" if number > 1 else slug, _distinguished(members) + _bounds(members)))
    return result


def _bounds(members: list[Scores]) -> list[Scores]:
    """Bounds of the score files of a group, once per set of sequences, unless they are files of the group."""
    distinct = {(one.label, *sorted(one.sequences)): one for member in members for one in reversed(member.bounds)}
    scored = {(one.label, *sorted(one.sequences)) for one in members}
    return _distinguished([replace(one, label=f"{one.label} (bound)") for key, one in distinct.items() if key not in scored])


def _distinguished(scores: list[Scores]) -> list[Scores]:
    """Make labels unique: shared labels get the file's name or, if that is shared too, its path."""
    for suffix in (lambda path: path.stem, str):
        shared = Counter(one.label for one in scores)
        scores = [
            replace(one, label=printable(f"{one.label} [{suffix(one.path)}]")) if shared[one.label] > 1 else one for one in scores
        ]
    return scores


def _scores(path: Path, content: dict[str, Any]) -> Scores:
    method, protocol, model = content.get("method"), _table(content, "protocol"), content.get("model")
    for name, value in (("method", method), ("protocol", protocol.get("name"))):
        if not isinstance(value, str) or not value:
            raise UserError(f"the {name} has no name")
    units = _table(content, "figures")
    for name in FIGURES.keys() & units.keys():  # percent compared with fractions would look like a discovery
        if (unit := _table(units, name).get("unit")) != FIGURES[name]["unit"]:
            raise UserError(f"{name} is in {unit!r}, it must be in {FIGURES[name]['unit']!r}")
    label = f"{method} ({PurePath(model).name or model})" if isinstance(model, str) and model else str(method)
    bounds = _table(content, "bounds") if "bounds" in content else {}
    scores = _rows(path, label, protocol, content)
    return replace(scores, bounds=tuple(_rows(path, name, protocol, _table(bounds, name)) for name in bounds))


def _rows(path: Path, label: str, protocol: dict[str, Any], content: dict[str, Any]) -> Scores:
    mean, sequences, sets = (_table(content, key) for key in ("mean", "sequences", "sets"))
    if not sequences:
        raise UserError("sequences is empty: the file needs at least one")
    return Scores(
        path,
        printable(label),
        protocol,
        sequences={printable(name): _figures(_table(sequences, name)) for name in sequences},
        sets={printable(name): _figures(_table(sets, name)) for name in sets},
        mean=_figures(mean),
        curves=_curves(mean),
    )


def _table(within: Mapping[str, Any], key: str) -> dict[str, Any]:
    if not isinstance(within.get(key), dict):
        raise UserError(f"{key!r} is missing or not a table")
    return within[key]


def _figures(row: dict[str, Any]) -> Figures:
    figures: Figures = {Key("", "", "", "points"): _number("points", row["points"])} if "points" in row else {}
    for part in _PARTS:
        if part in row:
            figures.update(_walk(_table(row, part), part))
    return figures


def _walk(node: dict[str, Any], part: str, subset: str = "", alignment: str = "") -> Iterator[tuple[Key, float | None]]:
    for name, value in node.items():
        if name in FIGURES or name == "frames":
            yield Key(part, subset, alignment, name), _number(name, value)
        elif name in _SUBSETS:
            yield from _walk(_table(node, name), part, name)
        elif name in _ALIGNMENTS:
            yield from _walk(_table(node, name), part, subset, name)


def _curves(mean: dict[str, Any]) -> dict[str, ScoreCurve]:
    curves = _table(mean, "curves") if "curves" in mean else {}
    names = {"time": "frame", "distance": "edges_m", "motion": "edges_m"}
    return {name: _curve(_table(curves, name), at, name) for name, at in names.items() if name in curves}


def _curve(curve: dict[str, Any], at: str, name: str) -> ScoreCurve:
    columns = {key: curve[key] for key in (at, "points", "apd", "epe") if isinstance(curve.get(key), list)}
    numbers = {key: tuple(_number(f"{name} {key}", value) for value in column) for key, column in columns.items()}
    count, edges = len(numbers.get("points", ())), at == "edges_m"
    if {key: len(column) for key, column in numbers.items()} != {at: count + edges, "points": count, "apd": count, "epe": count}:
        raise UserError(f"the curve {name!r} needs lists of matching lengths for {at}, points, apd, epe")
    if None in numbers[at][: -1 if edges else None]:
        raise UserError(f"the curve {name!r} has gaps in {at}")
    return ScoreCurve(numbers[at], tuple(value or 0 for value in numbers["points"]), numbers["apd"], numbers["epe"])


def _number(name: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UserError(f"{name} must be a number, got {value!r}")
    try:
        return value if math.isfinite(value) else None
    except OverflowError as error:  # integer too large for a float
        raise UserError(f"{name} must be a number of the usual range; it is too large") from error
