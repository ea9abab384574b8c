"""Archives of arrays that are made to deceive: any header, any pickle, any size."""

import io
import os
import pickle
import zipfile
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np


class Payload:
    """What a hostile pickle holds: a call."""

    def __init__(self, call: Any, *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call, self.arguments


def payload() -> Payload:
    """Makes the file `executed` in the current folder, if it is ever run."""
    return Payload(os.mkdir, "executed")


def arrays_of(data: bytes) -> dict[str, Any]:
    with np.load(io.BytesIO(data)) as file:
        return dict(file)


def npz(arrays: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    np.savez(file, **{key: value for key, value in arrays.items() if value is not None})
    return file.getvalue()


def objects(*items: Any) -> np.ndarray:
    array = np.empty(len(items), object)
    array[:] = items
    return array


def member(
    descr: str = "'<f8'", shape: str = "(2,)", content: bytes = b"", header: bytes | None = None, version: int = 1
) -> bytes:
    """A `.npy` with any header and content."""
    text = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode() if header is None else header
    return b"\x93NUMPY" + bytes([version, 0]) + len(text).to_bytes(2 if version == 1 else 4, "little") + text + content


def archive(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as opened:
        for name, data in members.items():
            opened.writestr(name, data)
    return file.getvalue()


def lying_archive(name: str, size: int) -> bytes:
    """A zip whose directory says that its one file is enormous."""
    data = bytearray(archive({name: member(shape=f"({size // 8},)")}))
    at = data.rindex(b"PK\x01\x02")
    data[at + 24 : at + 28] = (min(size, 2**32 - 2)).to_bytes(4, "little")
    return bytes(data)


BOMB_BYTES = 0xF8000000


def bomb(members: dict[str, bytes], name: str) -> bytes:
    """A small archive one of whose files, after what it begins with, is 4 GB of zeros when it is unpacked."""
    packer = zlib.compressobj(1, zlib.DEFLATED, -15)
    start = packer.compress(members[name]) + packer.flush(zlib.Z_FULL_FLUSH)
    zeros = packer.compress(bytes(1 << 24)) + packer.flush(zlib.Z_FULL_FLUSH)  # says the same wherever it stands
    data = bytearray(archive({**members, name: start + zeros * 248 + b"\x03\x00"}))
    central = data.rindex(b"PK\x01\x02", 0, data.rindex(name.encode()))
    local = int.from_bytes(data[central + 42 : central + 46], "little")
    for method_at, size_at in ((local + 8, local + 22), (central + 10, central + 24)):
        data[method_at : method_at + 2] = zipfile.ZIP_DEFLATED.to_bytes(2, "little")
        data[size_at : size_at + 4] = BOMB_BYTES.to_bytes(4, "little")
    return bytes(data)


def array_bomb() -> bytes:
    return bomb({"a.npy": member("'|u1'", f"({BOMB_BYTES - 4096},)")}, "a.npy")


def array_state(shape: tuple[int, ...], dtype: Any, content: Any) -> bytes:
    """The pickle of an array with any inner state: what NumPy itself would believe, and crash."""
    return pickle.dumps(_Lie((1, shape, np.dtype(dtype), False, content)), 4)


class _Lie:
    def __init__(self, state: tuple[Any, ...]) -> None:
        self.state = state

    def __reduce__(self) -> tuple[Any, ...]:
        rebuild, arguments = np.empty(0).__reduce__()[:2]
        return rebuild, arguments, self.state


HOSTILE_MEMBERS: dict[str, Callable[[], bytes]] = {
    "pickle-with-code": lambda: member("'|O'", "(1,)", pickle.dumps(objects(payload()))),
    "bare-pickle-with-code": lambda: member("'|O'", "(1,)", pickle.dumps(payload())),
    "pickle-huge-array": lambda: member("'|O'", "(1,)", pickle.dumps(Payload(np.ndarray, (1 << 40,), "O"))),
    "pickle-huge-memo": lambda: member("'|O'", "(1,)", b"\x80\x04Nr\xff\xff\xff\x7f."),
    "pickle-huge-bytes": lambda: member("'|O'", "(1,)", b"\x80\x04\x8e" + b"\xff" * 7 + b"\x7f."),
    "pickle-huge-bytearray": lambda: member("'|O'", "(1,)", b"\x80\x05\x96" + (1 << 35).to_bytes(8, "little") + b"."),
    "pickle-too-few-items": lambda: member("'|O'", "(9999,)", array_state((9999,), "O", [b"x"])),
    "pickle-of-numbers": lambda: member("'|O'", "(1,)", array_state((1 << 30,), "f8", b"x")),
    "pickle-nested": lambda: member("'|O'", "(1,)", b"\x80\x04" + b"(" * 200000 + b"."),
    "pickle-of-itself": lambda: member("'|O'", "(1,)", b"\x80\x04]\x94h\x00a."),
    "pickle-of-text": lambda: member("'|O'", "(1,)", pickle.dumps(objects("text"))),
    "claims-terabytes": lambda: member("'|u1'", f"({1 << 42},)", b"x"),
    "claims-petabytes-of-objects": lambda: member("'|O'", f"({1 << 50},)", pickle.dumps(objects(b"x"))),
    "claims-beyond-integers": lambda: member("'<f8'", f"({1 << 62}, {1 << 62})", b"x"),
    "negative-shape": lambda: member("'<f8'", "(-5,)", bytes(80)),
    "shape-of-text": lambda: member("'<f8'", "('a',)", bytes(80)),
    "shape-missing": lambda: member(header=b"{'descr': '<f8'}\n"),
    "nothing-wide": lambda: member("'|V0'", f"({1 << 40},)"),
    "structured": lambda: member("[('a', '<f8'), ('b', '|O')]", "(1,)", bytes(16)),
    "dtype-of-call": lambda: member("__import__('os').mkdir('executed')", "(1,)", bytes(8)),
    "dtype-unknown": lambda: member("'<q9'", "(1,)", bytes(99)),
    "header-deep": lambda: member(header=b"(" * 9000 + b"\n"),
    "header-of-python-2": lambda: member(
        header=b"{'descr': '<f8', 'fortran_order': False, 'shape': (2L,), }\n", content=bytes(16)
    ),
    "header-torn": lambda: member(header=b"{'descr': '<f8', 'shape': (2L,\n\n\t'''"),
    "header-long": lambda: member(
        header=b"{'descr': '<f8', 'fortran_order': False, 'shape': (1,)" + b" " * 60000 + b"}\n", content=bytes(8)
    ),
    "header-length-lies": lambda: member()[:8] + b"\xff\xff" + b"{'descr'",
    "version-9": lambda: member(version=9),
    "no-magic": lambda: b"hello",
    "empty-member": lambda: b"",
}
