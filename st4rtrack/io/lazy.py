"""Safe access to zarr stores, and read-only arrays on disk with the interface of NumPy arrays."""

from collections.abc import Callable, Iterable, Iterator
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
import zarr

from st4rtrack.io.installation import pip_install
from st4rtrack.io.text import short
from st4rtrack.types import UserError

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
    """Check that the chunks of frames exist and have the expected size, before they are read."""
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


_MUTATORS = frozenset({"fill", "itemset", "partition", "put", "resize", "setfield", "setflags", "sort"})
_OF_SHAPE = {np.shape: lambda a: a.shape, np.ndim: lambda a: a.ndim}


class LazyArray(np.lib.mixins.NDArrayOperatorsMixin):
    """A zarr array that behaves as a read-only NumPy array.

    Indexing reads the frames selected by the first index; arithmetic, NumPy functions and array methods read the whole array.

    Args:
        array: [time, ...], at least one axis.
        source: the scene folder, so that writers can refuse to replace it while it is being read.
        whole: whether every frame was written; then an absent chunk is an error, otherwise zeros.
    """

    def __init__(self, array: zarr.Array, *, source: Path | None = None, whole: bool = False) -> None:
        self._array, self._whole, self.source = array, whole, source
        self.shape, self.dtype, self.ndim, self.size = array.shape, array.dtype, len(array.shape), int(np.prod(array.shape))
        self.nbytes = self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __iter__(self) -> Iterator[np.ndarray]:
        return (self[index] for index in range(len(self)))

    def __getitem__(self, key: Any) -> Any:
        first, *rest = key or (Ellipsis,) if isinstance(key, tuple) else (key,)
        if all(_is_basic(part) for part in (first, *rest)):
            # zarr decodes one frame at a time, so `[..., 0]` of a long video needs little memory.
            return self._stored(
                lambda: self._array[(first, *rest)], slice(None) if first is Ellipsis else self._frames(first)[0]
            )[()]
        if isinstance(first, list | LazyArray):
            first = np.asarray(first, dtype=None if len(first) else np.intp)
        frames, inner = self._frames(first)
        # NumPy applies the remaining index unchanged; only the first part is renumbered to the frames that were read.
        return self._read(frames)[(inner, *rest)]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("an array on disk can only be read into a copy")
        values = self._read(slice(None))
        return values if dtype is None else values.astype(dtype, copy=False)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, **kwargs: Any) -> Any:
        return getattr(ufunc, method)(*_in_memory(inputs), **_in_memory(kwargs))

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if func in _OF_SHAPE and args and args[0] is self:
            return _OF_SHAPE[func](self)
        return func(*_in_memory(args), **_in_memory(kwargs))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name in _MUTATORS or not hasattr(np.ndarray, name):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(np.asarray(self), name)

    def __contains__(self, value: Any) -> bool:
        return value in np.asarray(self)

    def __bool__(self) -> bool:
        return bool(np.asarray(self))

    def __repr__(self) -> str:
        return f"LazyArray(shape={self.shape}, dtype={self.dtype}, on disk)"

    def _frames(self, first: Any) -> tuple[slice | np.ndarray, Any]:
        """Frames that an index of the first axis needs, and that index relative to these frames."""
        every = np.arange(len(self))
        if isinstance(first, slice):
            chosen = every[first]
            return np.sort(chosen), slice(None, None, 1 if first.step is None or first.step > 0 else -1)
        if isinstance(first, np.ndarray) and first.dtype == bool and first.shape == self.shape[: first.ndim] and first.ndim:
            needed = np.flatnonzero(first.reshape(len(every), -1).any(axis=1))
            return needed, first[needed]
        if np.issubdtype(np.asarray(first).dtype, np.integer):
            needed, inner = np.unique(every[first], return_inverse=True)
            return needed, inner.reshape(np.shape(first))
        return slice(None), first

    def _read(self, frames: slice | np.ndarray) -> np.ndarray:
        if isinstance(frames, np.ndarray):
            return self._stored(lambda: self._array.oindex[frames], frames)
        return self._stored(lambda: self._array[frames], frames)

    def _stored(self, read: Callable[[], Any], frames: slice | np.ndarray) -> np.ndarray:
        """Result of `read`, after a check that the chunks of `frames` are intact (zarr reads missing chunks as zeros)."""
        try:
            require_chunks(self._array, np.arange(len(self))[frames].tolist(), whole=self._whole)
            return np.asarray(read())
        except (ValueError, RuntimeError, OSError, MemoryError) as error:
            place = f"{self.source or self._array.store_path}: {self._array.path}"
            raise UserError(f"{place} cannot be read ({short(error)}); make the scene again with --overwrite") from error


def _is_basic(part: Any) -> bool:
    """Whether zarr and NumPy interpret this part of an index alike: an integer, a forward slice, or `...`."""
    if isinstance(part, slice):
        return part.step is None or part.step > 0
    return part is Ellipsis or (isinstance(part, int | np.integer) and not isinstance(part, bool))


def _in_memory(value: Any) -> Any:
    """The arguments with every `LazyArray` replaced by an in-memory array."""
    if isinstance(value, LazyArray):
        return np.asarray(value)
    if isinstance(value, list | tuple):
        return type(value)(_in_memory(item) for item in value)
    if isinstance(value, dict):
        return {key: _in_memory(item) for key, item in value.items()}
    return value
