"""Object arrays of bytes are read, and nothing in a file is ever run."""

import os
import pickle
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from st4rtrack.io.npz import npz_keys, read_npz
from st4rtrack.types import UserError
from tests.shared_data import shared

IMAGES = [b"\xff\xd8 first \x00 bytes", b"\xff\xd8 second, longer \xff\xd9"]


def object_array(items: list[Any]) -> np.ndarray:
    array = np.empty(len(items), object)
    array[:] = items
    return array


def write_with_pickle(path: Path, pickled: bytes, shape: str = "(2,)") -> Path:
    """An npz whose array `images` says it is an object array and is followed by any pickle."""
    header = f"{{'descr': '|O', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + pickled)
    return path


class Payload:
    def __init__(self, run: Any, *arguments: Any) -> None:
        self.run, self.arguments = run, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.run, self.arguments


def test_plain_arrays_as_stored(tmp_path: Path) -> None:
    depth, names = np.arange(6.0).reshape(2, 3), np.array([b"a", b"bc"])
    np.savez_compressed(tmp_path / "a.npz", depth=depth, names=names)
    assert sorted(npz_keys(tmp_path / "a.npz")) == ["depth", "names"]
    found = read_npz(tmp_path / "a.npz")
    assert (found["depth"] == depth).all() and (found["names"] == names).all()
    assert list(read_npz(tmp_path / "a.npz", "names")) == ["names"]


def test_object_array_of_bytes(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=object_array(IMAGES))
    assert read_npz(tmp_path / "a.npz", "images")["images"].tolist() == IMAGES


def test_object_array_of_encoded_images(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=object_array([np.frombuffer(image, np.uint8) for image in IMAGES]))
    assert read_npz(tmp_path / "a.npz", "images")["images"].tolist() == IMAGES


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_pickle_protocol(tmp_path: Path, protocol: int) -> None:
    path = write_with_pickle(tmp_path / "a.npz", pickle.dumps(object_array(IMAGES), protocol))
    assert read_npz(path)["images"].tolist() == IMAGES


def test_numpy_1_spelling(tmp_path: Path) -> None:
    pickled = pickle.dumps(object_array(IMAGES), 2).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
    assert read_npz(write_with_pickle(tmp_path / "a.npz", pickled))["images"].tolist() == IMAGES


def test_malicious_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    np.savez(tmp_path / "inside.npz", images=object_array([Payload(os.system, f"touch {witness}"), b"image"]))
    write_with_pickle(tmp_path / "bare.npz", pickle.dumps(Payload(os.system, f"touch {witness}")))
    for name in ("inside.npz", "bare.npz"):
        with pytest.raises(UserError, match=r"images.*posix.system.*not loaded"):
            read_npz(tmp_path / name)
    assert not witness.exists()


@pytest.mark.parametrize("run", [eval, getattr, np.load, np.frombuffer, bytearray, pickle.loads])
def test_other_callables_are_refused(tmp_path: Path, run: Any) -> None:
    path = write_with_pickle(tmp_path / "a.npz", pickle.dumps(Payload(run, b"x")))
    with pytest.raises(UserError, match="not loaded"):
        read_npz(path)


def test_objects_other_than_bytes_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=object_array(["text", None]))
    with pytest.raises(UserError, match="holds str objects"):
        read_npz(tmp_path / "a.npz")


@pytest.mark.parametrize("pickled", [b"", b"garbage", pickle.dumps(object_array(IMAGES))[:-5], pickle.dumps(IMAGES)])
def test_damaged_pickles(tmp_path: Path, pickled: bytes) -> None:
    with pytest.raises(UserError, match="damaged"):
        read_npz(write_with_pickle(tmp_path / "a.npz", pickled))


def test_content_must_be_what_the_header_says(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="damaged"):
        read_npz(write_with_pickle(tmp_path / "a.npz", pickle.dumps(object_array(IMAGES)), shape="(3,)"))


def test_absent_damaged_and_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        npz_keys(tmp_path / "absent.npz")
    (tmp_path / "text.npz").write_text("not a zip")
    with pytest.raises(UserError, match=r"text.npz is not an .npz file"):
        npz_keys(tmp_path / "text.npz")
    np.savez(tmp_path / "a.npz", depth=np.zeros(2))
    with pytest.raises(UserError, match="no array 'images'; it has depth"):
        read_npz(tmp_path / "a.npz", "images")
    buffer = BytesIO()
    np.savez_compressed(buffer, noise=np.random.default_rng(0).random(999))
    data = bytearray(buffer.getvalue())
    data[3000:3100] = bytes(100)
    (tmp_path / "damaged.npz").write_bytes(data)
    with pytest.raises(UserError, match="damaged"):
        read_npz(tmp_path / "damaged.npz")


@pytest.mark.parametrize("name", ["dog_skin", "fall_arc", "kitchen_static", "quadruped_track", "two_cmu_static"])
def test_real_sequences(name: str) -> None:
    images = read_npz(shared(f"sequences/{name}.npz"), "images_jpeg_bytes")["images_jpeg_bytes"]
    assert images.shape == (64,)
    assert all(bytes(image).startswith(b"\xff\xd8") for image in images)


@pytest.mark.parametrize("length", [5, 20, 40])
def test_frames_of_a_pickle_change_nothing_that_is_read(tmp_path: Path, length: int) -> None:
    """Python's unpickler drops bytes at the end of a frame, and so reads other orders than those that were looked through."""
    pickled = pickle.dumps(object_array(IMAGES), protocol=4)
    assert pickled[2:3] == pickle.FRAME
    path = write_with_pickle(tmp_path / "a.npz", pickled[:3] + length.to_bytes(8, "little") + pickled[11:])
    assert list(read_npz(path)["images"]) == IMAGES
