"""Partial reading of large arrays in an `.npz`: raw annotations of data sets hold thousands of frames."""

from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from os import SEEK_CUR
from pathlib import Path
from typing import IO

import numpy as np

from st4rtrack.io.npy import read_header
from st4rtrack.io.npz import npz_keys, opened_npz, read_npz
from st4rtrack.types import UserError


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
    present = npz_keys(path)
    if key not in present:
        raise UserError(f"{path} has no array {key!r}; it has {', '.join(present) or 'none'}")
    with opened_npz(path) as archive, archive.open(f"{key}.npy") as stream:
        yield stream


def _label(path: str | Path, key: str) -> str:
    return f"array {key!r} of {path}"
