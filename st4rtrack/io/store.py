"""Safe access to the zarr store of a scene: no code is executed, and claimed sizes are checked.

Only zarr v3 with its built-in codecs is read: zarr v2 allows pickle filters, and loading a pickle runs code.
"""

from collections.abc import Iterable
from math import prod
from pathlib import Path
from typing import Literal

import zarr

from st4rtrack.io.installation import pip_install

_CODECS = frozenset({"BytesCodec", "ZstdCodec", "BloscCodec", "GzipCodec", "Crc32cCodec", "TransposeCodec"})
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"


def open_store(path: Path, mode: Literal["r", "r+"] = "r") -> zarr.Group:
    """Open a zarr v3 group.

    Raises:
        ValueError: the folder is not a readable zarr v3 group.
    """
    try:
        return zarr.open_group(store=path, mode=mode, zarr_format=3, use_consolidated=False)
    except Exception as error:  # damaged metadata can fail with any kind of error
        if any((path / name).is_file() for name in (".zgroup", ".zarray", ".zmetadata")):
            fix = f"{pip_install('zarr[cli]')}; zarr migrate v3 OLD.zarr NEW.zarr"
            raise ValueError(f"{path.name} has zarr format 2; convert it to format 3 with: {fix}") from error
        raise ValueError(f"{path.name} cannot be opened") from error


def stored_array(group: zarr.Group, name: str) -> zarr.Array:
    """Get a numeric array of a group by name.

    Raises:
        ValueError: the array is missing, has inconsistent metadata, or uses an unsupported codec.
    """
    try:
        array = group[name]
        if not isinstance(array, zarr.Array):
            raise ValueError("a group")
        codecs = {type(codec).__name__ for codec in array.metadata.codecs}  # pyright: ignore[reportAttributeAccessIssue]
        chunks, shape, kind = array.chunks, array.shape, array.dtype.kind
    except Exception as error:
        raise ValueError(f"the array {name} is missing or damaged") from error
    if foreign := sorted(codecs - _CODECS):
        raise ValueError(f"the array {name} uses the unsupported codec {foreign[0]}")
    if kind not in "biuf" or any(not 0 < chunk <= max(1, side) for chunk, side in zip(chunks, shape, strict=True)):
        raise ValueError(f"the array {name} is damaged: {list(shape)} {array.dtype} in chunks of {list(chunks)}")
    return array


def require_chunks(array: zarr.Array, frames: Iterable[int], *, whole: bool) -> None:
    """Check that the chunks of frames exist and have the expected size, before they are read.

    Args:
        array: the array; only arrays with one chunk per frame are checked.
        frames: frame indices.
        whole: whether all frames must exist; otherwise absent frames have the fill value.

    Raises:
        ValueError: a chunk is missing, or its header has another size.
    """
    root = getattr(array.store, "root", None)
    if root is None or array.chunks != (1, *array.shape[1:]):
        return
    size = prod(array.chunks) * array.dtype.itemsize
    for frame in frames:
        key = array.metadata.encode_chunk_key((frame, *(0,) * (array.ndim - 1)))  # pyright: ignore[reportAttributeAccessIssue]
        try:
            with (Path(root) / array.path / key).open("rb") as file:
                announced = _zstd_size(file.read(18))
        except FileNotFoundError:
            if whole:
                raise ValueError(f"frame {frame} of {array.path} is missing") from None
            continue
        if announced not in (None, size):
            raise ValueError(f"frame {frame} of {array.path} is damaged")


def _zstd_size(start: bytes) -> int | None:
    """Decompressed size in the header of a zstd frame; None if absent (RFC 8878, 3.1.1.1)."""
    if not start.startswith(_ZSTD_MAGIC) or len(start) < 5:
        return None
    descriptor = start[4]
    single_segment, size_flag = descriptor >> 5 & 1, descriptor >> 6
    length = (single_segment, 2, 4, 8)[size_flag]
    begin = 5 + (1 - single_segment) + (0, 1, 2, 4)[descriptor & 3]
    if length == 0 or len(start) < begin + length:
        return None
    return int.from_bytes(start[begin : begin + length], "little") + (256 if length == 2 else 0)
