"""End of the process: Ctrl-C, closed pipes, and output that cannot be encoded. Imports little, because it is loaded first."""

import atexit
import codecs
import contextlib
import os
import select
import shlex
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

from st4rtrack.io.installation import python_command

INTERRUPTED = "interrupted; run the same command again to resume"
VIEW_INTERRUPTED = "interrupted; view does not store the reconstruction of a video, use st4rtrack run VIDEO, which can be resumed"
GRACE_S = 0.4
"""Time from Ctrl-C to the kill: a thread may be seconds into one step of the network. Output folders survive a kill anyway."""
_CLEANUP_S = 0.3
"""Time for exit handlers, which remove temporary folders and locks."""


class Interruption:
    """Ends the process in under a second after Ctrl-C, however often it is pressed, with one message."""

    def __init__(self, report: Callable[[], None]) -> None:
        """Args: function that reports the interruption to the user; it is called once, from any thread."""
        self._report, self._reported = report, threading.Lock()
        self._asked, self._pid, self._pipe = False, os.getpid(), os.pipe()

    def install(self) -> None:
        """Handle Ctrl-C, unless it is ignored (under nohup) or this is not the main thread."""
        in_main_thread = threading.current_thread() is threading.main_thread()
        if in_main_thread and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._handle)
            threading.Thread(target=self._end_after_grace, name="interruption", daemon=True).start()

    def end(self) -> None:
        """Report the interruption and exit with code 1, without waiting for threads as the interpreter would."""
        if not self._reported.acquire(blocking=False):
            return  # the other thread is ending the process
        with contextlib.suppress(Exception):  # a closed terminal
            self._report()
        cleanup = threading.Thread(target=atexit._run_exitfuncs, daemon=True)
        with contextlib.suppress(RuntimeError):  # the interpreter is ending already
            cleanup.start()
            cleanup.join(_CLEANUP_S)
        os._exit(1)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:
            raise KeyboardInterrupt
        if not self._asked:  # more of them would only interrupt the cleanup
            self._asked = True
            os.write(self._pipe[1], b"!")  # starting a thread here could wait for a lock that the interrupted code holds
            raise KeyboardInterrupt

    def _end_after_grace(self) -> None:
        os.read(self._pipe[0], 1)
        threading.Event().wait(GRACE_S)
        self.end()


@contextlib.contextmanager
def checked_streams() -> Iterator[None]:
    """Make standard streams print any file name, and exit quietly if the reader of a pipe is closed (`| head -1`)."""
    codecs.register_error("st4rtrack", _escape)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the parent process
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 (open until the process ends)
        with contextlib.suppress(AttributeError):  # not a text stream of Python's own
            getattr(sys, name).reconfigure(errors="st4rtrack")
    try:
        try:
            yield
        finally:
            _flush()
    except BrokenPipeError:
        for stream in (sys.__stdout__, sys.__stderr__):  # else the interpreter would print an error when it flushes them
            with contextlib.suppress(Exception):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())  # pyright: ignore[reportOptionalMemberAccess]
        sys.exit(1)


def reader_is_gone() -> bool:
    """Whether the reader of standard output or standard error has closed its end."""
    if not hasattr(select, "poll"):  # Windows
        try:
            _flush()
        except OSError:
            return True
        return False
    poller = select.poll()
    for stream in (sys.__stdout__, sys.__stderr__):
        with contextlib.suppress(Exception):  # no stream, or no file descriptor
            poller.register(stream, 0)  # pyright: ignore[reportArgumentType]
    return any(state & (select.POLLERR | select.POLLHUP) for _, state in poller.poll(0))


def command_name() -> str:
    """Return the command as the user can type it: by its path where it is not found by its name."""
    called = Path(sys.argv[0])
    if shutil.which("st4rtrack") or called.name not in ("st4rtrack", "__main__.py"):
        return "st4rtrack"
    return str(called) if called.name == "st4rtrack" else f"{python_command()} -m st4rtrack"


def command_line(*arguments: str | Path) -> str:
    """Return a command of this program as the user can type it."""
    quoted = [f'"{argument}"' if os.name == "nt" and " " in str(argument) else str(argument) for argument in arguments]
    return f"{command_name()} {' '.join(quoted) if os.name == 'nt' else shlex.join(quoted)}"


def viewing_command(folder: str | Path) -> str:
    """Return the command that shows a scene in the browser: the viewer, or an HTML page if viser is not installed."""
    return command_line("view", folder) if find_spec("viser") else command_line("export", folder, "html")


def _flush() -> None:
    for stream in (sys.__stdout__, sys.__stderr__):
        if stream is not None and not stream.closed:
            stream.flush()


def _escape(error: UnicodeError) -> tuple[str | bytes, int]:
    """Encode surrogate escapes of file names as raw bytes, and other unencodable characters as \\u escapes."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeError:
        return codecs.lookup_error("backslashreplace")(error)
