"""Safe reader of NumPy object arrays of byte strings, the image format of published sequences.

NumPy stores object arrays as pickles. Loading a pickle runs arbitrary code, and NumPy can crash on an inconsistent array in it.
So the pickle is first validated, then read by a restricted unpickler that maps a few allowed names to inert classes of this
module. The result describes the array, which is then built here.
"""

import pickle
import pickletools
from io import BytesIO
from math import prod
from typing import Any

import numpy as np

from st4rtrack.types import UserError


def read_byte_objects(data: bytes, shape: tuple[int, ...], label: str) -> np.ndarray:
    """Read an array of byte strings from a pickle without executing anything in it.

    Args:
        data: the pickle.
        shape: shape of the array according to its header.
        label: name of the array in messages.
    Returns:
        Array of `bytes` objects. Items that are uint8 arrays (the output of OpenCV's encoder) become `bytes`.
    Raises:
        UserError: the pickle is damaged, refers to any other name, or holds other objects.
    """
    try:
        described = _Unpickler(BytesIO(_looked_through(data))).load()
        found = _items(described, shape)
    except UserError as error:
        raise UserError(f"{label} {error}") from None
    except Exception as error:  # a damaged pickle can fail with any kind of error
        why = " ".join(str(error).split())[:160] or type(error).__name__
        raise UserError(f"{label} is damaged ({why}); fetch or write the file again") from error
    array = np.empty(len(found), object)
    array[:] = [_as_bytes(item, label) for item in found]
    return array.reshape(shape)


def _looked_through(data: bytes) -> bytes:
    """The pickle without FRAME opcodes, after a check of its memo indices.

    Python's unpickler allocates memory up to the largest memo index, gigabytes if a file asks for it. Where a frame, which only
    sets the read size, ends inside an opcode, the unpickler drops bytes and would execute other opcodes than the checked ones.
    """
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
    raise UserError(
        f"is damaged: its content is not the array {list(shape)} that its header announces; fetch or write the file again"
    )


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
