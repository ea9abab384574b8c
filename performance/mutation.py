"""Whether the tests would notice a mistake: `python performance/mutation.py --mutants 120 --seed 0`.

mutmut makes mutants of what everything else rests on: geometry, metrics, losses and the scene store ([tool.mutmut] in pyproject.toml
says which files, and which tests judge). Each is the code with one small mistake; the same number of every part is drawn at random. A
mutant is caught when a test fails or does not end. Everything happens in a copy of the checkout, which `--keep` leaves.
"""

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections import Counter
from pathlib import Path

from machine import machine
from mutmut.mutation.file_mutation import mutate_file_contents
from mutmut.stats import status_by_exit_code
from mutmut.utils.format_utils import get_mutant_name

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = ROOT / "performance" / "reliability" / "mutation.json"
CAUGHT = ("killed", "timeout", "segfault", "suspicious")
"""What mutmut says of a mutant that the tests notice: they fail, take too long, or end the process."""


def mutants_by_part(root: Path) -> dict[str, list[str]]:
    """Names of all mutants, in order, of every part: a package, or the scene store."""
    chosen = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["mutmut"]["only_mutate"]
    parts: dict[str, list[str]] = {}
    for path in sorted({path for pattern in chosen for path in root.glob(pattern)}):
        relative = path.relative_to(root)
        part = "scene store" if relative.parts[1] == "io" else relative.parts[1]
        names = mutate_file_contents(str(relative), path.read_text()).mutant_names
        parts.setdefault(part, []).extend(get_mutant_name(relative, name) for name in names)
    return parts


def draw(parts: dict[str, list[str]], count: int, seed: int) -> dict[str, str]:
    """Part of every drawn mutant, by name; every part has the same share of the count."""
    rng = random.Random(seed)
    return {
        name: part for part, names in sorted(parts.items()) for name in rng.sample(names, min(count // len(parts), len(names)))
    }


def copied(folder: Path) -> Path:
    """A copy of the checkout in a folder, with the files beside it within reach of its tests."""
    copy = folder / "checkout"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".*", "build", "demo", "runs", "mutants", "__pycache__"))
    shared = ROOT.parent / "shared"
    if shared.exists():
        (copy / "shared").symlink_to(shared)
    return copy


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutants", type=int, default=120)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--keep", type=Path, help="folder for the copy, kept; it must not exist")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        copy = copied(arguments.keep or Path(temporary))
        parts = mutants_by_part(copy)
        drawn = draw(parts, arguments.mutants, arguments.seed)
        found = judged(copy, list(drawn), arguments.processes)
        survivors = {name: difference(copy, name) for name in drawn if found[name] not in CAUGHT}
    rows = {}
    for part in parts:
        states = Counter(found[name] for name, of in drawn.items() if of == part)
        caught = sum(states[state] for state in CAUGHT)
        rows[part] = {"mutants": len(parts[part]), "tried": states.total(), "caught": caught, **dict(sorted(states.items()))}
    tried, caught = (sum(row[key] for row in rows.values()) for key in ("tried", "caught"))
    report = {"machine": machine(), "seed": arguments.seed, "tried": tried, "caught": caught, "parts": rows, "survivors": survivors}
    arguments.output.parent.mkdir(exist_ok=True)
    arguments.output.write_text(json.dumps(report, indent=1) + "\n")
    print("| part | mutants | tried | caught |\n|---|---|---|---|")
    for part, row in rows.items():
        print(f"| {part} | {row['mutants']} | {row['tried']} | {100 * row['caught'] / row['tried']:.0f} % |")
    print(f"| all | {sum(map(len, parts.values()))} | {tried} | {100 * caught / tried:.0f} % |\n")
    for name, lines in survivors.items():
        print(f"{found[name]}: {name}\n{lines}\n")


if __name__ == "__main__":
    main()
