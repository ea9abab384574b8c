"""The documentation site: pages that agree with the program, links that lead somewhere, nothing that needs a network."""

import ast
import importlib.util
import pkgutil
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [*DOCS.rglob("*.md"), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "NOTICE", "performance/README.md"))]
FOLDERS = [path.name for path in (ROOT / "st4rtrack").iterdir() if (path / "__init__.py").exists()]
OF_OTHERS = {
    "cat_st4rtrack_blender/import_scene.py",
    "demo.py",
    "demo_colmap.py",
    "demo_gradio.py",
    "flow3d/data/casual_dataset.py",
    "import_scene.py",
    "out/import_scene.py",
    "run_training.py",
    "scripts/demo_colmap.py",
    "scripts/gradio_app.py",
}
"""Scripts that documents name and that are not part of the repository."""


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_of_commands_is_what_they_say() -> None:
    assert (DOCS / "commands.md").read_text() == script("make_commands").page(), "run python docs/make_commands.py"


def test_links_out_of_the_documentation_lead_to_files_and_become_names() -> None:
    hooks, found = script("hooks"), 0
    for page in DOCS.glob("*.md"):
        for path in re.findall(r"\]\(\.\./([^)#]+)\)", page.read_text()):
            assert (ROOT / path).exists(), f"{page.name}: {path}"
            found += 1
        assert "](../" not in hooks.on_page_markdown(page.read_text())
    assert found > 0
    assert hooks.on_page_markdown("[a/b.py](../a/b.py) and [its card](../a/c.md)") == "`a/b.py` and its card (`a/c.md`)"


def test_docs_name_only_parts_of_the_package_that_exist() -> None:
    text = "\n".join(page.read_text() for page in PAGES)
    names = set(re.findall(r"(?:`|::: |-m )(st4rtrack(?:\.\w+)+)", text))
    names |= set(
        re.findall(rf"(?<![\w/.])((?:{'|'.join(FOLDERS)})(?:\.(?!py\b)[a-z]\w*)+)", (DOCS / "architecture.md").read_text())
    )
    assert len(names) > 30
    for name in names:
        pkgutil.resolve_name(name if name.startswith("st4rtrack.") else f"st4rtrack.{name}")


def test_docs_name_only_modules_and_folders_that_exist() -> None:
    tops = [ROOT / name for name in ("st4rtrack", "docs", "performance", "examples", "tests", "scripts")]
    files = [f"/{path.relative_to(ROOT)}" for top in tops for path in top.rglob("*")]
    number = 0
    for page in PAGES:
        paths = set(re.findall(r"(?<![\w/.-])((?:[\w-]+/)*[\w-]+\.py)\b", page.read_text()))
        paths |= {
            path.rstrip("/") for path in re.findall(rf"`((?:st4rtrack/)?(?:{'|'.join(FOLDERS)})(?:/\w+)*/?)`", page.read_text())
        }
        for path in paths - OF_OTHERS:
            assert any(file.endswith(f"/{path}") or file == f"/st4rtrack/{path}.py" for file in files), f"{page.name}: {path}"
        number += len(paths)
    assert number > 100


def test_imports_of_python_examples_in_docs_exist() -> None:
    imports = [
        node
        for page in PAGES
        for block in re.findall(r"```python\n(.*?)```", page.read_text(), re.DOTALL)
        for node in ast.walk(ast.parse(block))
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("st4rtrack")
    ]
    assert imports
    for node in imports:
        for alias in node.names:
            pkgutil.resolve_name(f"{node.module}:{alias.name}")


def test_commands_in_docs_have_only_options_that_exist() -> None:
    sections = re.split(r"^## ", (DOCS / "commands.md").read_text(), flags=re.MULTILINE)
    common = set(re.findall(r"^- `(--[\w-]+)`", sections[0], re.MULTILINE)) | {"--help", "--version"}
    options = {text.partition("\n")[0]: set(re.findall(r"`(--?[\w-]+)`", text)) | common for text in sections[1:]}
    number = 0
    for page in PAGES:
        lines = page.read_text().replace("\\\n", " ")
        for command, rest in re.findall(r"st4rtrack ((?:bench )?[a-z]+)([^`#|;&\n]*)", lines):
            for option in re.findall(r"(?<![\w-])(--?[a-zA-Z][\w-]*)", rest) if command in options else ():
                assert option in options[command], f"{page.name}: st4rtrack {command} {option}"
                number += 1
    assert number > 100


def test_pictures_are_light() -> None:
    for path in (DOCS / "images").glob("figure-*"):
        assert path.stat().st_size < 250_000, path.name


def test_the_site_builds_and_needs_no_network(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason='the site needs mkdocs: pip install "st4rtrack[docs]"')
    pytest.importorskip("mkdocstrings")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    for page in tmp_path.glob("*.html"):
        loaded = re.findall(r"<(?:script|img|iframe)[^>]*\ssrc=[\"']?(?:https?:)?//", page.read_text())
        loaded += re.findall(r"<link[^>]*rel=[\"']?(?:stylesheet|preconnect)[^>]*href=[\"']?(?:https?:)?//", page.read_text())
        assert not loaded, page.name
    assert "write_film" in (tmp_path / "api.html").read_text()
