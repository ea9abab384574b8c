"""An installation without extras: each command says which one it needs, with the line for pip."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

import st4rtrack
from st4rtrack.data.world.people import bake_bodies
from st4rtrack.doctor.packages import PURPOSES
from st4rtrack.io.formats.common import OPTIONAL
from st4rtrack.io.scene import save_scene
from st4rtrack.types import UserError
from tests.conftest import Run
from tests.io.formats.exact_scene import exact_scene, write_video_frames
from tests.synthetic_scene import synthetic_scene

PACKAGE = Path(st4rtrack.__file__).parent
CLONE = PACKAGE.parent
PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
OPTIONAL_MODULES = ["OpenEXR", "anny", "embreex", "fast_simplification", "imageio", "matplotlib", "pandas", "pillow_heif"]
OPTIONAL_MODULES += ["pxr", "ray", "rerun", "scipy", "tensorboard", "trimesh", "viser"]
COMMANDS = {
    "view": ["view", "scene"],
    "glb": ["export", "scene", "glb"],
    "usd": ["export", "scene", "usd"],
    "rerun": ["export", "scene", "rerun"],
    "figure": ["export", "scene", "figure"],
    "exr": ["export", "scene", "exr"],
    "images": ["run", "photos"],
    "cluster": ["batch", "video", "-o", "out", "--ray", "auto"],
}
WITHOUT_COMMAND = {"app", "world", "bench", "train"}
"""Extras that are tested elsewhere (app, world), or without which a command only warns (plots and curves are left out)."""


@pytest.fixture
def core_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the optional packages impossible to import or to find."""
    loaded = [name for name in sys.modules if name.partition(".")[0] in OPTIONAL_MODULES]
    for name in [*loaded, *OPTIONAL_MODULES]:
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.parametrize("extra", COMMANDS)
def test_command_without_its_extra_ends_in_the_line_for_pip(run: Run, core_only: None, extra: str) -> None:
    save_scene(synthetic_scene(), "scene")
    write_video_frames(Path("video"), 2)
    Path("photos").mkdir()
    Path("photos/IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftypheic" + bytes(99))
    before = sorted(Path().iterdir())
    code, printed = run(*COMMANDS[extra])
    messages = [line for line in printed.splitlines() if line.startswith("st4rtrack: ")]
    assert code == 2 and len(messages) == 1 and "Traceback" not in printed, printed
    assert f'install "{CLONE}[{extra}]"' in messages[0], messages
    assert sorted(Path().iterdir()) == before


def test_rendered_people_without_the_world_extra_name_it(core_only: None) -> None:
    with pytest.raises(UserError, match=r"install .*\[world\]"):
        bake_bodies(1)


@pytest.mark.parametrize("format", ["ply", "colmap", "tum", "html", "video"])
def test_export_without_extras_works(run: Run, core_only: None, format: str, tmp_path: Path) -> None:
    save_scene(exact_scene(tmp_path), "scene")
    code, printed = run("export", "scene", format)
    assert code == 0, printed


def test_extras_are_covered_and_named_correctly() -> None:
    declared = PROJECT["optional-dependencies"]
    assert set(PURPOSES) <= set(COMMANDS) | WITHOUT_COMMAND
    for path in PACKAGE.rglob("*.py"):
        for extra in re.findall(r"""install_extra\(["'](\w+)["']\)""", path.read_text()):
            assert extra in declared, f"{path.name} names the extra {extra}"
    for package, extra in OPTIONAL.values():
        assert any(re.match(rf"{package}\b", line) for line in declared[extra]), package


def test_imports_at_module_level_are_core_dependencies() -> None:
    core = {re.split("[>=<]", line)[0].replace("-", "_") for line in PROJECT["dependencies"]} | {"st4rtrack", "cv2", "PIL"}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.parse(path.read_text()).body:
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            for root in {name.partition(".")[0] for name in names}:
                assert root in core or root in sys.stdlib_module_names, f"{path} imports {root}, which is not a core dependency"
