"""Folder locks: one writer per folder, a second process gets an error, a killed one leaves no stale lock.

The operating system holds the lock while the process that acquired it runs; the file content only identifies that process.
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
"""Default timeout for acquiring a lock: workers of a command that was just killed exit slightly later."""
_BETWEEN_S = 0.02
_HELD = (errno.EACCES, errno.EAGAIN, errno.EDEADLK)


class FolderLock:
    """Exclusive right to write to a folder, until `release` or the end of the process."""

    def __init__(self, folder: str | Path, *, patience_s: float | None = None) -> None:
        """Acquire the lock of an existing folder.

        Args:
            folder: the folder; it contains a small hidden file while the lock is held.
            patience_s: timeout in seconds; default `PATIENCE_S`.
        Raises:
            UserError: another process, or another lock object of this one, holds the lock.
        """
        self.folder, self.path = Path(folder), Path(folder) / LOCK
        until = time.monotonic() + (PATIENCE_S if patience_s is None else patience_s)
        while (descriptor := _take(self.path)) is None:
            if time.monotonic() > until:
                raise UserError(
                    f"{self.folder} is being written to by {_holder(self.path)}; "
                    "wait for it, stop it, or choose another folder with -o"
                )
            time.sleep(_BETWEEN_S)
        self._inode = os.fstat(descriptor).st_ino
        self._finalizer = weakref.finalize(self, _release, descriptor, self.path, self._inode, os.getpid())

    def require_folder(self) -> None:
        """Check that the locked folder still exists at its path (libraries would recreate it and split the output).

        Raises:
            UserError: the folder was moved, removed or replaced since it was locked.
        """
        if _inode(self.path) != self._inode:
            raise UserError(
                f"{self.folder} was moved or removed while it was written to; move it back (it contains the output), "
                "then run the same command again to resume"
            )

    def release(self) -> None:
        """Release the lock and remove its file; repeated calls have no effect."""
        self._finalizer()


@contextlib.contextmanager
def locked(folder: str | Path) -> Iterator[FolderLock]:
    """Hold a `FolderLock` during the context; creates the folder, and removes a new one that stays empty."""
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
    """A file descriptor that holds the lock, or `None` while another holder has it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
    try:
        _lock(descriptor)
    except OSError as error:
        if error.errno in _HELD:
            os.close(descriptor)
            return None
        logger.warning("%s cannot be locked (%s): make sure that only one process writes there", path.parent, error.strerror)
    if _inode(path) != os.fstat(descriptor).st_ino:  # the previous holder removed the file between opening and locking
        os.close(descriptor)
        return None
    holder = {"pid": os.getpid(), "host": platform.node()}
    os.ftruncate(descriptor, 0)
    os.write(descriptor, json.dumps(holder).encode())
    return descriptor


def _release(descriptor: int, path: Path, inode: int, pid: int) -> None:
    # Keep the file of a folder that replaced this one, and do not unlink in forked processes that inherited the descriptor.
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
    """Description of the process that holds a lock, for messages."""
    try:
        holder = json.loads(path.read_text())
        return f"another process ({int(holder['pid'])} on {str(holder['host'])[:100]})"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


if sys.platform == "win32":
    import msvcrt

    _FAR = 2**30
    """Offset of the locked byte: Windows blocks reads of locked bytes, and the holder's name at the start must be readable."""

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, _FAR, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        os.lseek(descriptor, 0, os.SEEK_SET)
else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
