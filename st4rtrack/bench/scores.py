"""Score files for the report: checked, flattened, uniquely labelled and grouped by protocol."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from st4rtrack.bench.score import FIGURES
from st4rtrack.bench.score_files import FORMAT, set_of
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

_ERRORS = ("apd", "epe", "scale")
_COUNTS = ("points", "non_finite")
_TAPVID3D = ("aj", "apd", "oa")
_DEPTH = ("abs_rel", "delta_1_25", "delta_1_03")
LAYOUT: dict[tuple[str, str, str], tuple[str, ...]] = {
    ("", "", ""): ("points",),
    ("tracking", "all", "median"): _ERRORS,
    ("tracking", "all", "sim3"): _ERRORS,
    ("tracking", "all", ""): _COUNTS,
    ("tracking", "dynamic", "median"): _ERRORS,
    ("tracking", "dynamic", "sim3"): _ERRORS,
    ("tracking", "dynamic", ""): _COUNTS,
    ("reconstruction", "", "median"): _ERRORS,
    ("reconstruction", "", "sim3"): _ERRORS,
    ("reconstruction", "", ""): _COUNTS,
    ("tapvid3d", "", ""): ("aj", "apd", "oa", "calibration_error", "points"),
    ("tapvid3d_camera", "", "median"): _TAPVID3D,
    ("tapvid3d_camera", "", "per_trajectory"): _TAPVID3D,
    ("tapvid3d_camera", "", "local_neighborhood"): _TAPVID3D,
    ("tapvid3d_camera", "", ""): ("points",),
    ("cameras", "", ""): ("ate", "rpe_translation", "rpe_rotation", "focal_error", "frames"),
    ("depth", "", ""): (*_DEPTH, "scale_drift", *_COUNTS),
    ("depth", "foreground", ""): (*_DEPTH, *_COUNTS),
    ("depth", "background", ""): (*_DEPTH, *_COUNTS),
    ("depth", "measured", ""): (*_DEPTH, *_COUNTS),
    ("static", "", ""): ("static_motion", "frames"),
}
"""Metrics at each position in a row of a score file."""


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

    def count(self, part: str, subset: str, within: str | None = None) -> int:
        """Number of sequences that have the part, in all sets or in one."""
        return sum(
            any(key[:2] == (part, subset) for key in figures)
            for name, figures in self.sequences.items()
            if within is None or set_of(name) == within
        )


@dataclass(frozen=True)
class Group:
    """Score files of one protocol; only these may share a table.

    Attributes:
        title: title of the protocol.
        slug: the title in a form for file names.
        scores: score files, at least one.
    """

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
    except _WrongError as error:
        raise UserError(f"{path}: {error}; score again, or repair the file") from error


def group_by_protocol(scores: Iterable[Scores]) -> list[Group]:
    """Group files whose protocols agree in name and settings; labels are made unique within each group."""
    groups: dict[str, list[Scores]] = {}
    for one in scores:
        settings = {key: value for key, value in one.protocol.items() if key != "predicted_with"}
        groups.setdefault(json.dumps(settings, sort_keys=True), []).append(one)
    names = Counter[str]()
    result = []
    for members in groups.values():
        name = members[0].protocol["name"]
        names[name] += 1
        title = name if names[name] == 1 else f"{name}, settings {names[name]}"
        slug = "".join(c if c.isascii() and c.isalnum() else "-" for c in title)
        taken = sum(group.slug.casefold() == slug.casefold() for group in result)
        result.append(Group(title, f"{slug}{taken + 1}" if taken else slug, _distinguished(members) + _bounds(members)))
    return result


def _bounds(members: list[Scores]) -> list[Scores]:
    """Bounds of the members, once for each choice of sequences, without those that are members themselves."""
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


class _WrongError(ValueError):
    """Error in a score file; the message is the middle of a sentence."""


def _scores(path: Path, content: dict[str, Any]) -> Scores:
    method, protocol = content.get("method"), _table(content, "protocol")
    if not isinstance(method, str) or not method:
        raise _WrongError("the method has no name")
    if not isinstance(protocol.get("name"), str) or not protocol["name"]:
        raise _WrongError("the protocol has no name")
    _require_units(_table(content, "figures"))
    model = content.get("model")
    label = f"{method} ({PurePath(model).name or model})" if isinstance(model, str) and model else method
    bounds = _table(content, "bounds") if "bounds" in content else {}
    scores = _rows(path, label, protocol, content)
    return replace(scores, bounds=tuple(_rows(path, name, protocol, _table(bounds, name)) for name in bounds))


def _rows(path: Path, label: str, protocol: dict[str, Any], content: dict[str, Any]) -> Scores:
    mean, sequences, sets = (_table(content, key) for key in ("mean", "sequences", "sets"))
    if not sequences:
        raise _WrongError("there are no sequences")
    return Scores(
        path=path,
        label=printable(label),
        protocol=protocol,
        sequences={printable(name): _figures(_table(sequences, name)) for name in sequences},
        sets={printable(name): _figures(_table(sets, name)) for name in sets},
        mean=_figures(mean),
        curves=_curves(mean),
    )


def _table(within: Mapping[str, Any], key: str) -> dict[str, Any]:
    if not isinstance(within.get(key), dict):
        raise _WrongError(f"{key!r} is missing or not a table")
    return within[key]


def _require_units(figures: dict[str, Any]) -> None:
    """Check units: percent compared with fractions would look like a discovery."""
    for name, known in FIGURES.items():
        unit = _table(figures, name).get("unit") if name in figures else known["unit"]
        if unit != known["unit"]:
            raise _WrongError(f"{name} is in {unit!r}, it must be in {known['unit']!r}")


def _figures(row: dict[str, Any]) -> Figures:
    figures: Figures = {}
    for steps, names in LAYOUT.items():
        node = row
        for step in filter(None, steps):
            node = _table(node, step) if step in node else {}
        figures |= {Key(*steps, name): _number(name, node[name]) for name in names if name in node}
    return figures


def _curves(mean: dict[str, Any]) -> dict[str, ScoreCurve]:
    curves = _table(mean, "curves") if "curves" in mean else {}
    return {
        name: _curve(_table(curves, name), at, name)
        for name, at in (("time", "frame"), ("distance", "edges_m"), ("motion", "edges_m"))
        if name in curves
    }


def _curve(curves: dict[str, Any], at: str, name: str) -> ScoreCurve:
    columns = {key: curves.get(key) for key in (at, "points", "apd", "epe")}
    lists = {key: column for key, column in columns.items() if isinstance(column, Sequence) and not isinstance(column, str)}
    numbers = {key: tuple(_number(f"{name} {key}", value) for value in column) for key, column in lists.items()}
    points = tuple(value or 0 for value in numbers.get("points", ()))
    expected = {at: len(points) + (at == "edges_m"), "points": len(points), "apd": len(points), "epe": len(points)}
    if {key: len(column) for key, column in numbers.items()} != expected:
        raise _WrongError(f"the curve {name!r} needs lists of matching lengths for {', '.join(columns)}")
    required = numbers[at] if at == "frame" else numbers[at][:-1]
    if None in required:
        raise _WrongError(f"the curve {name!r} has gaps in {at}")
    return ScoreCurve(numbers[at], points, numbers["apd"], numbers["epe"])


def _number(name: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _WrongError(f"{name} must be a number, got {value!r}")
    try:
        return value if math.isfinite(value) else None
    except OverflowError as error:  # integer too large for a float
        raise _WrongError(f"{name} is too large") from error
