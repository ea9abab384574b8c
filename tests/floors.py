"""Print a pip constraints file that pins every requirement of the package, except PyTorch, to its lowest allowed version."""

import tomllib
from pathlib import Path

from packaging.requirements import Requirement

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
PINNED_ELSEWHERE = {"torch", "st4rtrack"}
"""PyTorch keeps its version of constraints.txt: its floor has no CPU build on the package index for Linux."""


def floors(extras: tuple[str, ...] = ("all", "dev")) -> dict[str, str]:
    """Lowest allowed version of each direct requirement, by name."""
    lines = [*PROJECT["dependencies"], *(line for extra in extras for line in PROJECT["optional-dependencies"][extra])]
    found: dict[str, str] = {}
    while lines:
        requirement = Requirement(lines.pop())
        if requirement.name == PROJECT["name"]:
            lines += [line for extra in requirement.extras for line in PROJECT["optional-dependencies"][extra]]
        for part in requirement.specifier:
            if part.operator == ">=" and requirement.name not in PINNED_ELSEWHERE:
                found[requirement.name] = part.version
    return found


if __name__ == "__main__":
    print("\n".join(f"{name}=={version}" for name, version in sorted(floors().items())))
