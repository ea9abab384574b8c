"""Commands that install optional packages into the environment of this process, as the user can type them."""

import shutil
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path

_CLONE = Path(__file__).parents[2]


def install_extra(extra: str) -> str:
    """Command that installs an extra: from the clone, else its packages by name (st4rtrack itself may be on no index)."""
    if (_CLONE / "pyproject.toml").is_file():
        return pip_install(f"{_shown(_CLONE)}[{extra}]")
    return pip_install(*requirements(extra) or [f"st4rtrack[{extra}]"])


def pip_install(*wanted: str) -> str:
    """Command that installs requirements into the environment of this process, whether or not it is activated."""
    pip = shutil.which("pip")
    if pip is not None and Path(pip).parent == Path(sys.executable).parent:
        command = "pip install"
    else:
        command = f"{python_command()} -m pip install" if find_spec("pip") else f"uv pip install --python {python_command()}"
    return " ".join([command, *(f'"{each}"' for each in wanted)])


def python_command() -> str:
    """Interpreter of this process: by its path where its environment is not activated."""
    if shutil.which("python") == sys.executable:
        return "python"
    shown = _shown(Path(sys.executable))
    return f'"{shown}"' if " " in shown else shown


def requirements(extra: str) -> list[str]:
    """Requirements of an extra, or the mandatory ones (""), for this system; empty if st4rtrack is not installed as a package."""
    from packaging.requirements import Requirement

    try:
        every = [Requirement(line) for line in metadata.requires("st4rtrack") or []]
    except metadata.PackageNotFoundError:
        return []
    chosen = [
        each
        for each in every
        if (each.marker.evaluate({"extra": extra}) if each.marker and extra else not (each.marker or extra))
    ]
    return [f"{each.name}{each.specifier}" for each in chosen]


def _shown(path: Path) -> str:
    """Path relative to the current folder if it is inside, else absolute; links are kept: they mark virtual environments."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):  # elsewhere, or the current folder was deleted
        return str(path)
