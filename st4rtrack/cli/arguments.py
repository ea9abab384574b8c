"""Translates parser errors of command arguments into one-sentence messages."""

import contextlib
import dataclasses
import difflib
import inspect
import io
import re
import sys
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import tyro

Command = Callable[..., Any]
Result = TypeVar("Result")


def parsed(parse: Callable[[], Result], mistake: Callable[[str], str]) -> Result:
    """Run a parser and return its result. Help is printed and ends the process.

    Args:
        mistake: makes the error message from the output of the parser.
    Raises:
        UserError: the arguments are invalid.
    """
    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            return parse()
    except SystemExit as end:
        if end.code != 2:
            print(printed.getvalue(), end="", file=sys.stderr)
            raise
    from st4rtrack.types import UserError  # imported late, like everything that only commands need

    raise UserError(mistake(printed.getvalue()))


def argument_error(commands: Mapping[str, Command], arguments: Sequence[str], prog: str, printed: str) -> str:
    """Error message for invalid arguments that begin with the name of a command, with a correction."""
    name = arguments[0]
    if name in commands:
        return command_error(commands[name], arguments[1:], f"{prog} {name}", printed)
    kind = "option" if name.startswith("-") else "command"
    return f"unknown {kind} {name} of {prog}; {_suggestion(name, list(commands), f'{prog} --help lists them')}"


def command_error(command: Command, arguments: Sequence[str], prog: str, printed: str) -> str:
    """Error message for invalid arguments of a command, with a correction.

    Args:
        printed: output of the parser, lines in a frame.
    """
    end = arguments.index("--") if "--" in arguments else len(arguments)
    options = ["-h", "--help", *_options(command)]
    for argument in arguments[:end]:
        option = argument.partition("=")[0]
        if re.match(r"-+[A-Za-z]", option) and option.replace("_", "-") not in options:
            return f"unknown option {option} of {prog}; {_suggestion(option, options, f'{prog} --help lists them')}"
    content = _content(printed)
    text, see = " ".join(content.split()), f"{prog} --help explains it"
    if found := re.search(r"(?:Missing value for argument|Argument) '?(-[\w-]+)'?(?:\.|: expected)", text):
        return f"{found[1]} needs a value; {see}"
    if found := re.search(r"nvalid choice:? '(.*?)'(.*)", text):
        option, choices = re.search(r"--[\w-]+", text), re.findall(r"'(.*?)'", found[2].rpartition("(")[2])
        return f"{option[0] if option else 'argument'} must be one of {', '.join(choices)}, got {found[1]!r}; {see}"
    if found := re.search(r"Error parsing (\S+): .*?('[^']*'(?=\]|$))", text):
        return f"{found[1]} cannot be {found[2]}; {see}"
    if found := re.search(r"Unrecognized (?:options|arguments): (.*)", text):
        return f"unexpected argument {found[1]} of {prog}; {see}"
    if needed := _missing(command, text, content):
        return f"{prog} needs {', '.join(needed)}; {see}"
    return f"{text[:1].lower()}{text[1:].rstrip('.')}; {see}"


def _suggestion(word: str, known: list[str], otherwise: str) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"did you mean {close[0]}?" if close else otherwise


def _options(command: Any) -> Iterator[str]:
    """Yield every option of a command, including those of its option groups."""
    hints = typing.get_type_hints(command, include_extras=True)
    for parameter in inspect.signature(command).parameters.values():
        if parameter.kind is parameter.POSITIONAL_ONLY:
            continue
        hint = hints[parameter.name]
        plain, *metadata = typing.get_args(hint) if hasattr(hint, "__metadata__") else (hint,)
        if dataclasses.is_dataclass(plain):
            yield from _options(plain)
            continue
        named = next((name for each in metadata if (name := getattr(each, "name", None))), parameter.name)
        option = named.replace("_", "-")
        yield f"--{option}"
        if plain is bool and tyro.conf.FlagCreatePairsOff not in metadata:
            yield f"--no-{option}"
        for each in metadata:
            yield from getattr(each, "aliases", None) or ()


def _missing(command: Command, text: str, content: str) -> list[str]:
    """Missing required arguments that the parser lists in a sentence, or one per line; positional ones by type."""
    if found := re.search(r"arguments are required: (.*)", text):
        listed = found[1].split(", ")
    elif "Missing from" in text:
        listed = re.findall(r"^ {6}(\S.*)", content, re.MULTILINE)
    else:
        return []
    options = [option[0] for each in listed if (option := re.search(r"--[\w-]+", each))]
    parameters = inspect.signature(command).parameters.values()
    positional = [p.name.upper() for p in parameters if p.kind is p.POSITIONAL_ONLY and p.default is p.empty]
    return [*positional[len(positional) - len(listed) + len(options) :], *options]


def _content(printed: str) -> str:
    """Text of the parser's output without the frame: from below the heading to the next horizontal line."""
    framed = "╭" in printed
    lines = [line.replace("│", " ") for line in printed.splitlines() if not re.search("[╭╰]", line)]
    parts = re.split(r"^[ ─-]{4,}$", "\n".join(lines), flags=re.MULTILINE)
    return parts[0 if framed else min(1, len(parts) - 1)]
