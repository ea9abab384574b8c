"""Safe reader of untrusted `.npz` files: no code is executed and sizes are checked.

NumPy stores object arrays as pickles, and loading a pickle runs arbitrary code. Published sequences store their images as object
arrays of byte strings: `byte_objects.py` reads these, and no other kind of object array.
"""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from st4rtrack.io.byte_objects import read_byte_objects
from st4rtrack.io.files import require_downloaded
from st4rtrack.io.npy import read_array, read_header, require_memory
from st4rtrack.types import UserError


def npz_keys(path: str | Path) -> list[str]:
    """Names of the arrays in an `.npz` file.

    Raises:
        UserError: the file is absent, or not an `.npz`.
    """
    with opened_npz(Path(path)) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]


def read_npz(path: str | Path, *keys: str) -> dict[str, np.ndarray]:
    """Read arrays of an `.npz` file by name; object arrays may only hold byte strings.

    Args:
        path: the file.
        keys: names of the arrays to read; default all.
    Returns:
        name -> array as stored. Object arrays are returned as arrays of `bytes` objects.
    Raises:
        UserError: the file is absent, damaged or not an `.npz`, lacks a key, or holds objects other than bytes (never loaded).
    """
    present = npz_keys(path)
    for key in keys:
        if key not in present:
            raise UserError(f"{path} has no array {key!r}; it has {', '.join(present) or 'none'}")
    with opened_npz(Path(path)) as archive:
        return {key: _read_member(archive, key, str(path)) for key in keys or present}


@contextmanager
def opened_npz(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open an `.npz` archive; errors on opening or while reading become a `UserError`.

    Raises:
        UserError: the file is absent, damaged or not an archive.
    """
    if not path.is_file():
        raise UserError(f"{path} does not exist; check the path")
    require_downloaded(path)
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except UserError:
        raise
    except Exception as error:  # a damaged archive can fail with any kind of error
        why = " ".join(str(error).split())[:160] or type(error).__name__
        raise UserError(f"{path} is not an .npz file, or is damaged ({why}); fetch or write it again") from error


def _read_member(archive: zipfile.ZipFile, key: str, path: str) -> np.ndarray:
    label, size = f"array {key!r} of {path}", archive.getinfo(f"{key}.npy").file_size
    with archive.open(f"{key}.npy") as stream:
        shape, _, dtype = read_header(stream, label)
        if dtype.kind == "O":
            require_memory(size, label)
            return read_byte_objects(stream.read(), shape, label)
    with archive.open(f"{key}.npy") as stream:
        return read_array(stream, label, size)
