"""Folders beside the user's own that something is written to, and limits of this process: causes of faults far from where they show."""

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from st4rtrack.doctor.machine import GIB, disk_bytes

FEW_FILES = 256
"""A scene that is read lazily, a pool of pairs and workers hold about a hundred files open."""
LITTLE_SHARED_BYTES = GIB // 8
"""Containers get 64 MiB unless asked for more, which a few batches of training fill."""


@dataclass(frozen=True)
class Place:
    """A folder that something is written to.

    Attributes:
        name: what it is for.
        folder: where; it may not exist yet.
        cure: how to put it elsewhere.
    """

    name: str
    folder: Path
    cure: str

    @property
    def writable(self) -> bool:
        """Whether it, or what would have to be made for it, can be written to; a disk mounted read-only cannot."""
        there = next((folder for folder in (self.folder, *self.folder.parents) if folder.exists()), Path("/"))
        return there.is_dir() and os.access(there, os.W_OK)

    @property
    def free_bytes(self) -> int:
        """Of its disk."""
        return disk_bytes(next(folder for folder in (self.folder, *self.folder.parents) if folder.is_dir()))


def temporary_place() -> Place:
    """Where uploads of the viewer and the doctor's own runs are kept for a while."""
    try:
        folder = Path(tempfile.gettempdir())
    except FileNotFoundError:  # none can be written
        folder = Path(os.environ.get("TMPDIR", "/tmp"))
    return Place("temporary files", folder, "set TMPDIR to a folder that can be written and has room")


def hub_place() -> Place:
    """Where the hub's library keeps models, by its own rules."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache"))
    home = Path(os.environ.get("HF_HOME", cache / "huggingface"))
    folder = Path(os.path.expanduser(os.environ.get("HF_HUB_CACHE", home / "hub")))  # noqa: PTH111 (pathlib raises without a home)
    return Place("models of the hub", folder, "set HF_HOME to a folder that can be written and has room")


def open_files() -> int | None:
    """How many files this process may hold open; `None` where the system does not say."""
    try:
        import resource
    except ImportError:
        return None
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def shared_bytes(folder: Path = Path("/dev/shm")) -> int | None:
    """Shared memory for the workers of training, in all; `None` where there is no such limit."""
    if not folder.is_dir():
        return None
    found = os.statvfs(folder)
    return found.f_blocks * found.f_frsize


def lacks() -> Iterator[tuple[str, str]]:
    """What is wrong with any of them, and its cure."""
    for place in (temporary_place(), hub_place()):
        if not place.writable:
            yield f"{place.folder} ({place.name}) cannot be written", place.cure
        elif place.free_bytes < GIB:
            yield f"only {place.free_bytes / 2**20:.0f} MiB are free in {place.folder} ({place.name})", place.cure
    files, shared = open_files(), shared_bytes()
    if files is not None and 0 <= files < FEW_FILES:
        yield f"this process may hold only {files} files open", "ulimit -n 1024"
    if shared is not None and shared < LITTLE_SHARED_BYTES:
        cure = "train with --workers 0, or start the container with --shm-size 1g"
        yield f"there are only {shared / 2**20:.0f} MiB of shared memory for the workers of training", cure
