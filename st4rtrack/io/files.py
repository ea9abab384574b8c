"""Atomic file writing, path expansion and detection of failed downloads."""

import codecs
import contextlib
import hashlib
import os
import platform
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from st4rtrack.types import UserError

_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_START_BYTES = 1024
_NAME_BYTES = 255
"""Maximum length of a file name on common file systems."""
_ROOM_BYTES = 80
"""Reserved for host (32), process ID and suffix in the name of an unfinished file."""


def matches_of(pattern: Path) -> list[Path]:
    """Paths that match a glob; brackets in the names of existing folders are taken literally."""
    folder = next(parent for parent in pattern.parents if parent == parent.parent or parent.exists())
    return list(folder.glob(str(pattern.relative_to(folder))))


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Write a file atomically: it appears when complete, and an error leaves nothing behind.

    Creates the parent folder and removes unfinished files that killed processes left for the same path.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_leftovers(path)
    part = path.with_name(f"{unfinished_name(path)}.part")
    try:
        with part.open("wb") as file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def write_whole(path: Path, content: bytes) -> None:
    """Write bytes to a file atomically."""
    with whole_file(path) as file:
        file.write(content)


def unfinished_name(path: Path) -> str:
    """Prefix of the hidden temporary name for `path`, with the host and ID of this process."""
    return f".{short_name(path.name)}.{_host()}-{os.getpid()}"


def short_name(name: str) -> str:
    """A file name with room for the additions of `unfinished_name`; long names are cut and get a digest."""
    encoded = os.fsencode(name)
    if len(encoded) <= _NAME_BYTES - _ROOM_BYTES:
        return name
    return encoded[: _NAME_BYTES - _ROOM_BYTES - 17].decode("utf-8", "ignore") + "~" + hashlib.sha256(encoded).hexdigest()[:16]


def remove_leftovers(path: Path) -> None:
    """Remove unfinished files and folders for `path` of processes that no longer run on this host."""
    ours = re.compile(rf"{re.escape(f'.{short_name(path.name)}.{_host()}-')}(\d+)\.")
    with contextlib.suppress(OSError):  # the disk space is not urgent; another process may be removing the same files
        for entry in list(path.parent.iterdir()) if path.parent.is_dir() else []:
            if (found := ours.match(entry.name)) and not _lives(int(found[1])):
                if entry.is_dir():
                    shutil.rmtree(entry)
                else:
                    entry.unlink()


def expanded(path: str | Path) -> Path:
    """The path with ~ expanded to the home folder.

    Raises:
        UserError: the home folder is unknown.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UserError(f"{path} is in a home folder that is not known here; give the absolute path, or set HOME") from None


def absolute(path: str | Path) -> Path:
    """The absolute path with ~ expanded; symbolic links are not resolved, so that a video keeps its name."""
    return Path(os.path.normpath(expanded(path).absolute()))


def require_downloaded(path: Path | str, start: bytes | None = None) -> None:
    """Refuse the result of a failed download: a Git LFS pointer or an HTML page.

    Args:
        path: the file.
        start: first bytes of its content; read from the file by default.
    Raises:
        UserError: the file is a Git LFS pointer or an HTML page.
    """
    if start is None:
        with Path(path).open("rb") as file:
            start = file.read(_START_BYTES)
    if start.startswith(_LFS_POINTER):
        raise UserError(f"{path} is a Git LFS pointer, not the file itself; fetch it with: git lfs pull")
    text = start[:_START_BYTES].removeprefix(codecs.BOM_UTF8).lstrip().lower()
    if text.startswith(b"<") and (b"<!doctype html" in text or b"<html" in text):
        raise UserError(
            f"{path} is an HTML page, not the file itself: the download failed or asked for a login; "
            "open it in a browser to see why, and download the file again"
        )


def _host() -> str:
    return re.sub(r"\W", "", platform.node())[:32]


def _lives(pid: int) -> bool:
    """Whether a process with this ID runs on this host; always true on Windows, where `os.kill` would end it."""
    if os.name == "nt":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
