"""Each graph's edges, counted by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from st4rtrack.bench.global_alignment.pairs import parse_graph
from st4rtrack.types import UserError


def undirected(graph: str, frames: int) -> set[tuple[int, int]]:
    """Pairs with the smaller number first; asserts that both directions are there, once."""
    edges = [tuple(edge) for edge in parse_graph(graph).edges(frames).tolist()]
    assert len(set(edges)) == len(edges) and {(j, i) for i, j in edges} == set(edges) and edges == sorted(edges)
    return {(i, j) for i, j in edges if i < j}


def test_edges_by_hand() -> None:
    assert undirected("complete", 3) == {(0, 1), (0, 2), (1, 2)}
    assert undirected("swin-2-noncyclic", 4) == {(0, 1), (1, 2), (2, 3), (0, 2), (1, 3)}
    assert undirected("swin-1", 4) == {(0, 1), (1, 2), (2, 3), (0, 3)}
    assert undirected("swin-9", 3) == {(0, 1), (0, 2), (1, 2)}
    assert undirected("swinstride-2-noncyclic", 5) == {(0, 1), (1, 2), (2, 3), (3, 4), (0, 3), (1, 4)}
    assert undirected("swinstride-2", 5) == {(0, 1), (1, 2), (2, 3), (3, 4), (0, 4), (0, 3), (1, 4), (0, 2), (1, 3), (2, 4)}
    assert undirected("logwin-3-noncyclic", 6) == {(i, i + k) for k in (1, 2, 4) for i in range(6 - k)}
    assert undirected("logwin-2", 5) == {(i, j) for i in range(5) for j in range(i + 1, 5)}
    assert undirected("oneref-1", 4) == {(0, 1), (1, 2), (1, 3)}


def test_monst3rs_graph_has_the_odd_offsets() -> None:
    edges = parse_graph("swinstride-5-noncyclic").edges(64)
    assert set(np.abs(edges[:, 0] - edges[:, 1]).tolist()) == {1, 3, 5, 7, 9}
    assert len(edges) == 590


@given(
    st.sampled_from(["complete", "swin-3", "swin-2-noncyclic", "swinstride-4", "swinstride-5-noncyclic", "logwin-4", "oneref-0"]),
    st.integers(2, 20),
)
def test_every_graph_joins_all_frames(graph: str, frames: int) -> None:
    edges = parse_graph(graph).edges(frames)
    assert (edges[:, 0] != edges[:, 1]).all()
    joined = {0}
    for _ in range(frames):
        joined |= {int(j) for i, j in edges if int(i) in joined}
    assert joined == set(range(frames))


@pytest.mark.parametrize(
    "text", ["", "swin", "swin-0", "swin--1", "swin-2-cyclic", "complete-2", "oneref", "stride-5", "swin-2 "]
)
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"--graph must be one of complete"):
        parse_graph(text)


def test_a_graph_needs_its_frames() -> None:
    with pytest.raises(UserError, match="at least two frames"):
        parse_graph("complete").edges(1)
    with pytest.raises(UserError, match=r"oneref-4 is out of range; the frames are 0\.\.3"):
        parse_graph("oneref-4").edges(4)
