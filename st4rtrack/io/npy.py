"""Safe reader of the NumPy array format: the header is checked against the file size before allocation."""

import warnings
from math import prod
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy

from st4rtrack.io.memory import free_bytes
from st4rtrack.types import UserError

WRITE_AGAIN = "fetch or write the file again"


def read_header(stream: IO[bytes], label: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Read the header of an array: (shape, whether column-major, dtype); the stream is at the data afterwards.

    Args:
        stream: at the start of the array.
        label: name of the array in messages.
    Raises:
        UserError: the header is missing or invalid.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecated header syntax is either parsed or refused below
            version = npy.read_magic(stream)
            shape, fortran, dtype = (npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0)(stream)
    except Exception as error:  # NumPy parses a Python literal, which can fail with any kind of error
        raise UserError(f"{label} cannot be read ({_short(error)}); {WRITE_AGAIN}") from error
    if dtype.itemsize == 0 or any(isinstance(size, bool) or size < 0 for size in shape):
        raise UserError(f"{label} cannot be read (invalid header: shape {list(shape)}, dtype {dtype}); {WRITE_AGAIN}")
    return shape, fortran, dtype


def read_array(stream: IO[bytes], label: str, size: int) -> np.ndarray:
    """Read an array of numbers or text; object arrays are refused.

    Args:
        stream: at the start of the array.
        label: name of the array in messages.
        size: bytes of header and data together, according to the archive directory or the file system.
    Raises:
        UserError: the array is damaged, holds objects, or is larger than its file or than free memory.
    """
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
        raise UserError(f"{label} cannot be read ({_short(error)}); {WRITE_AGAIN}") from error
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
    """Refuse an allocation that is larger than free memory.

    Raises:
        UserError: `size` (bytes) exceeds free memory; the message has `label` and both sizes.
    """
    free = free_bytes()
    if free is not None and size > free:
        raise UserError(f"{label} needs {size / 1e9:.1f} GB, but {free / 1e9:.1f} GB of memory are free; is the file damaged?")


def read_into(stream: IO[bytes], target: memoryview, label: str) -> None:
    """Fill the target from the stream, in chunks of 1 MiB.

    Raises:
        UserError: the stream ends before the target is full.
    """
    done = 0
    while done < len(target):
        piece = stream.read(min(1 << 20, len(target) - done))
        if not piece:
            raise UserError(f"{label} ends early, after {done} of {len(target)} bytes; {WRITE_AGAIN}")
        target[done : done + len(piece)] = piece
        done += len(piece)


def _short(error: Exception) -> str:
    """The message of an exception on one line of bounded length."""
    return " ".join(str(error).split())[:160] or type(error).__name__
