"""Estimate of the disk space of a scene, and check of the free space."""

import shutil
from math import prod
from pathlib import Path

from st4rtrack.io.scene.arrays import SCENE_ZARR
from st4rtrack.io.scene.header import SceneHeader
from st4rtrack.io.scene.table import DEFERRED
from st4rtrack.types import UserError

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
