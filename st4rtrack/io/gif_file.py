"""A small writer of GIF files through PyAV."""

import contextlib
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np
from av.error import BlockingIOError, EOFError
from av.filter import Graph
from av.filter.context import FilterContext

from st4rtrack.io.files import short_name

_CLOCK = Fraction(1, 100)  # GIF counts hundredths of a second


def write_gif(path: str | Path, frames: Iterable[np.ndarray], *, fps: float) -> None:
    """Writes a GIF file that repeats, with a palette per frame.

    Args:
        path: the file; it appears when it is complete.
        frames: each [height, width, 3] uint8 RGB, all of one size.
        fps: frames per second; the format knows hundredths of a second between frames, browsers no less than two of them.
    Raises:
        ValueError: there are no frames, or their sizes differ.
    """
    path = Path(path)
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise ValueError(f"no frames to write to {path}")
    height, width = first.shape[:2]
    partial = path.with_name(f".{short_name(path.stem)}.partial{path.suffix}")
    try:
        with av.open(str(partial), "w", format="gif") as container:
            stream = container.add_stream("gif", rate=100)
            stream.width, stream.height, stream.pix_fmt, stream.time_base = width, height, "pal8", _CLOCK
            for index, frame in enumerate(_with_palettes(chain([first], frames), height, width)):
                frame.pts, frame.time_base = round(index * 100 / fps), _CLOCK
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _with_palettes(frames: Iterable[np.ndarray], height: int, width: int) -> Iterator[av.VideoFrame]:
    """Frames of 256 colours each."""
    graph = Graph()
    source = graph.add_buffer(width=width, height=height, format=av.VideoFormat("rgb24"), time_base=_CLOCK)
    split = graph.add("split")
    palette = graph.add("palettegen", "stats_mode=single")
    use = graph.add("paletteuse", "new=1:dither=bayer:bayer_scale=4")
    sink = graph.add("buffersink")
    source.link_to(split)
    split.link_to(use, 0, 0)
    split.link_to(palette, 1, 0)
    palette.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    for index, rgb in enumerate(frames):
        if rgb.shape != (height, width, 3):
            raise ValueError(f"frame {index} is {list(rgb.shape)}, the first {[height, width, 3]}")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
        frame.pts, frame.time_base = index, _CLOCK
        source.push(frame)
        yield from _ready(sink)
    source.push(None)
    yield from _ready(sink)


def _ready(sink: FilterContext) -> Iterator[av.VideoFrame]:
    with contextlib.suppress(BlockingIOError, EOFError):  # nothing yet, nothing more
        while True:
            frame = sink.pull()
            assert isinstance(frame, av.VideoFrame)
            yield frame
