"""Parsing of option values that are text on the command line."""

import dataclasses
from collections.abc import Collection
from typing import Any, Literal

from st4rtrack.formats import FORMATS
from st4rtrack.options import positive_int
from st4rtrack.types import UserError


def checked(options: Any) -> Any:
    """Parse anchor and counts of a dataclass of options: "auto" becomes `None`.

    Raises:
        UserError: one of the values is invalid.
    """
    values = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
    changes: dict[str, Any] = {"anchor": read_anchor(str(values["anchor"]))} if "anchor" in values else {}
    for name in {"size", "batch_size", "steps", "iterations"} & values.keys():
        automatic = values[name] is None or values[name] == "auto"
        changes[name] = None if automatic else positive_int(values[name], f"--{name.replace('_', '-')}")
    return dataclasses.replace(options, **changes)


def read_anchor(value: str) -> int | Literal["middle", "auto"]:
    """Parse a frame number, "middle" or "auto"."""
    if value == "middle" or value == "auto":
        return value
    if not value.isascii() or not value.isdigit():
        raise UserError(f"--anchor must be a frame number, 'middle' or 'auto', got {value!r}")
    return int(value)


def export_formats(value: str) -> list[str]:
    """Parse a comma-separated list of export formats.

    Raises:
        UserError: a format is unknown, or needs a package that is not installed.
    """
    names = names_among(value, FORMATS, "--export")
    for name in names:
        FORMATS[name].require_package(name)
    return names


def names_among(value: str, known: Collection[str], option: str) -> list[str]:
    """Parse a comma-separated list of known names.

    Raises:
        UserError: a name is unknown.
    """
    names = [name.strip() for name in value.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise UserError(f"{option} must be among {', '.join(known)}, got {name!r}")
    return names
