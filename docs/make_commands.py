"""Write docs/commands.md from the docstrings and options of the commands.

python docs/make_commands.py
"""

import dataclasses
import inspect
import textwrap
import typing
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import docstring_parser

from st4rtrack.cli.export import export, format_command
from st4rtrack.cli.main import BENCH, COMMANDS, DESCRIPTION, EVERYWHERE
from st4rtrack.cli.parser import HIDDEN, METAVARS, NAMES
from st4rtrack.formats import FORMATS

HEAD = """# Commands

<!-- Written by docs/make_commands.py; a test compares. Change the docstrings in st4rtrack/cli/, not this page. -->

{description}

`st4rtrack COMMAND --help` shows one command, `st4rtrack --version` the version.

Invalid input ends with one sentence and exit code 2. Run the same command again to resume an interrupted run.

Options of every command, before or after its name:

{everywhere}

[Scripting](pipelines.md) has the events and exit codes.
"""


def section(name: str, command: Callable[..., Any]) -> str:
    """One command: usage, summary and a table of its options."""
    documentation = docstring_parser.parse(inspect.getdoc(command) or "")
    meaning = {entry.arg_name: entry.description or "" for entry in documentation.params}
    hints = typing.get_type_hints(command, include_extras=True)
    positional, rows = [], []
    for parameter in inspect.signature(command).parameters.values():
        hint = hints[parameter.name]
        if parameter.kind is parameter.POSITIONAL_ONLY:
            shown_name = METAVARS.get(parameter.name, parameter.name.upper()).strip("[]")
            positional.append(shown_name if parameter.default is parameter.empty else f"[{shown_name}]")
            rows.append(f"| `{shown_name}` | | {told(meaning[parameter.name])} |")
        elif dataclasses.is_dataclass(hint):
            rows += group(hint)
        else:
            rows.append(row(parameter.name, hint, parameter.default, meaning.get(parameter.name, "")))
    text = " ".join(part for part in (documentation.short_description, documentation.long_description) if part)
    return "\n".join(
        [
            f"## {name}\n",
            f"    st4rtrack {' '.join([name, *positional])}{' [options]' * (len(rows) > len(positional))}\n",
            f"{textwrap.fill(' '.join(text.split()), 118)}\n",
            "| option | default | meaning |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )


def export_section() -> str:
    """`export`: options of all formats, then those of each."""
    common = set(section("", format_command("tum")).splitlines())
    formats = {name: section("", format_command(name)).splitlines() for name in FORMATS}
    own = [
        f"| `{name}` {line}"
        for name, lines in formats.items()
        for line in lines
        if line.startswith("| `--") and line not in common
    ]
    shared = [line for line in formats["tum"] if line.startswith(("| `SCENE", "| `-"))]
    return "\n".join(
        [
            "## export\n\n    st4rtrack export SCENE FORMAT [options]\n",
            f"{(export.__doc__ or '').partition(':')[0]}; `st4rtrack export SCENE FORMAT --help` shows one format.\n",
            "| option | default | meaning |\n|---|---|---|",
            *(line.replace("the ending .txt", "the format's usual ending") for line in shared),
            "\n| format | option | default | meaning |\n|---|---|---|---|",
            *own,
            "",
        ]
    )


def group(options: Any) -> list[str]:
    """The rows of options that several commands have."""
    described = [docstring_parser.parse_from_object(each) for each in reversed(options.__mro__[:-1])]
    meaning = {entry.arg_name: entry.description or "" for each in described for entry in each.params}
    hints = typing.get_type_hints(options, include_extras=True)
    shown = [field for field in dataclasses.fields(options) if field.name not in HIDDEN]
    return [row(field.name, hints[field.name], field.default, meaning[field.name]) for field in shown]


def row(name: str, hint: Any, default: Any, meaning: str) -> str:
    """An option in the table."""
    renamed = [entry.name for entry in getattr(hint, "__metadata__", ()) if getattr(entry, "name", None)]
    name = renamed[0] if renamed else NAMES.get(name, name.replace("_", "-"))
    names = [f"`{alias}`" for alias in aliases(hint)] + [f"`--{name}`"]
    return f"| {', '.join(names)} | {shown(default)} | {told(meaning)}{choices(hint)} |"


def told(meaning: str) -> str:
    """A description in one line of a table."""
    return " ".join(meaning.split()).replace("|", "\\|")


def aliases(hint: Any) -> list[str]:
    """Short names of an option, as in `Annotated[..., tyro.conf.arg(aliases=["-o"])]`."""
    return [alias for entry in getattr(hint, "__metadata__", ()) for alias in getattr(entry, "aliases", None) or ()]


def choices(hint: Any) -> str:
    """Choices of an option, or nothing."""
    inner = typing.get_args(hint)[0] if getattr(hint, "__metadata__", None) else hint
    for candidate in (inner, *typing.get_args(inner)):
        if typing.get_origin(candidate) is Literal:
            return " (" + ", ".join(f"`{word}`" for word in typing.get_args(candidate)) + ")"
    return ""


def shown(default: Any) -> str:
    """Default of an option; empty where the program decides."""
    if default is inspect.Parameter.empty or default is None or default in ("", ()) or default is False:
        return ""
    return "on" if default is True else f"`{default}`"


def page() -> str:
    """The whole of docs/commands.md."""
    commands = {name: command for name, command in COMMANDS.items() if name != "bench"}
    commands |= {f"bench {name}": command for name, command in BENCH.items()}
    sections = [export_section() if name == "export" else section(name, command) for name, command in commands.items()]
    everywhere = "\n".join(textwrap.fill(f"- `{name}`: {what}", 118, subsequent_indent="  ") for name, what in EVERYWHERE.items())
    return "\n".join([HEAD.format(description=DESCRIPTION, everywhere=everywhere), *sections])


if __name__ == "__main__":
    (Path(__file__).parent / "commands.md").write_text(page())
