"""Checks whether a scene may be written to a folder, and removes an earlier scene."""

import os
import shutil
from math import prod
from pathlib import Path
from typing import Literal

from st4rtrack.io.lock import LOCK, FolderLock
from st4rtrack.io.scene.anchors import ANCHORS_JOURNAL
from st4rtrack.io.scene.arrays import JOURNAL, SCENE_ZARR
from st4rtrack.io.scene.description import FORMAT, SCENE_JSON, TEMPORARY, option_differences, read_json, to_json, write_whole
from st4rtrack.io.scene.table import DEFERRED, SceneHeader
from st4rtrack.io.text import parse_json
from st4rtrack.types import UserError

OVERVIEW = "overview.png"
_NOT_CONTENT = frozenset({TEMPORARY, LOCK, ".DS_Store", "Thumbs.db", "desktop.ini"})  # a folder with only these is empty
_REPLACED = "replaced.zarr"
_WAY_OUT = "choose another folder, or replace it with --overwrite"


def prepare_folder(folder: str | Path, header: SceneHeader, *, overwrite: bool = False) -> Literal["new", "continue", "done"]:
    """Create a folder and check whether a scene may be written to it.

    Args:
        folder: output folder; created with its parents if it does not exist.
        header: metadata of the scene to write.
        overwrite: remove the output of an earlier run; other files are kept.
    Returns:
        "new": no scene (any more); "continue": an incomplete scene with the same options; "done": this scene, complete.
    Raises:
        UserError: the folder has any other content.
    """
    folder = make_folder(folder)
    if overwrite:
        _remove_ours(folder)
        return "new"
    content = sorted(path.name for path in folder.iterdir() if path.name not in _NOT_CONTENT)
    if not content:
        return "new"
    if SCENE_JSON not in content:
        names = ", ".join(content[:3]) + (", ..." if len(content) > 3 else "")
        raise UserError(f"{folder} holds other files ({names}); choose another folder, or write beside them with --overwrite")
    try:
        found = read_json(folder)
    except UserError as error:
        raise UserError(f"{error}; {_WAY_OUT}") from error
    wanted = to_json(header)
    made_with, asked_for = option_differences(found, wanted, folder)
    if made_with:
        raise UserError(
            f"{folder} holds a scene made with {', '.join(made_with)}, this run has {', '.join(asked_for)}; {_WAY_OUT}"
        )
    if found.get("status") == "complete":
        return "done"
    if found.get("st4rtrack_version") != wanted["st4rtrack_version"]:  # do not mix frames of two versions
        raise UserError(f"{folder} holds an incomplete scene of st4rtrack {found.get('st4rtrack_version')}; {_WAY_OUT}")
    return "continue"


def make_folder(folder: str | Path) -> Path:
    """Create the folder of a scene with its parents if it does not exist.

    Raises:
        UserError: the path is a file, or cannot be created or written to.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file, not a folder to write a scene to; choose another with -o")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"the folder {folder} cannot be made ({error.strerror}); choose another with -o") from error
    if not os.access(folder, os.W_OK):
        raise UserError(f"the folder {folder} may not be written to; choose another with -o")
    return folder


def holds_scene(folder: str | Path, header: SceneHeader) -> bool:
    """Whether a folder holds this scene, complete; changes nothing.

    Raises:
        UserError: the folder has other content (see `prepare_folder`), or another process writes to it.
    """
    if not Path(folder).exists():
        return False
    if prepare_folder(folder, header) == "done":
        return True
    FolderLock(folder).release()  # fail early instead of when the writer starts
    return False


def adopt_scene(new: Path, folder: Path) -> None:
    """Replace the scene in a folder by the complete scene of the same video in `new`, which is removed.

    Other files of the folder stay. If it is interrupted, `finish_adoption` completes it.
    """
    if not (new / _REPLACED).exists():
        (folder / SCENE_ZARR).rename(new / _REPLACED)
    if (new / SCENE_ZARR).exists():
        (new / SCENE_ZARR).rename(folder / SCENE_ZARR)
    if (new / SCENE_JSON).exists():
        (new / SCENE_JSON).replace(folder / SCENE_JSON)
    (folder / OVERVIEW).unlink(missing_ok=True)
    shutil.rmtree(new)


def finish_adoption(new: Path, folder: Path) -> None:
    """Continue an interrupted `adopt_scene`; does nothing otherwise."""
    if (new / _REPLACED).exists():
        adopt_scene(new, folder)


def _remove_ours(folder: Path) -> None:
    """Remove an earlier scene and nothing else; after a kill at any point the rest is still recognised as a scene."""
    if not (folder / SCENE_JSON).exists():
        if (folder / SCENE_ZARR).exists():
            raise UserError(
                f"{folder / SCENE_ZARR} has no {SCENE_JSON} beside it: it may be no scene and is not replaced; move it away"
            )
        return
    try:
        found = parse_json((folder / SCENE_JSON).read_text(encoding="utf-8"))
    except ValueError:
        found = {"format": FORMAT}  # truncated scene.json: assume that it is ours
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        raise UserError(f"{folder / SCENE_JSON} was not written by st4rtrack; choose another folder with -o")
    write_whole(folder, {**found, "status": "incomplete"})
    for journal in (JOURNAL, ANCHORS_JOURNAL):
        (folder / journal).unlink(missing_ok=True)
    if (folder / SCENE_ZARR).is_symlink():
        (folder / SCENE_ZARR).unlink()
    elif (folder / SCENE_ZARR).exists():
        shutil.rmtree(folder / SCENE_ZARR)
    (folder / OVERVIEW).unlink(missing_ok=True)
    (folder / SCENE_JSON).unlink()


STORED_SHARE = 0.85
"""Measured ratio of compressed to uncompressed bytes: points are nearly incompressible."""

SMALLER = "--fps 10 --stop 10s, --size or --dtype-points float16"
"""Options that reduce the size of a scene, for messages."""


def scene_bytes(header: SceneHeader) -> int:
    """Approximate size of a scene on disk in bytes, without further anchors."""
    specs = [*header.specs, *DEFERRED]
    return round(STORED_SHARE * sum(prod(header.shape(spec)) * header.dtype(spec).itemsize for spec in specs))


def require_space(folder: str | Path, num_bytes: int) -> None:
    """Check that a scene fits on the disk; an earlier scene in the folder is resumed or replaced and counts as free.

    Raises:
        UserError: there is not enough free space.
    """
    folder = Path(folder).absolute()
    disk = next(each for each in (folder, *folder.parents) if each.exists())
    there = sum(path.stat().st_size for path in (folder / SCENE_ZARR).rglob("*") if path.is_file())
    free = shutil.disk_usage(disk).free
    if num_bytes - there > free:
        raise UserError(
            f"the scene needs about {num_bytes / 1e9:.3g} GB and the disk of {folder} has {free / 1e9:.3g} GB left; free some, choose "
            f"another disk with -o, or make the scene smaller ({SMALLER})"
        )
