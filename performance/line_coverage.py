"""Which share of the package's lines the default tests run: `make coverage`, which writes what this reads."""

import json
from pathlib import Path
from typing import Any

import coverage

ROOT = Path(__file__).resolve().parents[1]
OUTPUT = ROOT / "performance" / "reliability" / "coverage.json"
PROMISED = 90.0
"""Percent of the package; files below it are listed."""


def lines_of_files(data: coverage.Coverage) -> dict[str, tuple[int, int]]:
    """Lines that count and lines that ran, by file."""
    found: dict[str, tuple[int, int]] = {}
    for path in sorted((ROOT / "st4rtrack").rglob("*.py")):
        _, statements, _, missing, _ = data.analysis2(str(path))
        found[str(path.relative_to(ROOT))] = (len(statements), len(statements) - len(missing))
    return found


def percent(lines: int, ran: int) -> float:
    """Of lines that ran; all of none did."""
    return round(100 * ran / lines, 1) if lines else 100.0


def summary(files: dict[str, tuple[int, int]]) -> dict[str, Any]:
    """Percent of the whole, of every package of it, and of the files below what is promised."""
    packages: dict[str, list[tuple[int, int]]] = {}
    for path, counts in files.items():
        packages.setdefault(Path(path).parts[1].removesuffix(".py"), []).append(counts)
    return {
        "lines": sum(lines for lines, _ in files.values()),
        "percent": percent(*map(sum, zip(*files.values(), strict=True))),
        "packages": {name: percent(*map(sum, zip(*counts, strict=True))) for name, counts in sorted(packages.items())},
        "below": {path: percent(*counts) for path, counts in files.items() if percent(*counts) < PROMISED},
    }


def main() -> None:
    data = coverage.Coverage(data_file=str(ROOT / ".coverage"), config_file=str(ROOT / "pyproject.toml"))
    data.load()
    found = summary(lines_of_files(data))
    OUTPUT.parent.mkdir(exist_ok=True)
    OUTPUT.write_text(json.dumps(found, indent=1) + "\n")
    print(f"{found['percent']} % of {found['lines']} lines\n\n| package | lines run |\n|---|---|")
    for name, share in found["packages"].items():
        print(f"| {name} | {share} % |")
    print("\n" + "\n".join(f"{share:5.1f} % {path}" for path, share in sorted(found["below"].items(), key=lambda row: row[1])))


if __name__ == "__main__":
    main()
