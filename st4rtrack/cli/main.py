"""Entry point of the command `st4rtrack`: table of commands, output modes, errors and exit codes.

Only the command-line library is imported before the arguments are parsed; each command imports what it needs.
"""

import contextlib
import os
import sys
import time
from collections.abc import Sequence
from typing import NoReturn

from st4rtrack.cli.adapt import adapt
from st4rtrack.cli.batch import batch
from st4rtrack.cli.bench import build, predict, report, score, table
from st4rtrack.cli.bench_adaptation import adaptation
from st4rtrack.cli.doctor import doctor
from st4rtrack.cli.export import call_export, export
from st4rtrack.cli.info import info, join
from st4rtrack.cli.models import convert, models
from st4rtrack.cli.parser import call, refuse_renamed
from st4rtrack.cli.process import INTERRUPTED, VIEW_INTERRUPTED, Interruption, checked_streams, reader_is_gone
from st4rtrack.cli.reporter import Mode, Reporter, reporting
from st4rtrack.cli.run import demo, run
from st4rtrack.cli.train import train
from st4rtrack.cli.view import view
from st4rtrack.io.text import redacted

BENCH = {"predict": predict, "score": score, "report": report, "table": table, "build": build, "adaptation": adaptation}


def bench() -> None:
    """Run the WorldTrack benchmark: predict, score, report, table, build, adaptation (see st4rtrack bench --help)."""


COMMANDS = {
    "demo": demo,
    "run": run,
    "batch": batch,
    "view": view,
    "adapt": adapt,
    "export": export,
    "info": info,
    "join": join,
    "models": models,
    "convert": convert,
    "train": train,
    "bench": bench,
    "doctor": doctor,
}
DESCRIPTION = "Dense 3D tracks, dynamic geometry and cameras in one world frame from a monocular video."
EVERYWHERE = {
    "--quiet": "print only warnings, errors and requested results",
    "--json": "one line of JSON per event on standard output: start, progress, note, warning, wrote, quality, done or error",
    "--debug": "print the traceback of an error, and write a crash report to the current folder",
}
"""Options of every command, before or after its name."""
_ENDINGS = {3: ("unreliable", "the quality report calls a scene unreliable (--require-reliable)")}
_TROUBLE = ("trouble", "something failed; see the warnings")
_ABOUT = "\n\nOptions of every command: " + "; ".join(f"{name} ({what})" for name, what in EVERYWHERE.items()) + "."


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command. Exit code 2 and one sentence for a user's mistake; 1 and a crash report for an internal error."""
    whole_process = arguments is None
    remaining, modes = _split(list(sys.argv[1:] if arguments is None else arguments))
    mode: Mode = "json" if "--json" in modes else "quiet" if "--quiet" in modes else "plain"
    with checked_streams() if whole_process else contextlib.nullcontext():
        if remaining in (["--version"], ["-V"]):
            from st4rtrack import __version__

            print(f"st4rtrack {__version__}")
            return
        with reporting(mode) as reporter:
            interruption = Interruption(lambda: _report_interruption(remaining, reporter)) if whole_process else None
            if interruption is not None:
                interruption.install()
            _run(remaining, reporter, interruption, debug="--debug" in modes)


def _split(arguments: list[str]) -> tuple[list[str], set[str]]:
    """Separate the arguments of the command from options in `EVERYWHERE`; after `--` nothing is an option."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    modes = {argument for argument in arguments[:end] if argument in EVERYWHERE}
    return [argument for argument in arguments[:end] if argument not in EVERYWHERE] + arguments[end:], modes


def _run(arguments: list[str], reporter: Reporter, interruption: Interruption | None, *, debug: bool) -> None:
    start = time.monotonic()
    reporter.event("start", arguments=arguments)
    try:
        _command(arguments)
    except KeyboardInterrupt:
        if interruption is not None:
            interruption.end()
        _report_interruption(arguments, reporter)
        sys.exit(1)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 0 if end.code is None else 1
        if code == 0:
            reporter.event("done", seconds=round(time.monotonic() - start, 3), exit_code=0)
            raise
        kind, text = ("stopped", end.code.strip()) if isinstance(end.code, str) else _ENDINGS.get(code, _TROUBLE)
        reporter.event("error", kind=kind, text=text, exit_code=code)
        raise
    except Exception as error:
        _fail(error, arguments, reporter, debug=debug)
    reporter.event("done", seconds=round(time.monotonic() - start, 3), exit_code=0)


def _command(arguments: list[str]) -> None:
    """Parse the arguments and run the command."""
    os.getcwd()  # noqa: PTH109 (a deleted current folder is an error here; the import of PyTorch would end the process)
    refuse_renamed(arguments)
    prog, description, commands = "st4rtrack", DESCRIPTION, COMMANDS
    if arguments[:1] == ["export"]:
        return call_export(arguments[1:], str(export.__doc__) + _ABOUT)
    if arguments[:1] == ["bench"]:
        prog, description, commands, arguments = "st4rtrack bench", str(bench.__doc__), BENCH, arguments[1:]
    call(commands, arguments, prog=prog, description=description + _ABOUT)


def _fail(error: Exception, arguments: list[str], reporter: Reporter, *, debug: bool) -> NoReturn:
    """Report an error: the message of a user or system error, or for an internal error the crash report file; then exit."""
    from st4rtrack.cli.report import traceback_text, write_report
    from st4rtrack.io.system_errors import explain
    from st4rtrack.types import UserError

    if reader_is_gone():
        raise BrokenPipeError from None
    sentence, kind, code = (str(error), "mistake", 2) if isinstance(error, UserError) else (explain(error), "trouble", 2)
    if sentence is None:
        what = f"{type(error).__name__}: {error}".splitlines()[0]
        sentence, kind, code = f"internal error in st4rtrack ({what})", "fault", 1
    report = write_report(error, arguments, reporter.recent, here=debug) if debug or kind == "fault" else None
    if debug:
        print(traceback_text(error), end="", file=sys.stderr)
    if report is not None:
        sentence += f"; the crash report is {report}, please attach it to an issue" if kind == "fault" else f"; report: {report}"
    if kind == "fault" and not debug:
        sentence += "; --debug prints the traceback"
    _report_end(reporter, sentence, code, kind=kind, report=None if report is None else str(report))
    sys.exit(code)


def _report_interruption(arguments: list[str], reporter: Reporter) -> None:
    _report_end(reporter, VIEW_INTERRUPTED if arguments[:1] == ["view"] else INTERRUPTED, 1, kind="stopped", start="\n")


def _report_end(reporter: Reporter, sentence: str, code: int, *, kind: str, start: str = "", report: str | None = None) -> None:
    """Report the final message, as an event or on the standard error stream."""
    text = redacted(sentence)
    reporter.event("error", kind=kind, text=text, exit_code=code, report=report)
    if reporter.mode != "json":
        print(f"{start}st4rtrack: {text}", file=sys.stderr, flush=True)
