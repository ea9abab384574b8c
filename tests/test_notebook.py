"""The notebook: its structure, its cells executed on the CPU, and its interactive page in a browser."""

import ast
import html
import re
from pathlib import Path
from typing import Any

import pytest

from st4rtrack.data.procedural import ProceduralConfig, procedural_clip
from st4rtrack.io.video import write_video
from tests.view.browser import Watch, chromium

nbformat: Any = pytest.importorskip("nbformat", reason='nbformat is not installed: pip install "st4rtrack[dev]"')
NOTEBOOK = Path(__file__).parents[1] / "examples" / "st4rtrack.ipynb"
EXPORTS = {"scene.html", "scene.ply", "scene.glb", "tracks.csv", "tracks.npz"}


def executed(folder: Path, video: Path | None = None) -> dict[str, Any]:
    """Execute the notebook in a folder, with the demo clip or another video: cells by id."""
    nbclient: Any = pytest.importorskip("nbclient", reason='nbclient is not installed: pip install "st4rtrack[dev]"')
    pytest.importorskip("ipykernel", reason='ipykernel is not installed: pip install "st4rtrack[dev]"')
    pytest.importorskip("trimesh", reason='trimesh is not installed: pip install "st4rtrack[export]"')
    pytest.importorskip("matplotlib")
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    if video is not None:
        cell = next(cell for cell in notebook.cells if cell["id"] == "video")
        assert cell.source.count('VIDEO = ""') == 1
        cell.source = cell.source.replace('VIDEO = ""', f"VIDEO = {str(video)!r}")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IPYTHONDIR", str(folder / "ipython"))  # nothing of the user's configuration, nothing left behind
        patch.setenv("JUPYTER_RUNTIME_DIR", str(folder / "jupyter"))
        nbclient.NotebookClient(notebook, timeout=280, resources={"metadata": {"path": str(folder)}}).execute()
    return {cell["id"]: cell for cell in notebook.cells}


def stream(cell: Any) -> str:
    return "".join(output.text for output in cell.outputs if output.output_type == "stream")


def data(cell: Any, kind: str) -> str:
    return next(output.data[kind] for output in cell.outputs if kind in output.get("data", {}))


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("notebook")
    clip = procedural_clip(3, ProceduralConfig(height=64, width=96, num_frames=3))
    write_video(folder / "clip.mp4", iter(clip.rgb), fps=10)
    return executed(folder, folder / "clip.mp4") | {"folder": folder}


def test_notebook_structure_is_valid_without_outputs_and_compiles() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(code) > 5
    for cell in code:
        assert cell.outputs == [] and cell.execution_count is None, cell["id"]
        ast.parse(cell.source)


def test_notebook_links_lead_to_files() -> None:
    links = re.findall(r"\]\(([^)]+)\)", NOTEBOOK.read_text(encoding="utf-8"))
    assert links
    for link in links:
        assert (NOTEBOOK.parent / link).is_file(), link


def test_notebook_small_clip_writes_quality_track_and_exports(cells: dict[str, Any]) -> None:
    assert "quality: " in stream(cells["run"]) and "/3 frames solved" in stream(cells["run"])
    assert data(cells["overview"], "image/jpeg") and data(cells["tracks"], "image/png")
    assert re.search(r"path of \d+\.\d+ world units, visible in [1-3] of 3 frames", stream(cells["tracks"]))
    assert {path.name for path in (cells["folder"] / "clip_st4rtrack_exports").iterdir()} == EXPORTS
    assert all(name in stream(cells["exports"]) for name in EXPORTS)


def test_notebook_page_opens_inline_in_a_browser(cells: dict[str, Any]) -> None:
    page_path = cells["folder"] / "output.html"
    page_path.write_text(f"<!doctype html><body>{data(cells['page'], 'text/html')}</body>", encoding="utf-8")
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1000, "height": 640}, reduced_motion="reduce")
        watch = Watch(page)
        page.goto(page_path.as_uri())
        frame = page.wait_for_selector("iframe")
        assert frame is not None
        inside = frame.content_frame()
        assert inside is not None
        inside.wait_for_selector("body[data-ready]")
        assert inside.inner_text("h1") == "clip" and "3 frames" in inside.inner_text("header")
        assert watch.messages == [] and all(url.startswith(("file:", "about:")) for url in watch.requests)


@pytest.mark.slow
def test_notebook_unchanged_runs_on_the_demo_clip(tmp_path: Path) -> None:
    cells = executed(tmp_path)
    assert "36/36 frames solved" in stream(cells["run"])
    assert {path.name for path in (tmp_path / "demo_st4rtrack_exports").iterdir()} == EXPORTS
    assert html.unescape(data(cells["page"], "text/html")).count('id="frame-') == 36
