"""Access to the frames of a source: by increasing position, decoded on demand."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from st4rtrack.types import Video

FramesAt = Callable[[Sequence[int]], Iterator[np.ndarray]]
"""Decodes the frames of a source at the given increasing positions."""


@dataclass(frozen=True)
class FrameReader:
    """`Video.read` over selected positions of a source; nested selections decode no other frames."""

    frames_at: FramesAt
    positions: np.ndarray

    def __call__(self, start: int, stop: int) -> Iterator[np.ndarray]:
        if not 0 <= start <= stop <= len(self.positions):
            raise IndexError(f"frames {start} to {stop} are out of range; the video has {len(self.positions)} frames")
        return self.frames_at(self.positions[start:stop].tolist())

    def at(self, indices: Sequence[int]) -> Iterator[np.ndarray]:
        return self.frames_at(self.positions[list(indices)].tolist())


def frames_of(video: Video) -> FramesAt:
    def frames_at(indices: Sequence[int]) -> Iterator[np.ndarray]:
        wanted = set(indices)
        if wanted:
            first, last = min(wanted), max(wanted)
            yield from (frame for i, frame in enumerate(video.read(first, last + 1), first) if i in wanted)

    return frames_at


def whole_video(name: str, source: str, height: int, width: int, time_s: np.ndarray, frames_at: FramesAt) -> Video:
    every = np.arange(len(time_s))
    return Video(name, height, width, np.asarray(time_s, np.float64), every, FrameReader(frames_at, every), source)
