"""How much room a scene takes on disk, and whether there is as much."""

import shutil
from math import prod
from pathlib import Path

from st4rtrack.io.scene.arrays import SCENE_ZARR
from st4rtrack.io.scene.header import SceneHeader
from st4rtrack.io.scene.table import LATE
from st4rtrack.types import UserError

STORED_SHARE = 0.85
"""Of the arrays' bytes that is left after compression, measured: points are nearly incompressible."""

SMALLER = "--fps 10 --stop 10s, --size or --dtype-points float16"
"""Options that make a scene smaller."""


def scene_bytes(header: SceneHeader) -> int:
    """Bytes on disk of a scene, about, without further anchors."""
    specs = [*header.specs, *LATE]
    return round(STORED_SHARE * sum(prod(header.shape(spec)) * header.dtype(spec).itemsize for spec in specs))


def require_space(folder: str | Path, num_bytes: int) -> None:
    """Looks whether a scene fits; what an earlier run left in the folder is continued or replaced, so its room counts as free.

    Raises:
        UserError: it does not.
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
