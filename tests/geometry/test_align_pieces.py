"""Similarities from points that arrive in pieces."""

import numpy as np
import pytest

from st4rtrack.geometry.align import Moments, umeyama
from tests.seeds import SEED


@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_pieces_give_what_all_points_give(offset: float) -> None:
    rng = np.random.default_rng(SEED)
    x = rng.normal(size=(3000, 3)) + offset
    y = x @ np.linalg.qr(rng.normal(size=(3, 3)))[0].T * 2 + rng.normal(0, 0.1, x.shape)
    moments = Moments()
    for piece in (slice(0, 10), slice(10, 10), slice(10, 2000), slice(2000, None)):
        moments.add(x[piece], y[piece])
    for reflected in (False, True):
        one, other = moments.similarity(allow_reflection_scale=reflected), umeyama(x, y, allow_reflection_scale=reflected)
        assert one.scale == pytest.approx(other.scale, rel=1e-7)
        np.testing.assert_allclose(one(x), other(x), atol=1e-6 * max(1, offset))
    np.testing.assert_allclose(moments.target_mean, y.mean(0))


def test_too_little_is_refused() -> None:
    with pytest.raises(ValueError, match="three"):
        Moments().similarity()
    with pytest.raises(ValueError, match="equal"):
        umeyama(np.full((9, 3), 7.1), np.random.default_rng(SEED).normal(size=(9, 3)))
    with pytest.raises(ValueError, match="equal lengths"):
        Moments().add(np.zeros((2, 3)), np.zeros((3, 3)))
