"""Whether the tests would notice a mistake: `python performance/mutation.py --mutants 120 --seed 0`.

mutmut makes mutants of what everything else rests on, each the code with one small mistake; as many of every part are drawn at random,
and the tests beside the part judge them. A mutant is caught when a test fails or does not end. Messages of errors are left out: their
form has a test of its own. Everything happens in copies of the checkout, which `--keep` leaves.
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from machine import machine
from mutmut.configuration import reset_config
from mutmut.mutation.file_mutation import mutate_file_contents
from mutmut.stats import status_by_exit_code
from mutmut.utils.format_utils import get_mutant_name

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = ROOT / "performance" / "reliability" / "mutation.json"
PARTS = {
    "geometry": (["st4rtrack/geometry/*.py"], ["tests/geometry"]),
    "metrics": (["st4rtrack/metrics/*.py"], ["tests/metrics"]),
    "losses": (["st4rtrack/losses/*.py"], ["tests/losses"]),
    "scene store": (
        ["st4rtrack/io/scene/*.py", "st4rtrack/io/lazy.py"],
        ["tests/io/scene", "tests/io/test_lazy.py"],
    ),
}
"""Which files have mutants, and which tests judge them."""

CAUGHT = ("killed", "timeout", "segfault", "suspicious")
"""What mutmut says of a mutant that the tests notice: they fail, take too long, or end the process."""


def copied(folder: Path, part: str) -> Path:
    """A copy of the checkout that is set up for one part, with the files beside the checkout within reach of its tests."""
    copy = folder / part.replace(" ", "-")
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "build", "demo", "runs", "mutants", "__pycache__"))
    if (ROOT.parent / "shared").exists():
        (copy / "shared").symlink_to(ROOT.parent / "shared")
    files, tests = PARTS[part]
    options = {
        "source_paths": ["st4rtrack"],
        "only_mutate": files,
        "do_not_mutate_patterns": [r"^\s*raise \w+"],
        "also_copy": ["README.md", "docs", "performance", "examples"],
        "pytest_add_cli_args_test_selection": tests,
    }
    with (copy / "pyproject.toml").open("a") as file:
        file.write("\n[tool.mutmut]\n" + "".join(f"{name} = {json.dumps(value)}\n" for name, value in options.items()))
    return copy


def mutants(copy: Path, part: str) -> list[str]:
    """Names of all mutants of a part, in order."""
    names: list[str] = []
    reset_config()
    with contextlib.chdir(copy):  # mutmut reads its options from where it is
        for path in sorted({path for pattern in PARTS[part][0] for path in Path().glob(pattern)}):
            found = mutate_file_contents(str(path), path.read_text()).mutant_names
            names += [get_mutant_name(path, name) for name in found]
    return names


def judged(copy: Path, names: list[str], processes: int) -> dict[str, str]:
    """What became of each mutant, by its name."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    environment.pop("PYTHONPATH", None)  # or the code would come from the checkout, without mutants
    command = [sys.executable, "-m", "mutmut", "run", "--max-children", str(processes), *names]
    subprocess.run(command, cwd=copy, env=environment, check=True)
    found: dict[str, str] = {}
    for meta in sorted((copy / "mutants").rglob("*.meta")):
        codes = json.loads(meta.read_text())["exit_code_by_key"]
        found |= {name: status_by_exit_code[code] for name, code in codes.items() if name in names}
    return found


def difference(copy: Path, name: str) -> str:
    """The changed lines of a mutant."""
    shown = subprocess.run([sys.executable, "-m", "mutmut", "show", name], cwd=copy, capture_output=True, text=True, check=True)
    return "\n".join(line for line in shown.stdout.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---"))


def measured(folder: Path, part: str, count: int, seed: int, processes: int) -> dict[str, Any]:
    """How many mutants of a part there are, were tried and were caught, and the changed lines of those that were not."""
    copy = copied(folder, part)
    every = mutants(copy, part)
    drawn = random.Random(f"{seed} {part}").sample(every, min(count, len(every)))
    found = judged(copy, drawn, processes)
    survivors = {name: difference(copy, name) for name in drawn if found[name] not in CAUGHT}
    states = Counter(found.values())
    caught = sum(states[state] for state in CAUGHT)
    return {
        "mutants": len(every),
        "tried": len(drawn),
        "caught": caught,
        "states": dict(sorted(states.items())),
        "seed": seed,
        "survivors": survivors,
        "machine": machine(),
    }


def table(parts: dict[str, Any]) -> str:
    """Markdown: the share that was caught of each part, and what was not."""
    lines = ["| part | mutants | tried | caught |", "|---|---|---|---|"]
    whole = {key: sum(row[key] for row in parts.values()) for key in ("mutants", "tried", "caught")}
    for name, row in [*parts.items(), ("all", whole)]:
        lines.append(f"| {name} | {row['mutants']} | {row['tried']} | {100 * row['caught'] / row['tried']:.0f} % |")
    for row in parts.values():
        lines += [f"\n{name}\n{changed}" for name, changed in row["survivors"].items()]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutants", type=int, default=120, help="of all parts together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--parts", nargs="+", choices=list(PARTS), default=list(PARTS), help="the others keep what was measured last"
    )
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--keep", type=Path, help="folder for the copies")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        for part in arguments.parts:
            folder, count = arguments.keep or Path(temporary), arguments.mutants // len(PARTS)
            row = measured(folder, part, count, arguments.seed, arguments.processes)
            report = json.loads(OUTPUT.read_text()) if OUTPUT.exists() else {}
            report[part] = row
            OUTPUT.parent.mkdir(exist_ok=True)
            OUTPUT.write_text(json.dumps(report, indent=1) + "\n")
    print(table(json.loads(OUTPUT.read_text())))


if __name__ == "__main__":
    main()
