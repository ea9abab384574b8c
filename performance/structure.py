"""Figures of the code's structure: size, modules, public functions, parameters, and what `reconstruct` needs.

python performance/structure.py [NAME=FOLDER ...]

FOLDER is a clone of the repository (default: this one); several are columns of one table. Nothing of the package is imported.
"""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

PACKAGE = "st4rtrack"
START = f"{PACKAGE}.pipeline.reconstruct"


@dataclass(frozen=True)
class Module:
    """A file of the package: its lines and syntax tree."""

    path: Path
    lines: int
    tree: ast.Module


def read_modules(root: Path) -> dict[str, Module]:
    """All modules of the package by their dotted names."""
    modules = {}
    for path in sorted((root / PACKAGE).rglob("*.py")):
        text = path.read_text(encoding="utf-8")
        name = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        modules[name] = Module(path, len(text.splitlines()), ast.parse(text))
    return modules


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """All functions and methods of a module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def parameter_count(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Parameters without `self` and `cls`; `*args` and `**kwargs` count as one each."""
    found = function.args
    names = [argument.arg for argument in (*found.posonlyargs, *found.args, *found.kwonlyargs)]
    return len(names) - (names[:1] in (["self"], ["cls"])) + (found.vararg is not None) + (found.kwarg is not None)


def imported_modules(module: Module, known: dict[str, Module]) -> set[str]:
    """Modules of the package that a module imports, at the top or in functions, but not for type checking alone."""
    names: set[str] = set()
    for node in _executed(module.tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return names & known.keys()


def _executed(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            continue
        yield child
        yield from _executed(child)


def closure(start: str, modules: dict[str, Module]) -> set[str]:
    """The module and all that it imports, directly or indirectly, with the packages around them that hold code."""
    found, waiting = set[str](), [start]
    while waiting:
        name = waiting.pop()
        if name in found or name not in modules:
            continue
        found.add(name)
        package = name.rpartition(".")[0]
        around = [package] if package not in ("", PACKAGE) else []  # the root loads its public names on first use
        waiting += [*imported_modules(modules[name], modules), *around]
    return {name for name in found if modules[name].lines and name != PACKAGE}


def figures(root: Path) -> dict[str, str]:
    """The rows of the table."""
    modules = read_modules(root)
    every = [function for module in modules.values() for function in functions(module.tree)]
    parameters = np.array([parameter_count(function) for function in every])
    needed = closure(START, modules)
    pages = list((root / "docs").rglob("*.md"))
    return {
        "package lines": f"{sum(module.lines for module in modules.values()):,}",
        "modules": str(len(modules)),
        "modules of more than 400 lines": str(sum(module.lines > 400 for module in modules.values())),
        "public functions": f"{sum(not function.name.startswith('_') for function in every):,}",
        "parameters, 95th percentile": f"{np.percentile(parameters, 95):.0f}",
        "functions with more than 10 parameters": str(int((parameters > 10).sum())),
        "modules behind reconstruct()": str(len(needed)),
        "lines behind reconstruct()": f"{sum(modules[name].lines for name in needed):,}",
        "README lines": str(_lines(root / "README.md")),
        "docs lines": f"{sum(_lines(page) for page in pages):,}",
    }


def _lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def table(columns: dict[str, dict[str, str]]) -> str:
    """A Markdown table with a column for each repository."""
    head = ["| | " + " | ".join(columns) + " |", "|---|" + "---|" * len(columns)]
    rows = list(next(iter(columns.values())))
    return "\n".join([*head, *(f"| {row} | " + " | ".join(column[row] for column in columns.values()) + " |" for row in rows)])


if __name__ == "__main__":
    chosen = dict(each.split("=", 1) for each in sys.argv[1:]) or {"now": str(Path(__file__).parents[1])}
    print(table({name: figures(Path(folder)) for name, folder in chosen.items()}))
