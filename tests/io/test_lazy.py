import copy

import numpy as np
import pytest
import zarr

from st4rtrack.io.lazy import LazyArray


class CountingStore(zarr.storage.MemoryStore):
    """Remembers which chunks were read."""

    def __init__(self) -> None:
        super().__init__()
        self.chunks: set[str] = set()

    async def get(self, key, prototype, byte_range=None):
        if "/c/" in f"/{key}":
            self.chunks.add(key.split("c/", 1)[1].split("/")[0])
        return await super().get(key, prototype, byte_range)


@pytest.fixture
def pair() -> tuple[LazyArray, np.ndarray, CountingStore]:
    values = np.random.default_rng(0).normal(size=(7, 4, 5, 3)).astype(np.float32)
    store = CountingStore()
    array = zarr.create_array(store=store, shape=values.shape, chunks=(1, 4, 5, 3), dtype=values.dtype, zarr_format=3)
    array[:] = values
    store.chunks.clear()
    return LazyArray(array), values, store


MASK_TIME = np.array([True, False, False, True, False, False, False])
MASK_PIXELS = np.random.default_rng(1).random((7, 4, 5)) < 0.1
MASK_PIXELS[[0, 3, 4, 6]] = False

INDICES = [
    0,
    -1,
    np.int64(3),
    slice(2, 5),
    slice(None, None, 3),
    slice(None, None, -2),
    slice(5, 1, -1),
    slice(4, 4),
    slice(-100, 100),
    Ellipsis,
    None,
    (),
    (2, 1),
    (2, 1, 3, 0),
    (slice(1, 6, 2), 0, slice(None, None, 2)),
    (slice(1, 6, 2), slice(None, None, -1)),
    (Ellipsis, 0),
    (Ellipsis, [0, 2]),
    (2, Ellipsis, -1),
    (0, None),
    (None, 0),
    [0, 3, 3, -1],
    [],
    ([0, 3], [1, 2]),
    (0, [1, 2]),
    (0, slice(None), [1, 2]),
    (slice(0, 2), slice(None), [1, 2], 0),
    ([[0, 1], [6, 0]], slice(None), 2),
    np.array([5, 1]),
    (np.array([5, 1]), Ellipsis, 0),
    MASK_TIME,
    (MASK_TIME, 0),
    MASK_TIME.tolist(),
    np.zeros(7, bool),
    MASK_PIXELS,
    True,
    (0, np.eye(4, 5, dtype=bool)),
]


@pytest.mark.parametrize("index", INDICES, ids=lambda index: str(index).replace("\n", "")[:40])
def test_indexing_is_numpys(pair, index) -> None:
    lazy, values, _ = pair
    wanted, got = values[index], lazy[index]
    assert type(got) is type(wanted) and got.shape == wanted.shape and got.dtype == wanted.dtype
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("index", [7, -8, (0, 4), [0, 7], [-8], "a", 0.5, np.zeros(6, bool), (0, 0, 0, 0, 0)])
def test_wrong_indices_are_refused_as_numpy_does(pair, index) -> None:
    lazy, values, _ = pair
    with pytest.raises(IndexError):
        values[index]
    with pytest.raises(IndexError):
        lazy[index]


@pytest.mark.parametrize(
    ("index", "chunks"),
    [
        (2, "2"),
        ((2, 1, 3), "2"),
        ((2, [0, 1]), "2"),
        (slice(1, 6, 2), "135"),
        (slice(None, None, -3), "036"),
        ((slice(1, 3), [0, 1]), "12"),
        ([4, 0, 4], "04"),
        (MASK_TIME, "03"),
        (MASK_PIXELS, "125"),
        (slice(3, 3), ""),
    ],
)
def test_reads_only_the_frames_it_needs(pair, index, chunks) -> None:
    lazy, _, store = pair
    lazy[index]
    assert store.chunks == set(chunks)


def test_knowing_it_reads_nothing(pair) -> None:
    lazy, values, store = pair
    assert (lazy.shape, lazy.dtype, lazy.ndim, lazy.size, lazy.nbytes, len(lazy)) == (
        values.shape,
        values.dtype,
        values.ndim,
        values.size,
        values.nbytes,
        len(values),
    )
    assert np.shape(lazy) == values.shape and np.ndim(lazy) == 4 and "7" in repr(lazy)
    assert not store.chunks


def test_iterates_frame_by_frame(pair) -> None:
    lazy, values, store = pair
    frames = iter(lazy)
    np.testing.assert_array_equal(next(frames), values[0])
    assert store.chunks == {"0"}
    np.testing.assert_array_equal(np.stack(list(lazy)), values)


def test_arithmetic_functions_and_methods_are_numpys(pair) -> None:
    lazy, values, _ = pair
    np.testing.assert_array_equal(lazy + 1, values + 1)
    np.testing.assert_array_equal(2 * lazy - lazy, values)
    np.testing.assert_array_equal(values * lazy, values * values)
    np.testing.assert_array_equal(lazy > 0, values > 0)
    np.testing.assert_array_equal(-lazy, -values)
    np.testing.assert_array_equal(lazy == values, np.ones(values.shape, bool))
    np.testing.assert_array_equal(np.sqrt(abs(lazy)), np.sqrt(abs(values)))
    np.testing.assert_array_equal(np.add.reduce(lazy, axis=0), np.add.reduce(values, axis=0))
    out = np.empty_like(values)
    assert np.multiply(lazy, 2, out=out) is out
    assert np.mean(lazy) == values.mean() == lazy.mean()
    np.testing.assert_array_equal(np.stack([lazy, values]), np.stack([values, values]))
    np.testing.assert_array_equal(np.concatenate((lazy, lazy)), np.concatenate((values, values)))
    np.testing.assert_array_equal(np.linalg.norm(lazy, axis=-1), np.linalg.norm(values, axis=-1))
    np.testing.assert_array_equal(lazy.reshape(7, -1).T, values.reshape(7, -1).T)
    assert lazy.astype(np.float64).dtype == np.float64 and lazy.copy().flags.writeable
    assert lazy.max(axis=(0, 1)).shape == (5, 3)
    assert values[0, 0, 0, 0] in lazy and 99.0 not in lazy


def test_becomes_an_array_in_the_type_asked_for(pair) -> None:
    lazy, values, _ = pair
    assert type(np.asarray(lazy)) is np.ndarray and np.asarray(lazy, np.float64).dtype == np.float64
    np.testing.assert_array_equal(np.array(lazy), values)
    with pytest.raises(ValueError, match="copy"):
        np.array(lazy, copy=False)
    with pytest.raises(ValueError, match="ambiguous"):
        bool(lazy)


def test_a_mask_may_itself_be_lazy(pair) -> None:
    _, values, _ = pair
    array = zarr.create_array(store=zarr.storage.MemoryStore(), data=MASK_PIXELS, chunks=(1, 4, 5))
    np.testing.assert_array_equal(values[np.asarray(LazyArray(array))], values[MASK_PIXELS])
    lazy = pair[0]
    np.testing.assert_array_equal(lazy[LazyArray(array)], values[MASK_PIXELS])


def test_is_read_only(pair) -> None:
    lazy, _, _ = pair
    with pytest.raises(TypeError):
        lazy[0] = 0
    for name in ("sort", "fill", "no_such_thing"):
        with pytest.raises(AttributeError, match=name):
            getattr(lazy, name)


def test_copies_still_read_from_disk(tmp_path) -> None:
    values = np.arange(12.0).reshape(3, 4)
    array = zarr.create_array(store=tmp_path / "a.zarr", data=values, chunks=(1, 4))
    lazy = LazyArray(array, source=tmp_path)
    for other in (copy.copy(lazy), copy.deepcopy(lazy)):
        assert isinstance(other, LazyArray) and other.source == tmp_path
        np.testing.assert_array_equal(other, values)
