"""Mixtures: as many of each as asked for, none of a source's clips left out or asked for twice."""

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from st4rtrack.data.training import Mixture
from st4rtrack.types import UserError


@dataclass
class Source:
    name: str

    def clip(self, index: int) -> Any:
        return self.name, index


def mixture(counts: list[int], seed: int = 0) -> Mixture:
    return Mixture(tuple(Source(str(k)) for k in range(len(counts))), tuple(counts), seed)


@given(st.lists(st.integers(0, 9), min_size=1, max_size=4).filter(any), st.integers(0, 99))
def test_every_epoch_has_the_next_clips_of_each_source(counts: list[int], seed: int) -> None:
    mixed = mixture(counts, seed)
    for epoch in range(3):
        drawn = sorted(mixed.clip(k) for k in range(epoch * sum(counts), (epoch + 1) * sum(counts)))
        assert drawn == sorted((str(s), epoch * n + k) for s, n in enumerate(counts) for k in range(n))  # pyright: ignore


def test_the_order_is_shuffled_anew_and_is_that_of_the_seed() -> None:
    names = [
        [mixture([30, 30], seed).clip(epoch * 60 + k)[0] for k in range(60)] for seed, epoch in ((0, 0), (0, 1), (1, 0), (0, 0))
    ]
    assert names[0] == names[3] and names[0] != names[1] and names[0] != names[2]
    assert 5 < names[0][:30].count("0") < 25


def test_a_mixture_of_mixtures() -> None:
    inner = mixture([2, 1])
    outer = Mixture((inner, Source("other")), (3, 2))
    assert sorted(outer.clip(k) for k in range(5)) == [("0", 0), ("0", 1), ("1", 0), ("other", 0), ("other", 1)]


def test_what_is_wrong_is_named() -> None:
    with pytest.raises(UserError, match=r"a mixture of 1 sources needs as many counts >= 0, got \[1, 2\]"):
        Mixture((Source("a"),), (1, 2))
    with pytest.raises(UserError, match=r"got \[-1\]"):
        mixture([-1])
    with pytest.raises(UserError, match="all counts are 0"):
        mixture([0, 0])
