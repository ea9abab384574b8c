"""One writer per folder: a second process is refused with a sentence, and a killed one leaves nothing that blocks.

The operating system holds the lock for as long as the process lives that took it; the file only says who that is.
"""

import contextlib
import errno
import json
import logging
import os
import platform
import sys
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

from st4rtrack.types import UserError

logger = logging.getLogger(__name__)

LOCK = ".st4rtrack.lock"
PATIENCE_S = 1.0
"""How long a lock is asked for: the worker of a command that was just killed lives a moment longer."""
_BETWEEN_S = 0.02
_HELD = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)


class FolderLock:
    """The right to write to a folder, until `release`, or until the process ends in whatever way."""

    def __init__(self, folder: str | Path, *, patience_s: float | None = None) -> None:
        """Takes the lock of a folder that exists.

        Args:
            folder: the folder; a small hidden file is in it while the lock is held.
            patience_s: how long to ask for it; default `PATIENCE_S`.
        Raises:
            UserError: another process, or another part of this one, holds it.
        """
        self.folder, self.path = Path(folder), Path(folder) / LOCK
        until = time.monotonic() + (PATIENCE_S if patience_s is None else patience_s)
        while (descriptor := _take(self.path)) is None:
            if time.monotonic() > until:
                raise UserError(
                    f"{self.folder} is being written to by {_holder(self.path)}; wait for it or end it, or choose another folder with -o"
                )
            time.sleep(_BETWEEN_S)
        self._inode = os.fstat(descriptor).st_ino
        self._finalizer = weakref.finalize(self, _release, descriptor, self.path, self._inode, os.getpid())

    def require_folder(self) -> None:
        """Refuses to write where the folder was moved, removed or replaced meanwhile: libraries would make it anew, and split the result.

        Raises:
            UserError: the folder is no longer the one that was locked.
        """
        if _inode(self.path) != self._inode:
            raise UserError(
                f"{self.folder} was moved or removed while it was written to; put it back where it was: "
                "what was written is in it, and the same command goes on from there"
            )

    def release(self) -> None:
        """Gives the lock back; the file is gone then. More than once does no harm."""
        self._finalizer()


@contextlib.contextmanager
def locked(folder: str | Path) -> Iterator[FolderLock]:
    """A `FolderLock` for as long as the context lasts; makes the folder, and takes it away again where it stays empty."""
    folder = Path(folder)
    new = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    lock = FolderLock(folder)
    try:
        yield lock
    finally:
        lock.release()
        if new:
            with contextlib.suppress(OSError):  # it is not empty
                folder.rmdir()


def _take(path: Path) -> int | None:
    """A descriptor that holds the lock, or `None` while somebody else does."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
    try:
        _lock(descriptor)
    except OSError as error:
        if error.errno in _HELD:
            os.close(descriptor)
            return None
        logger.warning("%s cannot be locked (%s): make sure that only one process writes there", path.parent, error.strerror)
    if _inode(path) != os.fstat(descriptor).st_ino:  # the holder took its file away between opening and locking
        os.close(descriptor)
        return None
    holder = {"pid": os.getpid(), "host": platform.node()}
    os.ftruncate(descriptor, 0)
    os.write(descriptor, json.dumps(holder).encode())
    return descriptor


def _release(descriptor: int, path: Path, inode: int, pid: int) -> None:
    # not that of a folder that was put in this one's place, nor by a process that only has a copy of the descriptor
    with contextlib.suppress(OSError):
        if _inode(path) == inode and os.getpid() == pid:
            path.unlink()
    os.close(descriptor)


def _inode(path: Path) -> int | None:
    try:
        return path.stat().st_ino
    except (FileNotFoundError, NotADirectoryError):
        return None


def _holder(path: Path) -> str:
    """Who holds a lock, in words."""
    try:
        holder = json.loads(path.read_text())
        return f"another process ({int(holder['pid'])} on {str(holder['host'])[:100]})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


if sys.platform == "win32":
    import msvcrt

    _FAR = 2**30
    """The byte that is locked: Windows keeps others from reading what is, and the holder's name is at the start."""

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, _FAR, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        os.lseek(descriptor, 0, os.SEEK_SET)
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
