"""Packages that only some formats need."""

import importlib
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
        missing = package or module
        raise UserError(f'the format {format} needs {missing}; install it with: pip install "st4rtrack[export]"') from error
