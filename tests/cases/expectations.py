"""Whether the result of a case is right."""

import math
import re
from collections.abc import Iterator

from tests.cases.measure import Row, number
from tests.cases.table import Case, Expected


def failures(case: Case, row: Row) -> list[str]:
    """What is wrong: empty where one of the expectations holds, else the shortest list of reasons."""
    if "skipped" in row:
        return []
    lists = [list(_misses(expected, case, row)) for expected in case.expected]
    return min(lists, key=len, default=[])


def _misses(expected: Expected, case: Case, row: Row) -> Iterator[str]:
    codes = set(row.get("codes", []))
    if row.get("exit_code", 0) != (expected.exit_code or 0):
        yield f"exit code {row.get('exit_code')}"
    if missing := sorted(set(expected.codes) - codes):
        yield f"no warning {', '.join(missing)}"
    if expected.any_code and not codes & set(expected.any_code):
        yield f"no warning of {', '.join(expected.any_code)}"
    if expected.silent and (false := sorted(codes - case.situation - case.allowed)):
        yield f"false warning {', '.join(false)}"
    if expected.reliable is not None and row.get("quality", {}).get("reliable", True) != expected.reliable:
        yield "unreliable" if expected.reliable else "no word that it is unreliable"
    if wrong := sorted(set(expected.unsolved) - set(row.get("unsolved", []))):
        yield f"{len(wrong)} of {len(expected.unsolved)} frames solved that cannot be"
    elif expected.unsolved and row.get("visible_unsolved", 0) > 0:
        yield "points visible in unsolved frames"
    yield from _bounds(expected, row)
    if expected.sentence and not re.search(expected.sentence, "\n".join(row.get("messages", [])), re.IGNORECASE):
        yield f"no sentence with {expected.sentence!r}"
    for name, value in (("frames", expected.frames), ("size", expected.size), *expected.values):
        if value is not None and _plain(row.get(name)) != _plain(value):
            yield f"{name} {row.get(name)}, not {value}"


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def _bounds(expected: Expected, row: Row) -> Iterator[str]:
    for name, bound in (("angle_deg", expected.angle_deg), ("step_deg", expected.step_deg), ("path", expected.path)):
        if bound is not None and not number(row, name) <= bound:
            yield f"{name} {number(row, name):.2f} > {bound:g}"
    if expected.focal is not None:
        ratios = [number(row, name) for name in ("focal_ratio", "focal_ratio_last")]
        worst = max(ratios, key=lambda ratio: abs(math.log(ratio)))
        if not 1 / expected.focal <= worst <= expected.focal:
            yield f"focal length {worst:.2f} of the truth"
    if expected.solved is not None and row.get("solved_share", 0) < expected.solved:
        yield f"{row.get('solved_share', 0):.0%} of the frames solved"
