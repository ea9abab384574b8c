"""Files that are there whole or not at all."""

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
"""Of a file name, at most, on all usual file systems."""
_ROOM_BYTES = 80
"""Host (32), process and suffix of an unfinished name."""


def matches_of(pattern: Path) -> list[Path]:
    """Files of a glob; folders that exist are taken as they are called, with the brackets in their names."""
    folder = next(parent for parent in pattern.parents if parent == parent.parent or parent.exists())
    return list(folder.glob(str(pattern.relative_to(folder))))


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that takes its name only when it is complete; its folder is made. Nothing is left behind by an error.

    What a killed process left of the same file is removed.
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
    """`whole_file` for content that is at hand."""
    with whole_file(path) as file:
        file.write(content)


def unfinished_name(path: Path) -> str:
    """How the name begins of what this process has not finished for `path`: hidden, and it says whose it is."""
    return f".{short_name(path.name)}.{_host()}-{os.getpid()}"


def short_name(name: str) -> str:
    """A name that leaves room for what `unfinished_name` and its callers add; a long one is cut, and a digest tells it from others."""
    encoded = os.fsencode(name)
    if len(encoded) <= _NAME_BYTES - _ROOM_BYTES:
        return name
    return encoded[: _NAME_BYTES - _ROOM_BYTES - 17].decode("utf-8", "ignore") + "~" + hashlib.sha256(encoded).hexdigest()[:16]


def remove_leftovers(path: Path) -> None:
    """Removes what processes of this machine that are no more left unfinished for `path`, files and folders."""
    ours = re.compile(rf"{re.escape(f'.{short_name(path.name)}.{_host()}-')}(\d+)\.")
    with contextlib.suppress(OSError):  # nobody waits for the room; another process may be as tidy
        for entry in list(path.parent.iterdir()) if path.parent.is_dir() else []:
            if (found := ours.match(entry.name)) and not _lives(int(found[1])):
                if entry.is_dir():
                    shutil.rmtree(entry)
                else:
                    entry.unlink()


def expanded(path: str | Path) -> Path:
    """The path with the home folder in place of ~.

    Raises:
        UserError: the home folder is not known.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise UserError(f"{path} is in a home folder that is not known here; give the whole path, or set HOME") from None


def absolute(path: str | Path) -> Path:
    """The path from the root, the home folder in place of ~; links are kept, as a video has the name that the user knows."""
    return Path(os.path.normpath(expanded(path).absolute()))


def require_downloaded(path: Path | str, start: bytes | None = None) -> None:
    """Refuses what a failed download leaves in place of a file: the text of a clone without Git LFS, or an HTML page.

    Args:
        path: the file.
        start: of its content, where that is at hand.
    Raises:
        UserError: it is one.
    """
    if start is None:
        with Path(path).open("rb") as file:
            start = file.read(_START_BYTES)
    if start.startswith(_LFS_POINTER):
        raise UserError(f"{path} is a Git LFS pointer, not the file itself; fetch it with: git lfs pull")
    text = start[:_START_BYTES].removeprefix(codecs.BOM_UTF8).lstrip().lower()
    if text.startswith(b"<") and (b"<!doctype html" in text or b"<html" in text):
        raise UserError(
            f"{path} is an HTML page, not the file itself: the download failed or asked for a login; open it in a browser to see why, "
            "and download the file again"
        )


def _host() -> str:
    return re.sub(r"\W", "", platform.node())[:32]


def _lives(pid: int) -> bool:
    """Whether there is such a process here; always so where asking would end it (Windows)."""
    if os.name == "nt":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
