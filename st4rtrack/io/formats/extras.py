"""Optional packages that some export formats need."""

import importlib
import importlib.util
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from st4rtrack.io.installation import install_extra, pip_install
from st4rtrack.types import UserError

EXTRAS = {"trimesh": "glb", "usd-core": "usd", "rerun-sdk": "rerun", "matplotlib": "figure", "OpenEXR": "exr"}
"""Extra of st4rtrack that installs each optional package of an export format."""


def need(module: str, format: str, package: str | None = None) -> ModuleType:
    """Import an optional module.

    Args:
        module: dotted name of the module.
        format: name of the export format that needs it, for messages.
        package: name of the package on the index; default that of the module.
    Raises:
        UserError: the module is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise _missing(package or module, format) from error


def require(module: str, format: str, package: str | None = None) -> None:
    """Check that an optional module is installed, without the time of an import (arguments and errors as in `need`)."""
    if importlib.util.find_spec(module) is None:
        raise _missing(package or module, format)


def _missing(package: str, format: str) -> UserError:
    command = install_extra(EXTRAS[package]) if package in EXTRAS else pip_install(package)
    return UserError(f"the format {format} needs {package}; install it with: {command}")


@contextmanager
def utf8_path(path: str | Path) -> Iterator[Path]:
    """UTF-8 path for libraries that need one: `path`, or a temporary file that is moved to `path` at the end."""
    path = Path(path)
    try:
        str(path).encode()
    except UnicodeEncodeError:
        with tempfile.TemporaryDirectory() as folder:
            temporary = Path(folder) / f"scene{path.suffix}"
            yield temporary
            shutil.move(temporary, path)
    else:
        yield path
