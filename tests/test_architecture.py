"""The layers of docs/architecture.md: an import points down, and packages of one layer do not know each other."""

import ast
import importlib
import subprocess
import sys
import time
from pathlib import Path

import pytest

import st4rtrack

ROOT = Path(st4rtrack.__file__).parent
LAYERS = {
    "errors": 0,
    "geometry": 0,
    "types": 0,
    "scene": 1,
    "options": 1,
    "threads": 1,
    "timing": 1,
    "preprocess": 2,
    "io": 2,
    "classical": 2,
    "model": 3,
    "data": 3,
    "losses": 3,
    "metrics": 3,
    "render": 3,
    "hints": 4,
    "pipeline": 5,
    "train": 6,
    "adapt": 6,
    "bench": 6,
    "view": 6,
    "batch": 6,
    "doctor": 6,
    "formats": 7,
    "cli": 8,
    "__init__": 9,
    "__main__": 9,
}
SIDE_BY_SIDE = {0, 2}
"""Layers whose parts may use each other: types use geometry; preprocess turns a `Video` of io into another."""

MODULES = sorted(path.relative_to(ROOT) for path in ROOT.rglob("*.py"))


def part_of(module: Path) -> str:
    return module.parts[0].removesuffix(".py")


def imported_parts(path: Path) -> set[str]:
    """Parts of the package that a file imports, at the top or inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names |= (
                {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
                if node.module == "st4rtrack"
                else {node.module}
            )
    return {name.split(".")[1] for name in names if name and name.startswith("st4rtrack.")}


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_imports_point_down(module: Path) -> None:
    part = part_of(module)
    assert part in LAYERS, f"{part} has no layer yet"
    for other in imported_parts(ROOT / module) - {part}:
        if other not in LAYERS:
            continue  # a public name of the package, as in `from st4rtrack import __version__`
        below = LAYERS[other] < LAYERS[part]
        beside = LAYERS[other] == LAYERS[part] and LAYERS[part] in SIDE_BY_SIDE
        assert below or beside, f"{module} imports {other}, which is not below it"


def test_every_module_imports() -> None:
    for module in MODULES:
        if module.name != "__main__.py":
            importlib.import_module(".".join(["st4rtrack", *module.with_suffix("").parts]).removesuffix(".__init__"))


def test_public_names_are_those_written_down() -> None:
    written = (Path(__file__).parent / "public_names.txt").read_text().split()
    assert sorted(st4rtrack.__all__) == sorted(written)
    for name in written:
        assert getattr(st4rtrack, name) is not None
    with pytest.raises(AttributeError):
        _ = st4rtrack.no_such_name


def test_no_package_is_named_as_a_public_function() -> None:
    packages = {path.name for path in ROOT.iterdir() if path.is_dir()}
    assert not packages & set(st4rtrack.__all__)


@pytest.mark.parametrize(
    ("code", "unwanted"),
    [
        ("import st4rtrack", ("torch", "numpy", "cv2")),
        ("import st4rtrack.cli.main", ("torch", "cv2", "zarr", "av")),
        ("from st4rtrack import load_scene", ("torch",)),
        ("import st4rtrack.geometry.align, st4rtrack.scene, st4rtrack.metrics.points", ("torch",)),
    ],
)
def test_heavy_imports_are_late(code: str, unwanted: tuple[str, ...]) -> None:
    check = f"{code}\nimport sys\nprint([name for name in {unwanted!r} if name in sys.modules])"
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]", f"after {time.monotonic() - start:.1f} s"


def test_nothing_is_evaluated_or_unpickled() -> None:
    for module in MODULES:
        for node in ast.walk(ast.parse((ROOT / module).read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in ("eval", "exec"), f"{module} line {node.lineno} evaluates"
            if isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "weights_only"):
                assert isinstance(node.value, ast.Constant) and node.value.value == (node.arg == "weights_only")
