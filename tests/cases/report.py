"""The table of the cases, and figures over all of them."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tests.cases.expectations import failures
from tests.cases.measure import Row, is_good
from tests.cases.table import CODES, GENERIC, Case

FIGURES = ("reprojection_px", "flow_agreement_px", "max_camera_step")
ERRORS = ("angle_deg", "angle_max_deg", "abs_rel")
KINDS = {
    "geometry": "Geometry: what the camera does",
    "picture": "Picture: what was done to the frames",
    "reading": "Reading",
    "system": "System",
    "sequence": "Sequences",
}


def write_report(cases: Sequence[Case], results: dict[str, Row], folder: Path) -> None:
    """Writes `cases.md` from the results and from `cases_before.json` beside it."""
    stored = folder / "cases_before.json"
    before = _judged(cases, json.loads(stored.read_text(encoding="utf-8"))["results"] if stored.exists() else {})
    results = _judged(cases, results)
    lines = [
        "# Cases that people report: before, now",
        "",
        "`make cases` runs them all; `tests/cases/table.py` says what is right. Before is commit 0e6ca57.",
    ]
    lines += [
        "Figures: mean camera angle error, rotation error of the step from the anchor to its neighbour, focal length over the truth,",
        "AbsRel, share of solved frames, warning codes.",
        "",
    ]
    lines += _summary(cases, before, results)
    for kind, title in KINDS.items():
        chosen = [case for case in cases if case.kind == kind]
        if chosen:
            lines += ["", f"## {title}", "", "| case | reported in | before | now |", "|---|---|---|---|"]
            lines += [f"| {c.name} | {c.reported} | {_cell(c, before)} | {_cell(c, results)} |" for c in chosen]
    lines += [
        "",
        "## Warnings",
        "",
        *_codes(cases, results),
        "",
        "## Figures of the quality report against the true error",
        "",
        *_correlations(results),
    ]
    (folder / "cases.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def _judged(cases: Sequence[Case], rows: dict[str, Row]) -> dict[str, Row]:
    """The rows of the cases, by the expectations of today."""
    return {case.name: rows[case.name] | {"failures": failures(case, rows[case.name])} for case in cases if case.name in rows}


def _summary(cases: Sequence[Case], before: dict[str, Row], now: dict[str, Row]) -> list[str]:
    lines = ["| kind | cases | right before | right now | time |", "|---|---|---|---|---|"]
    for kind in (*KINDS, "clean"):
        names = [case.name for case in cases if case.kind == kind]
        if names:
            time = sum(now[name]["seconds"] for name in names if name in now)
            lines.append(f"| {kind} | {len(names)} | {_right(names, before)} | {_right(names, now)} | {time / 60:.1f} min |")
    return lines


def _right(names: list[str], rows: dict[str, Row]) -> str:
    run = [name for name in names if name in rows]
    return f"{sum(not rows[name]['failures'] for name in run)} of {len(run)}"


def _cell(case: Case, rows: dict[str, Row]) -> str:
    row = rows.get(case.name)
    if row is None:
        return "not run"
    if "skipped" in row:
        return f"skipped: {row['skipped']}"
    keys = (
        ("angle_deg", "{:.1f}°"),
        ("step_deg", "step {:.2f}°"),
        ("focal_ratio", "focal {:.2f}"),
        ("abs_rel", "AbsRel {:.2f}"),
        ("solved_share", "solved {:.0%}"),
    )
    figures = [form.format(row[key]) for key, form in keys if row.get(key) is not None]
    verdict = "**right**" if not row["failures"] else "wrong: " + "; ".join(row["failures"])
    return (
        ". ".join(part for part in (verdict, ", ".join(figures), ", ".join(row.get("codes", []))) if part)
        .replace("|", "\\|")
        .replace("\n", " ")
    )


def _is_right(code: str, case: Case, row: Row) -> bool:
    """A warning that the input deserves, or a generic one about a result that is not good."""
    if code == "unsolved_frames" and row.get("unsolved"):
        return True
    return code in case.situation | case.allowed or (code in GENERIC and not is_good(row))


def _codes(cases: Sequence[Case], rows: dict[str, Row]) -> list[str]:
    """Precision and recall per code, and the rate of false warnings on good runs."""
    run = [(case, rows[case.name]) for case in cases if case.name in rows and case.kind not in ("reading", "system")]
    lines = ["| code | deserved | reported | recall | precision | false |", "|---|---|---|---|---|---|"]
    for code in CODES:
        deserved = [code in row.get("codes", []) for case, row in run if code in case.situation]
        said = [(_is_right(code, case, row), case.name) for case, row in run if code in row.get("codes", [])]
        false = [name for right, name in said if not right]
        rates = [f"{sum(values) / len(values):.2f}" if values else "-" for values in (deserved, [right for right, _ in said])]
        names = ", ".join(false[:5]) + (" ..." if len(false) > 5 else "")
        lines.append(f"| {code} | {len(deserved)} | {len(said)} | {rates[0]} | {rates[1]} | {names} |")
    good = [(case, row) for case, row in run if is_good(row)]
    wrong = [case.name for case, row in good if any(not _is_right(code, case, row) for code in row.get("codes", []))]
    share = len(wrong) / len(good) if good else float("nan")
    names = ", ".join(wrong[:8])
    lines += [
        "",
        f"Good runs (camera error < 2 degrees, AbsRel < 0.25): {len(good)}; with a false warning: {len(wrong)} ({share:.1%}) {names}",
    ]
    bad = [(case, row) for case, row in run if not is_good(row)]
    unreliable = sum(row.get("quality", {}).get("reliable", True) is False or row.get("exit_code") != 0 for _, row in bad)
    return [*lines, f"Other runs: {len(bad)}; reported as unreliable: {unreliable}."]


def _correlations(rows: dict[str, Row]) -> list[str]:
    """Spearman's rank correlation of each figure with each true error."""
    lines = [f"| figure | {' | '.join(ERRORS)} | runs |", "|---" * (len(ERRORS) + 2) + "|"]
    for figure in FIGURES:
        cells, count = [], 0
        for error in ERRORS:
            pairs = [(row.get("quality", {}).get(figure), row.get(error)) for row in rows.values()]
            values = np.array([pair for pair in pairs if None not in pair], float).reshape(-1, 2)
            count = max(count, len(values))
            cells.append(f"{rank_correlation(*values.T):.2f}" if len(values) > 2 else "-")
        lines.append(f"| {figure} | {' | '.join(cells)} | {count} |")
    return lines


def rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's: the correlation of ranks, ties with the mean of theirs; NaN where one of them is constant."""
    ranks = [np.array([(values < v).sum() + ((values == v).sum() - 1) / 2 for v in values]) for values in (a, b)]
    spread = [np.std(r) for r in ranks]
    return (
        float(np.mean((ranks[0] - ranks[0].mean()) * (ranks[1] - ranks[1].mean())) / (spread[0] * spread[1]))
        if min(spread)
        else float("nan")
    )
