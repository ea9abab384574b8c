"""Atomic writers of MP4 and GIF files through PyAV."""

import contextlib
from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.error import BlockingIOError, EOFError
from av.filter import Graph
from av.filter.context import FilterContext

from st4rtrack.io.files import short_name

_CLOCK = Fraction(1, 100)  # the time base of GIF is a hundredth of a second


def write_video(path: str | Path, frames: Iterable[np.ndarray], *, fps: float) -> None:
    """Write an MP4 file: H.264, which browsers play, or MPEG-4 if PyAV has no H.264 encoder.

    Args:
        path: the file; it appears when complete.
        frames: each [height, width, 3] uint8 RGB, all of one size. Odd sides are padded by repeating the last row or column.
        fps: frames per second.
    Raises:
        ValueError: there are no frames, or their sizes differ.
    """
    rate = Fraction(fps).limit_denominator(1001)  # the MPEG-4 encoder requires a small denominator
    with _new_file(path, frames, format="mp4", options={"movflags": "+faststart"}) as (container, images, (height, width)):
        if "libx264" in av.codecs_available:
            stream = container.add_stream("libx264", rate=rate, options={"crf": "18", "preset": "veryfast"})
        else:
            stream = container.add_stream("mpeg4", rate=rate, options={"qscale": "3"})
        stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
        for index, rgb in enumerate(images):
            even = np.pad(rgb, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
            frame = av.VideoFrame.from_ndarray(even, format="rgb24")
            frame.pts, frame.time_base = index, 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def write_gif(path: str | Path, frames: Iterable[np.ndarray], *, fps: float) -> None:
    """Write a looping GIF file with one palette per frame.

    Args:
        path: the file; it appears when complete.
        frames: each [height, width, 3] uint8 RGB, all of one size.
        fps: frames per second; frame intervals are rounded to 0.01 s, and browsers support no less than 0.02 s.
    Raises:
        ValueError: there are no frames, or their sizes differ.
    """
    with _new_file(path, frames, format="gif") as (container, images, (height, width)):
        stream = container.add_stream("gif", rate=100)
        stream.width, stream.height, stream.pix_fmt, stream.time_base = width, height, "pal8", _CLOCK
        for index, frame in enumerate(_with_palettes(images, height, width)):
            frame.pts, frame.time_base = round(index * 100 / fps), _CLOCK
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


@contextlib.contextmanager
def _new_file(
    path: str | Path, frames: Iterable[np.ndarray], **container: Any
) -> Iterator[tuple[Any, Iterator[np.ndarray], tuple[int, int]]]:
    """Open a container that is renamed to `path` at the end: (container, frames, (height, width))."""
    path, frames = Path(path), iter(frames)
    first = next(frames, None)
    if first is None:
        raise ValueError(f"no frames to write to {path}")
    height, width = first.shape[:2]

    def of_one_size() -> Iterator[np.ndarray]:
        for index, rgb in enumerate(chain([first], frames)):
            if rgb.shape != (height, width, 3):
                raise ValueError(f"frame {index} is {list(rgb.shape)}, the first {[height, width, 3]}")
            yield rgb

    partial = path.with_name(f".{short_name(path.stem)}.partial{path.suffix}")
    try:
        with av.open(str(partial), "w", **container) as opened:
            yield opened, of_one_size(), (height, width)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _with_palettes(frames: Iterable[np.ndarray], height: int, width: int) -> Iterator[av.VideoFrame]:
    """Convert RGB images to frames with a palette of 256 colours each."""
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
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
        frame.pts, frame.time_base = index, _CLOCK
        source.push(frame)
        yield from _ready(sink)
    source.push(None)
    yield from _ready(sink)


def _ready(sink: FilterContext) -> Iterator[av.VideoFrame]:
    with contextlib.suppress(BlockingIOError, EOFError):  # no frame ready, end of stream
        while True:
            frame = sink.pull()
            assert isinstance(frame, av.VideoFrame)
            yield frame
