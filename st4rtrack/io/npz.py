"""Arrays out of `.npz` files, without ever running what a file says.

NumPy stores object arrays as pickles, and loading a pickle runs code of the file's choosing. Published sequences hold their
images as such arrays, so they are read here by an unpickler that knows the few names that object arrays of bytes need, and no
other name. It does not read any other kind of object array.
"""

import pickle
import zipfile
import zlib
from _codecs import encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from st4rtrack.types import UserError

_RECONSTRUCT = np.empty(0).__reduce__()[0]  # wherever this NumPy keeps it

# Built-in functions and types only: their attributes cannot be set, so a pickle has no way to change what they do.
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("numpy._core.multiarray", "_reconstruct"): _RECONSTRUCT,  # written by NumPy 2
    ("numpy.core.multiarray", "_reconstruct"): _RECONSTRUCT,  # written by NumPy 1
    ("_codecs", "encode"): encode,  # how old pickle protocols spell bytes
}


def npz_keys(path: str | Path) -> list[str]:
    """Names of the arrays in an `.npz` file.

    Raises:
        UserError: the file is absent, or is no `.npz`.
    """
    with _opened(Path(path)) as archive:
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
    with _opened(Path(path)) as archive:
        return {key: _read_member(archive, key, str(path)) for key in keys or present}


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    if not path.is_file():
        raise UserError(f"{path} does not exist; check the path")
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, NotImplementedError) as error:
        raise UserError(f"{path} is not an .npz file, or is damaged ({error}); fetch or write it again") from error


def _read_member(archive: zipfile.ZipFile, key: str, label: str) -> np.ndarray:
    try:
        with archive.open(f"{key}.npy") as stream:
            shape, dtype = _read_header(stream)
            if dtype.hasobject:
                return _read_objects(stream, shape, key, label)
        with archive.open(f"{key}.npy") as stream:
            return npy.read_array(stream, allow_pickle=False)
    except (ValueError, TypeError, MemoryError, OverflowError) as error:
        raise UserError(f"array {key!r} of {label} cannot be read ({error}); fetch or write the file again") from error


def _read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype]:
    version = npy.read_magic(stream)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, _, dtype = read(stream)
    return shape, dtype


def _read_objects(stream: IO[bytes], shape: tuple[int, ...], key: str, label: str) -> np.ndarray:
    try:
        array = _BytesArrayUnpickler(stream).load()
    except UserError as error:
        raise UserError(f"array {key!r} of {label} {error}") from None
    except Exception as error:  # a damaged pickle can fail with any kind of error
        raise UserError(f"array {key!r} of {label} is damaged ({error}); fetch or write the file again") from error
    if not isinstance(array, np.ndarray) or array.dtype != object or array.shape != shape:
        raise UserError(f"array {key!r} of {label} is damaged: its content is not the array that its header announces")
    for i, item in enumerate(array.flat):
        if isinstance(item, np.ndarray) and item.dtype == np.uint8:
            array.flat[i] = item.tobytes()  # as OpenCV's imencode gives them
        elif not isinstance(item, bytes):
            raise UserError(f"array {key!r} of {label} holds {type(item).__name__} objects; only byte strings are read")
    return array


class _BytesArrayUnpickler(pickle.Unpickler):
    """Builds an object array of bytes; any other name in the pickle is refused before anything is looked up or called."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise UserError(
                f"asks to run {module}.{name}, which loading it would do; it was not loaded: "
                "do not trust this file, or save the images as byte strings (dtype 'S') instead"
            )
        return _ALLOWED[module, name]
