"""Arrays of byte strings that NumPy stored as a pickle: published sequences hold their images so.

Loading a pickle runs code of the file's choosing, and even the array inside it is believed by NumPy to the point of a crash. So the
pickle is looked through first, and then read by an unpickler that knows a few names only, each of which stands for something inert
of ours: what comes out is a description of an array, from which the array is made here.
"""

import pickle
import pickletools
from io import BytesIO
from math import prod
from typing import Any

import numpy as np

from st4rtrack.types import UserError


def read_byte_objects(data: bytes, shape: tuple[int, ...], label: str) -> np.ndarray:
    """The array of byte strings in a pickle; nothing in it is executed.

    Args:
        data: the pickle.
        shape: of the array, as its header says.
        label: what the array is called in messages.
    Returns:
        Array of `bytes` objects. Arrays of bytes among them (what OpenCV's encoder gives) become `bytes`.
    Raises:
        UserError: it is damaged, or asks for or holds anything else.
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
    """The pickle without what can lead the unpickler astray.

    Python's unpickler makes room up to the largest number it is told to remember a thing under, gigabytes if need be. And where
    a frame, which only says how much to read at once, ends in the middle of something, it drops bytes: it would read other orders than
    those that were looked at.
    """
    kept, begin, framed = [], 0, False
    for code, argument, position in pickletools.genops(data):
        if framed:
            begin, framed = position, False
        if code.name in ("PUT", "BINPUT", "LONG_BINPUT") and not 0 <= int(argument) <= len(data):  # pyright: ignore[reportArgumentType, reportOptionalOperand]
            raise ValueError("a number to remember by is out of range")
        if code.name == "FRAME":
            kept.append(data[begin:position])
            framed = True
    return b"".join([*kept, data[begin:]])


def _items(described: Any, shape: tuple[int, ...]) -> list[Any]:
    """Items of an object array, in the order of its memory."""
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
        raise UserError(f"{label} holds {kind} objects; only byte strings are read, so save the images as such (dtype 'S')")
    return item


class _Array:
    """What stands for `numpy.ndarray` being rebuilt: keeps what it is told."""

    __slots__ = ("state",)

    def __init__(self, *_: Any) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Dtype:
    """What stands for `numpy.dtype`."""

    __slots__ = ("code",)

    def __init__(self, code: Any, *_: Any) -> None:
        self.code = code

    def __setstate__(self, state: Any) -> None:
        """Byte order and the like, which bytes and objects have not."""


class _Encode:
    """What stands for `codecs.encode`, with which old pickle protocols spell bytes."""

    def __new__(cls, text: Any, codec: Any) -> Any:
        if codec not in ("latin1", "latin-1"):
            raise UserError(f"is damaged: it spells bytes in {str(codec)[:40]!r}; fetch or write the file again")
        return text.encode("latin-1")

    def __setstate__(self, state: Any) -> None:
        """A pickle cannot change the class itself: this method is what it would call."""
        raise TypeError("a name has no state")


# Classes with a `__setstate__` only: a pickle has no way to set their attributes.
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Dtype,
    ("numpy._core.multiarray", "_reconstruct"): _Array,  # written by NumPy 2
    ("numpy.core.multiarray", "_reconstruct"): _Array,  # written by NumPy 1
    ("_codecs", "encode"): _Encode,
}


class _Unpickler(pickle.Unpickler):
    """Any other name in the pickle is refused before anything is looked up or called."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise UserError(
                f"asks to run {module}.{name}, which loading it would do; it was not loaded: "
                "do not trust this file, or save the images as byte strings (dtype 'S') instead"
            )
        return _ALLOWED[module, name]
