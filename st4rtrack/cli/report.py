"""Crash report to attach to an issue: command, machine and traceback. No environment variables, no secrets."""

import os
import platform
import shlex
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from st4rtrack.io.text import redacted, without_home

ISSUES = "the project's issue tracker"


def write_report(error: BaseException, arguments: Sequence[str], output: Iterable[str], *, here: bool) -> Path | None:
    """Write a crash report to a new text file.

    Args:
        error: error with its traceback.
        arguments: arguments of the command line.
        recent: last lines of output of the command.
        here: write to the current folder if possible; else to the system's folder for temporary files.
    Returns:
        Path of the file; `None` if it cannot be written, as on a full disk.
    """
    text = report_text(error, arguments, output)
    name = f"st4rtrack-report-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.txt"
    for folder in ([Path()] if here else []) + [Path(tempfile.gettempdir())]:
        try:
            with (folder / name).open("x", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)
        except OSError:
            continue
        return folder / name
    return None


def report_text(error: BaseException, arguments: Sequence[str], output: Iterable[str]) -> str:
    """Text of the crash report: sections of lines."""
    sections = {
        "Command": [f"st4rtrack {shlex.join(arguments)}", f"in {Path.cwd()}"],
        "Versions": _lines_of(_versions),
        "Machine": _lines_of(_machine),
        "Output": list(output),
        "Traceback": traceback_text(error).splitlines(),
    }
    body = "\n".join(f"\n## {title}\n\n" + "\n".join(lines) for title, lines in sections.items())
    head = f"# Crash report of st4rtrack\n\nCheck it for private data before you attach it at {ISSUES}.\n"
    return without_home(redacted(head + body + "\n"))


def traceback_text(error: BaseException) -> str:
    """Traceback as printed by Python."""
    return "".join(traceback.format_exception(error))


def _lines_of(section: Callable[[], Iterable[str]]) -> list[str]:
    """Lines of a section; errors are caught, so that one section cannot prevent the report."""
    try:
        return list(section())
    except Exception as error:
        return [f"unknown: {type(error).__name__}: {error}"]


def _versions() -> list[str]:
    from st4rtrack import __version__
    from st4rtrack.doctor.packages import packages_of

    lines = [f"st4rtrack {__version__}", f"Python {platform.python_version()}"]
    return lines + [f"{package.name} {package.version}" for package in packages_of("")]


def _machine() -> list[str]:
    from st4rtrack.doctor.machine import GIB, disk_bytes, machine_line, memory_bytes

    total, free = memory_bytes()
    lines = [f"{platform.system()} {platform.release()}", machine_line()]
    lines.append(f"memory: {free / GIB:.1f} GiB free of {total / GIB:.1f} GiB")
    return [*lines, f"disk: {disk_bytes(Path()) / GIB:.1f} GiB free in the current folder"]
