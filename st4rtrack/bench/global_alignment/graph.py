"""Which pairs of frames the network sees: graphs by name, as in DUSt3R and MonST3R."""

import re
from dataclasses import dataclass

import numpy as np

from st4rtrack.types import UserError

KNOWN = "complete, swin-K, swinstride-K, logwin-K (these three also with -noncyclic), oneref-R"


@dataclass(frozen=True)
class Graph:
    """A rule for pairs.

    Attributes:
        kind: complete (all pairs), swin (offsets 1..K), swinstride (every second of the offsets below 2 K: 1, 3, .., 2 K - 1),
            logwin (offsets 1, 2, 4, .., 2^(K-1)), or oneref (frame R with every other).
        value: K or R.
        cyclic: whether offsets go on at the first frame past the last; MonST3R's videos do not.
    """

    kind: str
    value: int = 0
    cyclic: bool = True

    def edges(self, frames: int) -> np.ndarray:
        """Directed pairs [edges, 2] of frame numbers, both directions of each, in increasing order.

        Raises:
            UserError: fewer than two frames, or the reference is not one of them.
        """
        if frames < 2:
            raise UserError(f"global alignment needs at least two frames, there are {frames}")
        if self.kind == "oneref" and self.value >= frames:
            raise UserError(f"--graph oneref-{self.value} names a frame that is not there: the last of {frames} is {frames - 1}")
        pairs = {(i, j) for i, j in self._pairs(frames) if i != j}
        both = pairs | {(j, i) for i, j in pairs}
        return np.array(sorted(both), np.int64)

    def _pairs(self, frames: int) -> list[tuple[int, int]]:
        if self.kind == "oneref":
            return [(self.value, j) for j in range(frames)]
        offsets = {
            "complete": range(1, frames),
            "swin": range(1, self.value + 1),
            "swinstride": range(1, 2 * self.value, 2),
            "logwin": [2**k for k in range(self.value)],
        }[self.kind]
        wraps = self.cyclic and self.kind != "complete"
        return [(i, (i + k) % frames) for k in offsets for i in range(frames) if wraps or i + k < frames]


def parse_graph(text: str) -> Graph:
    """The graph that a text such as "swinstride-5-noncyclic" names.

    Raises:
        UserError: it names none.
    """
    if text == "complete":
        return Graph("complete")
    window = re.fullmatch(r"(swin|swinstride|logwin)-([1-9]\d?)(-noncyclic)?", text)
    if window:
        return Graph(window[1], int(window[2]), cyclic=window[3] is None)
    reference = re.fullmatch(r"oneref-(\d{1,6})", text)
    if reference:
        return Graph("oneref", int(reference[1]))
    raise UserError(f"--graph {text!r} names no graph; choose one of {KNOWN}")
