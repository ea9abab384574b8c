"""Command-line parser (tyro): calls functions whose signature and docstring define the command line."""

import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from st4rtrack.cli.arguments import Command, argument_error, command_error, parsed

CONFIG = (tyro.conf.OmitArgPrefixes,)

METAVARS = {
    "anchor": "N",
    "batch_size": "N",
    "cameras": "PATH",
    "data": "DIR",
    "depth_prior": "PRIOR",
    "export": "FORMATS",
    "frames": "N...",
    "hold_s": "SECONDS",
    "megabytes": "MB",
    "names": "[NAME...]",
    "turn_deg": "DEGREES",
    "width_in": "INCHES",
    "points_dtype": "DTYPE",
    "fps": "RATE",
    "intrinsics": "VALUES",
    "known_distance": "VALUES",
    "learning_rate": "RATE",
    "on_non_finite": "ACTION",
    "queries": "FILE",
    "scenes": "SCENE...",
    "static_mask": "PATH",
    "start": "TIME",
    "stop": "TIME",
    "videos": "VIDEO...",
    "without": "TERMS",
    "workers": "N",
}
"""Placeholders in help for values of options and positional arguments, unless the type or the name provides one."""
NAMES = {"points_dtype": "dtype-points"}
"""Options whose names differ from the parameter's."""
HIDDEN = {"fit", "report_every", "save_dtype"}
"""Fields of option dataclasses that commands do not offer."""
RENAMED = {
    "run": {"--points": "--dtype-points"},
    "batch": {"--points": "--dtype-points"},
    "export": {"--points": "--max-points", "--tracks": "--max-tracks"},
}
"""Options renamed since an earlier version, by command."""
REMOVED = {"train": ("--pairs", "--validation-pairs")}
"""Options removed since an earlier version, by command."""


def call(commands: Mapping[str, Command], arguments: Sequence[str], *, prog: str, description: str) -> None:
    """Call the command named by the arguments.

    Raises:
        UserError: the arguments are invalid.
    """
    parse: Callable[..., Any] = tyro.extras.subcommand_cli_from_dict
    arguments, shown = arguments or ["--help"], {name: described(command) for name, command in commands.items()}
    options: dict[str, Any] = {"prog": prog, "description": description, "args": arguments, "config": CONFIG}
    _run(parsed(lambda: parse(shown, **options), lambda printed: argument_error(shown, arguments, prog, printed)))


def call_one(command: Command, arguments: Sequence[str], *, prog: str, name: str) -> None:
    """Call a command with its own parser; `name` is its name in messages.

    Raises:
        UserError: the arguments are invalid.
    """
    shown = described(command)
    options: dict[str, Any] = {"prog": prog, "args": arguments, "config": CONFIG}
    _run(parsed(lambda: tyro.cli(shown, **options), lambda printed: command_error(shown, arguments, name, printed)))


def _run(command: Callable[[], Any]) -> None:
    from st4rtrack.cli.progress import log_to_stderr  # only now: help needs none of its imports

    log_to_stderr()
    command()


def refuse_renamed(arguments: Sequence[str]) -> None:
    """Reject options by their former names, and removed options.

    Raises:
        UserError: an option was renamed or removed; the message has the new name.
    """
    command = arguments[0] if arguments else ""
    former = RENAMED.get(command, {}) | dict.fromkeys(REMOVED.get(command, ()), "")
    for name in (argument.partition("=")[0] for argument in arguments):
        if name in former:
            from st4rtrack.types import UserError

            if former[name]:
                raise UserError(f"{name} of {command} was renamed; use {former[name]}")
            raise UserError(f"{name} of {command} was removed; leave it out")


@functools.cache
def described(command: Command) -> Command:
    """Wrap a command for tyro in a function of the same signature that returns the call without executing it.

    Its help shows placeholders instead of types, and no default if there is none. So a
    `SystemExit` while parsing always comes from the parser.
    """

    def called(*arguments: Any, **options: Any) -> Callable[[], Any]:
        return functools.partial(command, *arguments, **options)

    called.__doc__ = command.__doc__
    parameters = inspect.signature(command).parameters
    defaults = {name: entry.default for name, entry in parameters.items()}
    called.__annotations__ = hints = _annotated(typing.get_type_hints(command, include_extras=True), defaults)
    shown = [entry.replace(annotation=hints[name]) for name, entry in parameters.items()]
    called.__signature__ = inspect.Signature(shown)  # pyright: ignore[reportFunctionMemberAccess]
    return called


def _annotated(hints: dict[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _shown(name, hint, defaults.get(name)) for name, hint in hints.items() if name != "return"}


def _shown(name: str, hint: Any, default: Any) -> Any:
    """Type hint with the configuration of its placeholder in help; `Any` in a hint marks values that only Python accepts."""
    if dataclasses.is_dataclass(hint):
        _describe_fields(hint)
        return hint
    if name in HIDDEN:
        return tyro.conf.Suppress[hint]
    kinds = _kinds(hint)
    if Any in kinds:
        hint = typing.Union[tuple(kind for kind in kinds if kind is not Any)]  # noqa: UP007 (made at run time)
    if default is False:
        hint = tyro.conf.FlagCreatePairsOff[hint]
    words = [word for kind in kinds if typing.get_origin(kind) is Literal for word in typing.get_args(kind)]
    shown = functools.partial(_default, words=words)
    return Annotated[hint, tyro.conf.arg(name=NAMES.get(name), metavar=_metavar(name, hint), help_behavior_hint=shown)]


@functools.cache
def _describe_fields(options: Any) -> None:
    defaults = {field.name: field.default for field in dataclasses.fields(options)}
    options.__annotations__ = _annotated(typing.get_type_hints(options, include_extras=True), defaults)


def _default(label: str, words: Sequence[str]) -> str:
    """Text after the description: the choices of an option, and its default if there is one."""
    default = [] if label in ("None", "False", "", "''") else [f"default: {label}"]
    parts = "; ".join([*([", ".join(words)] if words else []), *default])
    return f"({parts})" if parts else ""


def _metavar(name: str, hint: Any) -> str | None:
    """Placeholder of a value in help; `None` for flags, and where the function itself defines a placeholder."""
    metadata = getattr(hint, "__metadata__", ())
    kinds = [kind for kind in _kinds(hint) if kind is not type(None)]
    if kinds == [bool] or any(getattr(entry, "metavar", None) for entry in metadata):
        return None
    typed = {} if tyro.conf.Positional in metadata else {int: "N", float: "X", Path: "PATH"}
    is_word = typing.get_origin(kinds[0]) is Literal and name == "scenes"
    return name.upper() if is_word else METAVARS.get(name) or typed.get(kinds[0], name.upper())


def _kinds(hint: Any) -> tuple[Any, ...]:
    """Alternatives of a union type, without annotations."""
    bare = typing.get_args(hint)[0] if getattr(hint, "__metadata__", None) else hint
    is_union = typing.get_origin(bare) in (typing.Union, types.UnionType)
    return typing.get_args(bare) if is_union else (bare,)
