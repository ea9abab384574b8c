import numpy as np
import pytest

from st4rtrack.geometry.vectors import all_components, all_finite, dot, length, mean
from tests.seeds import SEED


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("components", [2, 3])
@pytest.mark.parametrize("shape", [(40, 30), (7,), ()])
def test_they_are_what_numpy_says_to_the_last_bit(dtype: type, components: int, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(SEED)
    a, b = (rng.normal(size=(*shape, components)).astype(dtype) * dtype(10) ** rng.integers(-5, 5) for _ in range(2))
    for ours, theirs in (
        (length(a), np.linalg.norm(a, axis=-1)),
        (dot(a, b), (a * b).sum(axis=-1)),
        (mean(a), a.mean(axis=-1)),
        (all_components(a > 0), (a > 0).all(axis=-1)),
    ):
        np.testing.assert_array_equal(ours, theirs)
        assert ours.dtype == theirs.dtype and ours.shape == shape


def test_one_component_that_is_not_finite_is_enough() -> None:
    vectors = np.zeros((4, 3))
    vectors[1, 0], vectors[2, 2] = np.nan, -np.inf
    assert all_finite(vectors).tolist() == [True, False, False, True]
    assert np.isnan(length(vectors)[1]) and np.isinf(length(vectors)[2])
