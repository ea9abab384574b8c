"""Rows of an array in an `.npz`: the same as slicing the whole array."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from st4rtrack.io.npz import npz_shape, read_npz_rows
from st4rtrack.types import UserError


@settings(deadline=None)  # a busy machine is no fault of the reader
@given(rows=st.tuples(st.integers(0, 9), st.integers(0, 9)).map(sorted), compressed=st.booleans(), order=st.sampled_from("CF"))
def test_rows_are_a_slice(tmp_path_factory: pytest.TempPathFactory, rows: list[int], compressed: bool, order) -> None:
    path = tmp_path_factory.mktemp("rows") / "a.npz"
    array = np.asarray(np.random.default_rng(0).normal(size=(9, 4, 3)).astype(np.float32), order=order)
    (np.savez_compressed if compressed else np.savez)(path, points=array, flags=array[..., 0] > 0)
    assert npz_shape(path, "points") == (9, 4, 3)
    np.testing.assert_array_equal(read_npz_rows(path, "points", *rows), array[slice(*rows)])
    np.testing.assert_array_equal(read_npz_rows(path, "flags", *rows), array[slice(*rows), :, 0] > 0)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, points=np.zeros((3, 2)), number=np.array(1.0))
    for key, stop in (("points", 4), ("number", 1), ("absent", 1)):
        with pytest.raises(UserError, match=rf"'{key}' of .*a\.npz|a\.npz has no array '{key}'"):
            read_npz_rows(path, key, 0, stop)
    data = path.read_bytes()
    at = data.index(b"\x93NUMPY")
    path.write_bytes(data[:at] + b"something" + data[at + 9 :])
    with pytest.raises(UserError, match=r"a\.npz"):
        npz_shape(path, "points")
