"""Indexed data sources: micro-batch k of a run depends only on k and the seed.

So a run resumes at the exact sample, and its steps do not depend on the number of processes, which take indices in turn.
"""

import signal
from collections.abc import Iterator, Mapping, Sized
from dataclasses import dataclass
from typing import Any, Protocol

import cv2
import numpy as np
from torch.utils.data import DataLoader, Dataset

from st4rtrack.data.clip import ClipSource
from st4rtrack.train.examples import Examples, anchors_with_themselves, from_clips
from st4rtrack.train.validate import HeldOut
from st4rtrack.types import UserError


class ExampleSource(Protocol):
    """Micro-batches by index; deterministic, and small enough to be sent to worker processes."""

    def examples(self, index: int) -> Any:
        """Load micro-batch `index` >= 0."""
        ...


@dataclass(frozen=True)
class ClipExamples:
    """Micro-batches of clips: micro-batch k has the clips k * n ... k * n + n - 1 of a clip source."""

    clips: ClipSource  # clip source
    micro_batch: int = 1  # n, clips per micro-batch
    with_anchor: bool = True  # include the pair (frame 0, frame 0)

    def examples(self, index: int) -> Examples:
        start = index * self.micro_batch
        clips = [self.clips.clip(k) for k in range(start, start + self.micro_batch)]
        shapes = {clip.rgb.shape for clip in clips}
        if len(shapes) > 1:
            raise UserError(f"clips of different sizes cannot share a micro-batch: {sorted(shapes)}; use --micro-batch 1")
        return from_clips(clips, with_anchor=self.with_anchor)


def held_out_clips(clips: ClipSource, numbers: range, *, with_anchor: bool = True) -> list[HeldOut]:
    """Validation data of some clips of a source, one clip each."""
    examples = [from_clips([clips.clip(k)], with_anchor=with_anchor) for k in numbers]
    return [HeldOut(e, anchors_with_themselves(e)) for e in examples]


def draw_samples(
    sources: Mapping[str, Sized], shares: Mapping[str, float], count: int, rng: np.random.Generator
) -> Iterator[tuple[str, int]]:
    """Draw samples from several sources by their shares, normalised over these sources; returns source name and sample number."""
    names = sorted(sources)
    share = np.array([shares[name] for name in names])
    for chosen in rng.choice(len(names), count, p=share / share.sum()):
        yield names[chosen], int(rng.integers(len(sources[names[chosen]])))


def evenly_spaced(total: int, count: int) -> list[int]:
    """Numbers of at most `count` samples evenly spaced over `total`."""
    return np.unique(np.linspace(0, total - 1, min(count, total)).round().astype(int)).tolist()


def read_ahead(source: ExampleSource, indices: range, *, workers: int) -> Iterator[Any]:
    """Yield micro-batches in order, prefetched by worker processes (0: loaded on demand); raises a `UserError` of any process."""
    loader = DataLoader(
        _Items(source),
        batch_size=None,
        sampler=indices,
        num_workers=workers,
        multiprocessing_context="spawn" if workers else None,
        worker_init_fn=_quiet_worker if workers else None,
    )
    for item in loader:
        if isinstance(item, UserError):
            raise item
        yield item


class _Items(Dataset[Any]):
    """PyTorch data set of a source. Returns a `UserError` as a value, because workers would turn it into a traceback."""

    def __init__(self, source: ExampleSource) -> None:
        self.source = source

    def __getitem__(self, index: int) -> Any:
        try:
            return self.source.examples(index)
        except UserError as error:
            return error


def _quiet_worker(_: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the training process decides
    cv2.setNumThreads(0)
