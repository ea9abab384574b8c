"""Packages that only some formats need."""

import importlib
import importlib.util
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from st4rtrack.types import UserError


def need(module: str, format: str, package: str | None = None) -> ModuleType:
    """An optional module.

    Args:
        module: its name, perhaps with dots.
        format: what it is needed for, as the user calls it.
        package: its name where it is installed from; default the module's.
    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise _missing(package or module, format) from error


def require(module: str, format: str, package: str | None = None) -> None:
    """`need` without the time that an import takes: refuses a format before the work that it is for."""
    if importlib.util.find_spec(module) is None:
        raise _missing(package or module, format)


def _missing(package: str, format: str) -> UserError:
    return UserError(f'the format {format} needs {package}; install it with: pip install "st4rtrack[export]"')


@contextmanager
def utf8_path(path: str | Path) -> Iterator[Path]:
    """A path for libraries that take UTF-8 only: the path itself, or a temporary one whose file is moved to it at the end."""
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
