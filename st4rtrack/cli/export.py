"""`st4rtrack export SCENE FORMAT`: one sub-command per format, with the options of the format's writer."""

import inspect
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from st4rtrack.cli.parser import call, call_one


def export() -> None:
    """Write a scene in the format of another tool: st4rtrack export SCENE FORMAT [-o PATH] [options of FORMAT]."""


def call_export(arguments: Sequence[str], description: str) -> None:
    """Run the export for arguments that begin with SCENE and FORMAT."""
    from st4rtrack.formats import FORMATS
    from st4rtrack.types import UserError

    asks_help = bool({"-h", "--help"} & {*arguments})
    places = [k for k in range(1, len(arguments)) if arguments[k] in FORMATS and arguments[k - 1] not in ("-o", "--output")]
    if places:
        name = arguments[places[0]]
        others = [*arguments[: places[0]], *arguments[places[0] + 1 :]]
        others = ["--help"] if asks_help else others
        call_one(format_command(name), others, prog="st4rtrack export", name=f"st4rtrack export SCENE {name}")
    elif len(arguments) > 1 and not asks_help and not any(word.startswith("-") for word in arguments[:2]):
        raise UserError(f"unknown export format {arguments[1]!r}; choose one of: {', '.join(FORMATS)}")
    elif arguments and not asks_help:
        raise UserError(f"export needs a scene and a format: st4rtrack export SCENE FORMAT; formats are {', '.join(FORMATS)}")
    else:
        listed = {name: _documented(entry.summary) for name, entry in FORMATS.items()}
        call(listed, ["--help"], prog="st4rtrack export SCENE", description=description)


def format_command(name: str) -> Callable[..., None]:
    """Make the sub-command of a format, with the options of its writer."""
    from st4rtrack.formats import FORMATS, options_of

    def write(
        scene: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar=f"SCENE {name}")],
        /,
        output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None,
        overwrite: bool = False,
        start: str | None = None,
        stop: str | None = None,
        stride: int | None = None,
        anchor: int | None = None,
        **options: Any,
    ) -> None:
        """{summary}

        Args:
            scene: Scene folder.
            output: File or folder to write. Default: beside the scene, with the ending {ending}.
            overwrite: Replace an existing file or folder.
            start: First frame: source frame number, or seconds as in 2.5s.
            stop: End (exclusive): source frame number, or seconds as in 7s.
            stride: Write every n-th frame. Default: all.
            anchor: Anchor whose tracks are written: index of a processed frame. Default: the main anchor.
        """
        _export(scene, output, name, overwrite=overwrite, start=start, stop=stop, stride=stride, anchor=anchor, **options)

    writer, entry = FORMATS[name].write, FORMATS[name]
    parameters = {**inspect.signature(write).parameters, **inspect.signature(writer).parameters}
    hints = typing.get_type_hints(writer) | typing.get_type_hints(write, include_extras=True)
    shared = ["scene", "output", "overwrite", "start", "stop", "stride", "anchor"]
    if not entry.tracks and "branch" not in options_of(name):
        shared.remove("anchor")
    names = [*shared, *(n for n in options_of(name) if n not in ("stride", "progress"))]
    own = [line for line in inspect.cleandoc(writer.__doc__ or "").split("Raises:")[0].splitlines() if line[:4] == " " * 4]
    text = inspect.cleandoc(write.__doc__ or "").replace("{summary}", entry.summary).replace("{ending}", entry.endings[0])
    lines = [*text.splitlines(), *(line for line in own if line.strip().partition(":")[0] not in shared)]
    write.__doc__ = "\n".join(line for line in lines if line[:4] != " " * 4 or line.strip().partition(":")[0] in names)
    write.__annotations__ = {n: hints[n] for n in names}
    common = dict(inspect.signature(write).parameters)
    write.__signature__ = inspect.Signature([common.get(n, parameters[n]) for n in names])  # pyright: ignore[reportFunctionMemberAccess]
    return write


def _documented(summary: str) -> Callable[[], None]:
    def listed() -> None:
        pass

    listed.__doc__ = summary
    return listed


def _export(scene: Path, output: Path | None, name: str, **options: Any) -> None:
    from st4rtrack.cli.progress import Progress
    from st4rtrack.cli.reporter import say, wrote
    from st4rtrack.formats import export, options_of
    from st4rtrack.io.formats.common import lengths
    from st4rtrack.io.scene import load_scene

    with Progress("picture") as progress:
        if "progress" in options_of(name):
            options["progress"] = progress
        wrote(export(scene, output, format=name, **options))
    say(lengths(load_scene(scene).info))
