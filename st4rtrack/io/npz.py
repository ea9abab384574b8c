"""Arrays out of `.npz` files, without ever running or believing what a file says.

NumPy stores object arrays as pickles, and loading a pickle runs code of the file's choosing. Published sequences hold their
images as such arrays: `byte_objects.py` reads those, and no other kind of object array.
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
        UserError: the file is absent, or is no `.npz`.
    """
    with opened_npz(Path(path)) as archive:
        return [name.removesuffix(".npy") for name in archive.namelist() if name.endswith(".npy")]


def read_npz(path: str | Path, *keys: str) -> dict[str, np.ndarray]:
    """Arrays of an `.npz` file by name; object arrays may hold bytes, and nothing else.

    Args:
        path: the file.
        keys: names of the arrays to read; without any, all of them.
    Returns:
        name -> array as stored. Object arrays come as arrays of `bytes` objects.
    Raises:
        UserError: the file is absent, damaged or no `.npz`, lacks a key, or holds other objects than bytes (not loaded then).
    """
    present = npz_keys(path)
    for key in keys:
        if key not in present:
            raise UserError(f"{path} has no array {key!r}; it has {', '.join(present) or 'none'}")
    with opened_npz(Path(path)) as archive:
        return {key: _read_member(archive, key, str(path)) for key in keys or present}


@contextmanager
def opened_npz(path: Path) -> Iterator[zipfile.ZipFile]:
    """The archive; whatever is wrong with it, then or while it is read, is said in one sentence.

    Raises:
        UserError: the file is absent, damaged or no archive.
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
