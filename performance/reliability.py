"""What the promise of `docs/reliability.md` was tested with: `python performance/reliability.py`.

Tries the whole corpus of inputs, reads the results that the other commands left in `performance/reliability/` (`fuzz.py`, `faults.py`,
`mutation.py`), and writes the tables between the marks of `docs/reliability.md`. `--tables` takes the last results of the corpus instead.
"""

import argparse
import json
import sys
import textwrap
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from machine import machine

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "performance" / "reliability"
PAGE = ROOT / "docs" / "reliability.md"
BEGIN, END = "<!-- tables by performance/reliability.py -->", "<!-- end of tables -->"
KINDS = {
    "video": "video files",
    "images": "folders and globs of images",
    "arrays": "sequences, predictions, teachers' files, query points",
    "checkpoint": "checkpoints",
    "scene": "scene folders",
    "cameras": "cameras and maps of other tools",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", action="store_true", help="only make the tables again")
    parser.add_argument(
        "--kinds", nargs="+", choices=KINDS, default=list(KINDS), help="of input to try; of others the last results stay"
    )
    options = parser.parse_args()
    if not options.tables:
        RESULTS.mkdir(exist_ok=True)
        _write_inputs(_try_corpus(options.kinds))
    parts = [make(found) for name, make in TABLES.items() if (found := _result(name)) is not None]
    text = PAGE.read_text(encoding="utf-8")
    before, after = text[: text.index(BEGIN) + len(BEGIN)], text[text.index(END) :]
    PAGE.write_text(before + "\n\n" + "\n\n".join(parts) + "\n\n" + after, encoding="utf-8")
    print(f"wrote {PAGE}")


def _write_inputs(found: dict[str, Any]) -> None:
    """One trial per line."""
    trials = ",\n".join(json.dumps(trial) for trial in found["trials"])
    head = json.dumps({key: value for key, value in found.items() if key != "trials"})
    (RESULTS / "inputs.json").write_text(f'{head[:-1]}, "trials": [\n{trials}\n]}}\n')


def _try_corpus(kinds: list[str]) -> dict[str, Any]:
    sys.path.insert(0, str(ROOT))
    from tests.reliability.corpus import LIMIT_BYTES, LIMIT_S, corpus, try_all

    before = _result("inputs")
    trials = [trial for trial in (before["trials"] if before else []) if trial["kind"] not in kinds]
    start = time.time()
    for trial in try_all(case for case in corpus() if case.kind in kinds):
        found = {**asdict(trial.outcome), "seconds": round(trial.seconds, 3), "peak_mb": round(trial.peak_bytes / 1e6)}
        if found.pop("said") and trial.outcome.end == "failure":
            print(trial.outcome.kind, trial.outcome.name, trial.outcome.said, flush=True)
        trials.append(found)
        if len(trials) % 50 == 0:
            print(f"{len(trials)} of {len(corpus())} inputs, {time.time() - start:.0f} s", flush=True)
    return {"machine": machine(), "limit_s": LIMIT_S, "limit_gb": LIMIT_BYTES / (1 << 30), "trials": trials}


def _result(name: str) -> Any | None:
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.is_file() else None


def _table(head: str, rows: Iterable[Iterable[object]]) -> str:
    return "\n".join([f"| {head} |", "|" + "---|" * (head.count("|") + 1), *(f"| {' | '.join(map(str, row))} |" for row in rows)])


def _inputs(found: dict[str, Any]) -> str:
    groups: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for trial in found["trials"]:
        groups[trial["kind"]].append(trial)
        groups["all"].append(trial)
    rows = []
    for kind, label in {**KINDS, "all": "**all**"}.items():
        trials = groups[kind]
        counts = [sum(trial["end"] == end for trial in trials) for end in ("result", "sentence", "failure")]
        noted = sum(trial["end"] == "result" and trial["noted"] for trial in trials)
        longest, largest = (max(trial[key] for trial in trials) for key in ("seconds", "peak_mb"))
        rows.append([label, len(trials), counts[0], noted, counts[1], counts[2], f"{longest:.1f}", largest])
    head = "input | tried | results | with a note | sentences | failures | longest, s | most memory, MB"
    limits = f"Each within {found['limit_s']} s and {found['limit_gb']:g} GiB of address space. The seed of an input is made of its name."
    text = textwrap.fill(f"{limits} {found['machine']}.", 118, break_on_hyphens=False)
    return f"### Inputs\n\n{_table(head, rows)}\n\n{text}"


def _fuzz(found: dict[str, Any]) -> str:
    rows = [
        [
            row["reader"],
            row["seconds"],
            f"{row['executions']:,}",
            row["covered"],
            " to ".join(map(str, row["rss_mb"])),
            row["crashes"],
        ]
        for row in found["readers"]
    ]
    sums = [sum(row[key] for row in found["readers"]) for key in ("seconds", "executions", "crashes")]
    rows.append(["**all**", sums[0], f"{sums[1]:,}", "", "", sums[2]])
    head = "reader | time, s | executions | places covered | memory from half of the time to the end, MB | crashes"
    return f"### Fuzzing\n\n{_table(head, rows)}\n\nSeed {found['seed']}; `python performance/fuzz.py`."


def _faults(found: list[dict[str, Any]]) -> str:
    rows = [[f"`{row['command']}`", row["kind"], row["times"], row["survived"], row["seed"]] for row in found]
    return "### Faults\n\n" + _table("command | fault | times | survived | seed", rows) + "\n\n`python performance/faults.py`."


def _mutation(found: dict[str, Any]) -> str:
    rows = [
        [part, row["mutants"], row["tried"], row["caught"], f"{100 * row['caught'] / row['tried']:.0f} %", row["seed"]]
        for part, row in found.items()
    ]
    return "### Mutants\n\n" + _table("part | mutants | tried | caught | | seed", rows) + "\n\n`python performance/mutation.py`."


def _coverage(found: dict[str, Any]) -> str:
    rows = [[name, f"{percent:.0f} %"] for name, percent in [*found["packages"].items(), ("**all**", found["percent"])]]
    head = "### Lines\n\nThat the default tests run, also in the processes that they start and do not kill.\n\n"
    below = ", ".join(
        f"`{path.removeprefix('st4rtrack/')}` {percent:.0f}" for path, percent in found["below"].items() if (ROOT / path).exists()
    )
    files = textwrap.fill(f"Files below 90 %: {below}. `make coverage`.", 118, break_on_hyphens=False)
    return f"{head}{_table('part | of its lines', rows)}\n\n{files}"


TABLES = {"inputs": _inputs, "fuzz": _fuzz, "faults": _faults, "mutation": _mutation, "coverage": _coverage}


if __name__ == "__main__":
    main()
