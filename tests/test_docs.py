"""The documentation site: pages that agree with the program, links that lead somewhere, nothing that needs a network."""

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
    names = {name for page in DOCS.glob("*.md") for name in re.findall(r"`st4rtrack((?:\.\w+)+)", page.read_text())}
    assert len(names) > 5
    for name in names:
        pkgutil.resolve_name(f"st4rtrack{name}")


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
