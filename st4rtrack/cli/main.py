"""The command `st4rtrack`: which commands there are, and how they end.

Only the command-line library is imported before the arguments are understood; each command imports what it needs.
"""

import sys
from collections.abc import Sequence

import tyro

from st4rtrack.cli.adapt import adapt
from st4rtrack.cli.batch import batch
from st4rtrack.cli.bench import predict, score, table
from st4rtrack.cli.bench_adaptation import adaptation
from st4rtrack.cli.bench_build import build
from st4rtrack.cli.bench_report import report
from st4rtrack.cli.convert import convert
from st4rtrack.cli.doctor import doctor
from st4rtrack.cli.export import export
from st4rtrack.cli.run import run
from st4rtrack.cli.train import train
from st4rtrack.cli.view import view

BENCH = {"predict": predict, "score": score, "report": report, "table": table, "build": build, "adaptation": adaptation}


def bench() -> None:
    """WorldTrack: predict sequences with any method, score predictions, report scores. See st4rtrack bench --help."""


COMMANDS = {
    "run": run,
    "batch": batch,
    "view": view,
    "adapt": adapt,
    "export": export,
    "convert": convert,
    "train": train,
    "bench": bench,
    "doctor": doctor,
}
DESCRIPTION = "A monocular video in; world-frame dense 3D tracks, dynamic geometry and cameras out."


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command. A user's mistake ends in one sentence and exit code 2; a fault of ours in a traceback."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments in (["--version"], ["-V"]):
        from st4rtrack import __version__

        print(f"st4rtrack {__version__}")
        return
    prog, description, commands = "st4rtrack", DESCRIPTION, COMMANDS
    if arguments[:1] == ["bench"]:
        prog, description, commands, arguments = "st4rtrack bench", bench.__doc__, BENCH, arguments[1:]
    command = tyro.extras.subcommand_cli_from_dict  # functions and their docstrings are the command line
    try:
        command(commands, prog=prog, description=description, args=arguments or ["--help"], config=(tyro.conf.OmitArgPrefixes,))
    except KeyboardInterrupt:
        sys.exit("\nst4rtrack: stopped; the same command goes on where it was")
    except Exception as error:
        from st4rtrack.types import UserError

        if not isinstance(error, UserError):
            raise
        print(f"st4rtrack: {error}", file=sys.stderr)
        sys.exit(2)
