"""Safe readers of untrusted `.npy` and `.npz` files: no code is executed, and sizes are checked before allocation."""

import pickle
import pickletools
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from math import prod
from os import SEEK_CUR
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from st4rtrack.io.files import require_downloaded
from st4rtrack.io.memory import free_bytes
from st4rtrack.io.text import short
from st4rtrack.types import UserError

WRITE_AGAIN = "fetch or write the file again"


def read_header(stream: IO[bytes], label: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Read the header of an array: (shape, whether column-major, dtype); the stream is at the data afterwards."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecated header syntax is either parsed or refused below
            version = npy.read_magic(stream)
            shape, fortran, dtype = (npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0)(stream)
    except Exception as error:  # NumPy parses a Python literal, which can fail with any kind of error
        raise UserError(f"{label} cannot be read ({short(error)}); {WRITE_AGAIN}") from error
    if dtype.itemsize == 0 or any(isinstance(size, bool) or size < 0 for size in shape):
        raise UserError(f"{label} cannot be read (invalid header: shape {list(shape)}, dtype {dtype}); {WRITE_AGAIN}")
    return shape, fortran, dtype


def read_array(stream: IO[bytes], label: str, size: int) -> np.ndarray:
    """Read an array of numbers or text; object arrays are refused."""
    start = stream.tell()
    shape, fortran, dtype = read_header(stream, label)
    if dtype.hasobject:
        raise UserError(f"{label} holds Python objects, which are not loaded; save it as numbers or byte strings instead")
    claimed, there = prod(shape) * dtype.itemsize, size - (stream.tell() - start)
    if claimed > there:
        raise UserError(f"{label} should have {claimed} bytes but has {max(there, 0)}; {WRITE_AGAIN}")
    require_memory(claimed, label)
    try:
        data = np.empty(prod(shape), dtype)
        if claimed:
            read_into(stream, data.view(np.uint8).data, label)
    except MemoryError as error:
        raise UserError(f"{label} does not fit into memory ({claimed / 1e9:.1f} GB); use a machine with more") from error
    except ValueError as error:
        raise UserError(f"{label} cannot be read ({short(error)}); {WRITE_AGAIN}") from error
    return data.reshape(shape[::-1]).T if fortran else data.reshape(shape)


def read_npy(path: Path) -> np.ndarray:
    """Read an `.npy` file.

    Raises:
        UserError: the file cannot be read, or does not hold an array of numbers or text.
    """
    try:
        with path.open("rb") as file:
            return read_array(file, str(path), path.stat().st_size)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check the path and its permissions") from error


def require_memory(size: int, label: str) -> None:
    """Refuse an allocation that is larger than free memory."""
    free = free_bytes()
    if free is not None and size > free:
        raise UserError(f"{label} needs {size / 1e9:.1f} GB, but {free / 1e9:.1f} GB of memory are free; is the file damaged?")


def read_into(stream: IO[bytes], target: memoryview, label: str) -> None:
    """Fill the target from the stream, in chunks of 1 MiB."""
    done = 0
    while done < len(target):
        piece = stream.read(min(1 << 20, len(target) - done))
        if not piece:
            raise UserError(f"{label} ends early, after {done} of {len(target)} bytes; {WRITE_AGAIN}")
        target[done : done + len(piece)] = piece
        done += len(piece)


def read_byte_objects(data: bytes, shape: tuple[int, ...], label: str) -> np.ndarray:
    """Read an array of byte strings from a pickle without executing anything in it."""
    try:
        described = _Unpickler(BytesIO(_checked_pickle(data))).load()
        found = _items(described, shape)
    except UserError as error:
        raise UserError(f"{label} {error}") from None
    except Exception as error:  # a damaged pickle can fail with any kind of error
        raise UserError(f"{label} is damaged ({short(error)}); fetch or write the file again") from error
    array = np.empty(len(found), object)
    array[:] = [_as_bytes(item, label) for item in found]
    return array.reshape(shape)


def _checked_pickle(data: bytes) -> bytes:
    """The pickle without FRAME opcodes, after a check of its memo indices."""
    # Python's unpickler allocates memory up to the largest memo index, gigabytes if a file asks for it. Where a frame, which only
    # sets the read size, ends inside an opcode, the unpickler drops bytes and would execute other opcodes than the checked ones.
    kept, begin, framed = [], 0, False
    for code, argument, position in pickletools.genops(data):
        if framed:
            begin, framed = position, False
        if code.name in ("PUT", "BINPUT", "LONG_BINPUT") and not 0 <= int(argument) <= len(data):  # pyright: ignore[reportArgumentType, reportOptionalOperand]
            raise ValueError("a memo index is out of range")
        if code.name == "FRAME":
            kept.append(data[begin:position])
            framed = True
    return b"".join([*kept, data[begin:]])


def _items(described: Any, shape: tuple[int, ...]) -> list[Any]:
    """Items of an object array, in memory order."""
    if isinstance(described, _Array) and isinstance(described.state, tuple) and len(described.state) == 5:
        _, its_shape, dtype, fortran, items = described.state
        is_array = (
            isinstance(dtype, _Dtype) and dtype.code == "O8" and isinstance(items, list) and not (fortran and len(shape) > 1)
        )
        if is_array and its_shape == shape and len(items) == prod(shape):
            return items
    raise UserError(f"is damaged: its content is not the array {list(shape)} of its header; fetch or write the file again")


def _as_bytes(item: Any, label: str) -> bytes:
    if isinstance(item, _Array) and isinstance(item.state, tuple) and len(item.state) == 5:
        _, shape, dtype, _, content = item.state
        if isinstance(dtype, _Dtype) and dtype.code == "u1" and isinstance(content, bytes) and isinstance(shape, tuple):
            return content
    if not isinstance(item, bytes):
        kind = "array" if isinstance(item, _Array) else type(item).__name__
        raise UserError(f"{label} holds {kind} objects; only byte strings are supported, so save the images as such (dtype 'S')")
    return item


class _Array:
    """Inert substitute for `numpy.ndarray` in a pickle; stores the state without interpreting it."""

    __slots__ = ("state",)

    def __init__(self, *_: Any) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Dtype:
    """Inert substitute for `numpy.dtype` in a pickle."""

    __slots__ = ("code",)

    def __init__(self, code: Any, *_: Any) -> None:
        self.code = code

    def __setstate__(self, state: Any) -> None:
        """Ignore the state (byte order etc.), which is irrelevant for bytes and objects."""


class _Encode:
    """Inert substitute for `codecs.encode`, which old pickle protocols use to store bytes."""

    def __new__(cls, text: Any, codec: Any) -> Any:
        if codec not in ("latin1", "latin-1"):
            raise UserError(f"is damaged: it encodes bytes as {str(codec)[:40]!r}; fetch or write the file again")
        return text.encode("latin-1")

    def __setstate__(self, state: Any) -> None:
        """Refuse a state: a pickle that tries to modify this class calls this method."""
        raise TypeError("codecs.encode has no state")


# Only classes with a `__setstate__`, so that a pickle cannot set their attributes.
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("numpy._core.multiarray", "_reconstruct"): _Array,  # written by NumPy 2
    ("numpy.core.multiarray", "_reconstruct"): _Array,  # written by NumPy 1
    ("_codecs", "encode"): _Encode,
}


class _Unpickler(pickle.Unpickler):
    """Unpickler that resolves the names in `_ALLOWED` only; others are refused before any import or call."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise UserError(
                f"asks to run {module}.{name} when it is loaded, so it was not loaded; "
                "do not trust this file, or save the images as byte strings (dtype 'S') instead"
            )
        return _ALLOWED[module, name]


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
    present = _require_keys(path, *keys)
    with opened_npz(Path(path)) as archive:
        return {key: _read_member(archive, key, str(path)) for key in keys or present}


def _require_keys(path: str | Path, *keys: str) -> list[str]:
    """Names of all arrays of an `.npz`; an error if one of `keys` is missing."""
    present = npz_keys(path)
    if missing := [key for key in keys if key not in present]:
        raise UserError(f"{path} has no array {missing[0]!r}; it has {', '.join(present) or 'none'}")
    return present


@contextmanager
def opened_npz(path: Path) -> Iterator[zipfile.ZipFile]:
    """Open an `.npz` archive; errors on opening or while reading become a `UserError`."""
    if not path.is_file():
        raise UserError(f"{path} does not exist; check the path")
    require_downloaded(path)
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except UserError:
        raise
    except Exception as error:  # a damaged archive can fail with any kind of error
        raise UserError(f"{path} is not an .npz file, or is damaged ({short(error)}); fetch or write it again") from error


def _read_member(archive: zipfile.ZipFile, key: str, path: str) -> np.ndarray:
    label, size = f"array {key!r} of {path}", archive.getinfo(f"{key}.npy").file_size
    with archive.open(f"{key}.npy") as stream:
        shape, _, dtype = read_header(stream, label)
        if dtype.kind == "O":
            require_memory(size, label)
            return read_byte_objects(stream.read(), shape, label)
    with archive.open(f"{key}.npy") as stream:
        return read_array(stream, label, size)


def npz_shape(path: str | Path, key: str) -> tuple[int, ...]:
    """Read the shape of an array in an `.npz` from its header.

    Raises:
        UserError: the file is absent or damaged, or has no such array.
    """
    with _opened(Path(path), key) as stream:
        return read_header(stream, _label(path, key))[0]


def read_npz_rows(path: str | Path, key: str, start: int, stop: int) -> np.ndarray:
    """Read rows start..stop-1 of an array in an `.npz`; only these rows are held in memory.

    Args:
        path: the `.npz`.
        key: name of the array; object arrays are not read.
        start, stop: 0 <= start <= stop <= number of rows.
    Returns:
        [stop - start, ...] as stored.
    Raises:
        UserError: the file is absent or damaged, has no such array, or the array has fewer rows.
    """
    with _opened(Path(path), key) as stream:
        shape, fortran, dtype = read_header(stream, _label(path, key))
        if not shape or shape[0] < stop:
            raise UserError(f"array {key!r} of {path} is {list(shape)}, which has no rows {start} to {stop - 1}")
        if not fortran and not dtype.hasobject:
            row_bytes = dtype.itemsize * prod(shape[1:])
            stream.seek(start * row_bytes, SEEK_CUR)
            data = stream.read((stop - start) * row_bytes)
            if len(data) != (stop - start) * row_bytes:
                raise UserError(f"array {key!r} of {path} ends before its last row; fetch or write the file again")
            return np.frombuffer(data, dtype).reshape(stop - start, *shape[1:])
    return read_npz(path, key)[key][start:stop]  # rows are not contiguous in column-major order


@contextmanager
def _opened(path: Path, key: str) -> Iterator[IO[bytes]]:
    _require_keys(path, key)
    with opened_npz(path) as archive, archive.open(f"{key}.npy") as stream:
        yield stream


def _label(path: str | Path, key: str) -> str:
    return f"array {key!r} of {path}"
