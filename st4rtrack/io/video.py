"""Any source of frames as a `Video`: video files, images, arrays, `.npz` sequences, scenes. And a small writer of mp4 files.

A source is opened whole, then `start`, `stop`, `fps` and `stride` choose among its frames. Frames are decoded when they are read.
Pixels are taken as square and colours as 8-bit RGB: a sample aspect ratio is ignored, high dynamic range not tone-mapped.
"""

import contextlib
import logging
import math
import os
import re
import struct
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain, dropwhile, islice
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from av.error import FFmpegError

from st4rtrack.io.npz import npz_keys, read_npz
from st4rtrack.types import UserError, Video

logger = logging.getLogger(__name__)

DEFAULT_FPS = 30.0
"""Frames per second of sources without a clock: images, arrays, `.npz` sequences."""

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".jp2"})

_CLOCK_TICK_S = 1e-3  # the coarsest clock of common containers; a frame's time is up to that far from where it should be
_SEEK_WORTH_FRAMES = 16  # seeking empties the decoder, so decoding on is quicker over less than about this
_COVER_ART = 0x400  # FFmpeg's disposition of a picture attached to a sound file; older PyAV does not name it
_CHECKED_FRAMES = 4  # how many frames must come out of the decoder as the packets announce them

FramesAt = Callable[[Sequence[int]], Iterator[np.ndarray]]
"""Decodes frames of a source by their positions, which increase."""


def open_video(
    source: Any,
    *,
    start: int | str | None = None,
    stop: int | str | None = None,
    stride: int = 1,
    fps: float | None = None,
) -> Video:
    """Opens frames of one camera for reading.

    Args:
        source: a video file; a folder or glob of images (in natural order; other files are ignored); an array
            [time, height, width, 3] uint8, or a list of [height, width, 3]; a `Video`; an `.npz` with `images_jpeg_bytes`
            (WorldTrack) or `rgb` (held in memory); a scene folder or its `scene.zarr`.
        start: first frame: its number in the source, or seconds with an `s` ("2.5s").
        stop: the frame to stop before, likewise; beyond the end is the end.
        stride: of the frames that are left, takes every n-th.
        fps: drops frames to about this rate by their times, and never invents any. Sources without a clock (images, arrays,
            `.npz` without `time_s`) get this rate instead, or 30 without it.
    Returns:
        The chosen frames, upright (rotation of the file or the image is applied). Square pixels are assumed.
    Raises:
        UserError: the source is absent, holds no frames or cannot be decoded, or the choice is empty or makes no sense.
    """
    if isinstance(stride, bool) or not isinstance(stride, int | np.integer) or stride < 1:
        raise UserError(f"stride must be a whole number of frames, 1 or more, not {stride!r}")
    if fps is not None and (isinstance(fps, bool | str) or not math.isfinite(fps) or fps <= 0):
        raise UserError(f"fps must be a number of frames per second above 0, not {fps!r}")
    video = _open_whole(source, DEFAULT_FPS if fps is None else float(fps))
    chosen = _choose(video, start, stop, int(stride), fps)
    if len(chosen) == len(video):
        return video
    frames_at = video.read.at if isinstance(video.read, _Read) else _frames_of(video)
    return replace(video, time_s=video.time_s[chosen], frame_index=video.frame_index[chosen], read=_Read(frames_at, chosen))


def write_video(path: str | Path, frames: Iterable[np.ndarray], *, fps: float) -> None:
    """Writes an mp4 file that browsers play: H.264 where PyAV has the encoder, else MPEG-4.

    Args:
        path: the file; it appears when it is complete.
        frames: each [height, width, 3] uint8 RGB, all of one size. Odd sides grow by repeating the last row or column.
        fps: frames per second.
    Raises:
        ValueError: there are no frames, or their sizes differ.
    """
    path = Path(path)
    rate = Fraction(fps).limit_denominator(1001)  # the MPEG-4 encoder wants a small denominator
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise ValueError(f"no frames to write to {path}")
    height, width = first.shape[:2]
    partial = path.with_name(f".{path.stem}.partial{path.suffix}")
    try:
        with av.open(str(partial), "w", format="mp4", options={"movflags": "+faststart"}) as container:
            if "libx264" in av.codecs_available:
                stream = container.add_stream("libx264", rate=rate, options={"crf": "18", "preset": "veryfast"})
            else:
                stream = container.add_stream("mpeg4", rate=rate, options={"qscale": "3"})
            stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
            for index, rgb in enumerate(chain([first], frames)):
                if rgb.shape != (height, width, 3):
                    raise ValueError(f"frame {index} is {list(rgb.shape)}, the first {[height, width, 3]}")
                even = np.pad(rgb, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
                frame = av.VideoFrame.from_ndarray(even, format="rgb24")
                frame.pts, frame.time_base = index, 1 / rate
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


# Choosing frames


@dataclass(frozen=True)
class _Read:
    """`Video.read` over chosen positions of a source, so that a choice among chosen frames decodes no others."""

    frames_at: FramesAt
    positions: np.ndarray

    def __call__(self, start: int, stop: int) -> Iterator[np.ndarray]:
        if not 0 <= start <= stop <= len(self.positions):
            raise IndexError(f"frames {start} to {stop} of a video with {len(self.positions)} frames")
        return self.frames_at(self.positions[start:stop].tolist())

    def at(self, indices: Sequence[int]) -> Iterator[np.ndarray]:
        return self.frames_at(self.positions[list(indices)].tolist())


def _frames_of(video: Video) -> FramesAt:
    def frames_at(indices: Sequence[int]) -> Iterator[np.ndarray]:
        wanted = set(indices)
        if wanted:
            first, last = min(wanted), max(wanted)
            yield from (frame for i, frame in enumerate(video.read(first, last + 1), first) if i in wanted)

    return frames_at


def _choose(video: Video, start: int | str | None, stop: int | str | None, stride: int, fps: float | None) -> np.ndarray:
    first = 0 if start is None else _position(video, "start", start)
    last = len(video) if stop is None else _position(video, "stop", stop)
    if first >= len(video):
        end = f"its last frame is {video.frame_index[-1]}, at {video.time_s[-1]:.2f} s"
        raise UserError(f"start {start} is beyond the end of {video.source}: {end}")
    if last <= first:
        raise UserError(f"{video.source} has no frame from start {start or 0} to before stop {stop}; stop must come after start")
    chosen = np.arange(first, last)
    if fps is not None:  # a frame is kept when its time reaches the next due time: the first in each interval of 1/fps
        time_s = video.time_s[first:last] - video.time_s[first]
        interval = np.floor((time_s + min(_CLOCK_TICK_S, 0.1 / fps)) * fps)
        chosen = chosen[np.diff(interval, prepend=-1) > 0]
    return chosen[::stride]


def _position(video: Video, what: str, value: int | str) -> int:
    """Position of the first frame at or after a frame number ("30") or a time ("2.5s")."""
    text = str(value).strip()
    if not isinstance(value, bool) and re.fullmatch(r"\d+", text):
        return int(np.searchsorted(video.frame_index, int(text)))
    if re.fullmatch(r"(\d+\.?\d*|\.\d+)\s*s", text):
        return int(np.searchsorted(video.time_s, float(text[:-1]) - 1e-6))
    raise UserError(f"{what} must be a frame number (30) or seconds with an s (2.5s), not negative; it is {value!r}")


# Opening a source whole


def _open_whole(source: Any, rate: float) -> Video:
    if isinstance(source, Video):
        if len(source) == 0:
            raise UserError(f"{source.source} has no frames")
        return source
    if isinstance(source, str | Path):
        return _open_path(source, rate)
    if isinstance(source, list | tuple) or (hasattr(source, "shape") and hasattr(source, "dtype")):
        return _open_array(source, name="array", source="array", rate=rate)
    raise UserError(f"a video is a path, an array [time, height, width, 3] uint8 or a Video, not {type(source).__name__}")


def _open_path(source: str | Path, rate: float) -> Video:
    path = Path(source).expanduser()
    if not path.exists():
        if re.search(r"[*?\[]", str(path)):
            found = Path(path.anchor).glob(str(path.relative_to(path.anchor)))
            return _open_images(_images_among(found), str(source), rate)
        raise UserError(f"{source} does not exist; check the path")
    if not os.access(path, os.R_OK):
        raise UserError(f"{source} may not be read; change its permissions")
    if path.is_dir():
        if (path / "scene.zarr").is_dir():
            return _open_zarr(path / "scene.zarr", str(source), rate)
        if path.suffix == ".zarr":
            return _open_zarr(path, str(source), rate)
        return _open_images(_images_among(path.iterdir()), str(source), rate)
    if path.stat().st_size == 0:
        raise UserError(f"{source} is empty; fetch or copy it again")
    if path.suffix.lower() == ".npz":
        return _open_npz(path, str(source), rate)
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return replace(_open_images([path], str(source), rate), name=path.stem)
    return _open_file(path, str(source))


def _open_array(frames: Any, *, name: str, source: str, rate: float, time_s: np.ndarray | None = None) -> Video:
    """Frames that the caller holds, or that are read from disk one by one as `frames[i]` (zarr, memory maps)."""
    if isinstance(frames, list | tuple):
        count, kinds = len(frames), {(np.shape(frame), getattr(frame, "dtype", None)) for frame in frames}
    else:
        count, kinds = (*frames.shape, 0)[0], {(tuple(frames.shape[1:]), frames.dtype)}
    shape, dtype = next(iter(kinds), ((), None))
    if len(kinds) != 1 or len(shape) != 3 or shape[2] != 3 or 0 in (count, *shape) or dtype != np.uint8:
        found = " and ".join(f"{list(shape)} {dtype}" for shape, dtype in kinds) or "nothing"
        raise UserError(f"frames of {source} must be [height, width, 3] uint8 RGB of one size; it has {count} of {found}")
    if time_s is None:
        time_s = np.arange(count) / rate
    elif time_s.shape != (count,) or not (np.diff(time_s) > 0).all():
        raise UserError(f"time_s of {source} must be one increasing time for each of its {count} frames")

    def frames_at(indices: Sequence[int]) -> Iterator[np.ndarray]:
        return (np.ascontiguousarray(frames[i]) for i in indices)

    return _whole_video(name, source, shape[0], shape[1], time_s, frames_at)


def _open_npz(path: Path, source: str, rate: float) -> Video:
    keys = npz_keys(path)
    time_s = read_npz(path, "time_s")["time_s"].astype(np.float64) if "time_s" in keys else None
    if "images_jpeg_bytes" in keys:
        images = [bytes(image) for image in read_npz(path, "images_jpeg_bytes")["images_jpeg_bytes"].ravel()]
        labels = [f"image {i} of {source}" for i in range(len(images))]
        return _open_encoded(images.__getitem__, labels, path.stem, source, rate)
    if "rgb" in keys:
        return _open_array(read_npz(path, "rgb")["rgb"], name=path.stem, source=source, rate=rate, time_s=time_s)
    raise UserError(f"{source} has neither images_jpeg_bytes nor rgb, so it is no video; it has {', '.join(keys) or 'nothing'}")


def _open_zarr(path: Path, source: str, rate: float) -> Video:
    import zarr  # slow to import, and rarely needed here

    try:
        group = zarr.open_group(str(path), mode="r")
        rgb, time_s = group["rgb"], np.asarray(group["time_s"], np.float64) if "time_s" in group else None
    except (OSError, KeyError, ValueError) as error:
        raise UserError(f"{source} is not a scene with an array rgb; give the folder that st4rtrack run wrote") from error
    name = path.resolve().parent.name if path.name == "scene.zarr" else path.stem
    return _open_array(rgb, name=name, source=source, rate=rate, time_s=time_s)


def _whole_video(name: str, source: str, height: int, width: int, time_s: np.ndarray, frames_at: FramesAt) -> Video:
    every = np.arange(len(time_s))
    return Video(name, height, width, np.asarray(time_s, np.float64), every, _Read(frames_at, every), source)


# Images


def _images_among(paths: Iterable[Path]) -> list[Path]:
    """Images in natural order (img2 before img10); hidden files are what file systems leave behind."""
    images = [p for p in paths if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".") and p.is_file()]
    return sorted(images, key=lambda p: [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", str(p))])


def _open_images(paths: list[Path], source: str, rate: float) -> Video:
    if not paths:
        kinds = " ".join(sorted(IMAGE_SUFFIXES))
        raise UserError(f"{source} holds no image ({kinds}); give a video file, or a folder or glob of images")
    labels = [str(path) for path in paths]
    paths = [path.resolve() for path in paths]  # the current folder may change before a frame is read
    sizes = [_size_in_header(path) for path in paths]
    for label, size in zip(labels, sizes, strict=True):
        if size and sizes[0] and sorted(size) != sorted(sizes[0]):  # sorted: the orientation is not known yet
            raise UserError(_sizes_differ(label, size, labels[0], sizes[0]))
    return _open_encoded(lambda i: paths[i].read_bytes(), labels, paths[0].parent.name, source, rate)


def _open_encoded(load: Callable[[int], bytes], labels: list[str], name: str, source: str, rate: float) -> Video:
    """Images in memory or on disk, each decoded when it is read."""
    if not labels:
        raise UserError(f"{source} has no frames")
    height, width = _decode_image(load(0), labels[0]).shape[:2]

    def frames_at(indices: Sequence[int]) -> Iterator[np.ndarray]:
        for i in indices:
            image = _decode_image(load(i), labels[i])
            if image.shape[:2] != (height, width):
                raise UserError(_sizes_differ(labels[i], image.shape[:2], labels[0], (height, width)))
            yield image

    return _whole_video(name, source, height, width, np.arange(len(labels)) / rate, frames_at)


def _decode_image(data: bytes, label: str) -> np.ndarray:
    """[height, width, 3] uint8 RGB, upright by its EXIF orientation; grey, alpha and 16-bit become 8-bit RGB."""
    try:
        bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    except cv2.error:
        bgr = None
    if bgr is None:
        raise UserError(f"{label} cannot be read as an image; replace it or take it out")
    return cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB)


def _sizes_differ(label: str, size: tuple[int, ...], first_label: str, first: tuple[int, ...]) -> str:
    return (
        f"{label} is {size[1]}x{size[0]} pixels but {first_label} {first[1]}x{first[0]}; "
        "all images must have one size, so resize it or take it out"
    )


def _size_in_header(path: Path) -> tuple[int, int] | None:
    """(height, width) of a PNG or JPEG file before any orientation, without decoding; None if that is not so easily known."""
    with path.open("rb") as file:
        if file.read(8) == b"\x89PNG\r\n\x1a\n":
            width, height = struct.unpack(">II", file.read(16)[8:].ljust(8, b"\0"))
            return height, width
        file.seek(0)
        if file.read(2) != b"\xff\xd8":
            return None
        while len(head := file.read(9)) == 9 and head[0] == 0xFF:  # segments: FF, kind, length [2]
            kind, length, _, height, width = struct.unpack(">xBHBHH", head)
            if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):  # start of frame
                return height, width
            file.seek(length - 7, 1)
    return None


# Video files


@dataclass(frozen=True)
class _Index:
    """What a file holds, in the order of presentation.

    Attributes:
        pts: [frames] presentation times in units of the stream's clock, increasing; or, where it has none, the frames' numbers.
        time_s: [frames] seconds since the first.
        key_pts: [keys] presentation times of frames at which decoding can begin, increasing.
        has_pts: whether decoded frames carry `pts`; if not they can only be counted from the beginning.
    """

    pts: np.ndarray
    time_s: np.ndarray
    key_pts: np.ndarray
    has_pts: bool = True

    def key_before(self, position: int) -> int:
        """Which key comes last at or before a frame; -1 if none."""
        return int(np.searchsorted(self.key_pts, self.pts[position], side="right")) - 1


def _open_file(path: Path, source: str) -> Video:
    path = path.resolve()  # absolute, so that FFmpeg takes no part of it for a protocol
    index = _index_file(path, source)
    first = _Decoder(path, source, index).frame(0)
    orient = _orientation(first)
    height, width = orient(_to_rgb(first)).shape[:2]
    idle: list[_Decoder] = []  # a decoder that stands where the last read ended, so that reading on decodes nothing twice

    def frames_at(indices: Sequence[int]) -> Iterator[np.ndarray]:
        decoder = idle.pop() if idle else _Decoder(path, source, index)  # taken out: readers side by side have one each
        try:
            for i in indices:
                image = np.ascontiguousarray(orient(_to_rgb(decoder.frame(i))))
                if image.shape != (height, width, 3):
                    raise UserError(
                        f"frame {i} of {source} is {image.shape[1]}x{image.shape[0]} pixels but the first {width}x{height}; "
                        "cut the video with start and stop where its size changes"
                    )
                yield image
        finally:
            idle[:] = [decoder]

    return _whole_video(path.stem, source, height, width, index.time_s, frames_at)


def _open_stream(path: Path, source: str, *, threads: str = "AUTO") -> tuple[Any, Any]:
    """Container and video stream of a file, ready to decode. Frame threads are quick, but damage takes its neighbours with it."""
    try:
        # Only files: a play list must not reach the network.
        container = av.open(str(path), options={"protocol_whitelist": "file"})
    except (FFmpegError, OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise UserError(f"{source} is not a video that can be read ({why}); give a video file or a folder of images") from error
    streams = [stream for stream in container.streams.video if not int(getattr(stream, "disposition", 0)) & _COVER_ART]
    if not streams or container.format.name == "tty":  # FFmpeg would draw a text file's letters
        container.close()
        raise UserError(f"{source} has no video stream; give a video file or a folder of images")
    if streams[0].codec_context is None:
        container.close()
        raise UserError(f"{source} is encoded in a way that this PyAV cannot decode; convert it to H.264 first")
    streams[0].thread_type = threads
    return container, streams[0]


def _packets(container: Any, stream: Any) -> Iterator[Any]:
    """Whole packets, up to the end or to where a file is cut off."""
    with contextlib.suppress(FFmpegError):
        yield from (packet for packet in container.demux(stream) if packet.size and not packet.is_corrupt)


def _decoded(stream: Any, packets: Iterable[Any]) -> Iterator[Any]:
    """Frames in order. What cannot be decoded is left out here, and missed by its number if anyone asks for it."""
    for packet in packets:
        with contextlib.suppress(FFmpegError):
            yield from packet.decode()
    with contextlib.suppress(FFmpegError):
        yield from stream.codec_context.decode(None)


def _index_file(path: Path, source: str) -> _Index:
    container, stream = _open_stream(path, source)
    with container:
        packets = [(packet.pts, packet.is_keyframe, _is_shown(packet, stream)) for packet in _packets(container, stream)]
        time_base = stream.time_base
    if not packets:
        raise UserError(f"{source} holds no frames; fetch or record it again")
    key_pts = sorted({pts for pts, is_key, _ in packets if is_key and pts is not None})
    # Frames before the first key refer to what was cut off.
    pts = sorted({pts for pts, _, shown in packets if pts is not None and shown and pts >= min(key_pts, default=pts)})
    if pts and all(packet[0] is not None for packet in packets):
        index = _Index(np.array(pts, np.int64), _seconds(pts, time_base), np.array(key_pts, np.int64))
        if _comes_as_announced(path, source, index):
            return index
    logger.info("%s: its packets do not tell its frames, so it is decoded once to count them", source)
    return _index_by_decoding(path, source, np.array(key_pts, np.int64))


def _is_shown(packet: Any, stream: Any) -> bool:
    if stream.codec_context.name == "vp8" and not bytes(packet)[0] & 0x10:
        return False  # a reference picture, with a time of its own but never shown
    return not packet.is_discard  # cut away by an edit list


def _comes_as_announced(path: Path, source: str, index: _Index) -> bool:
    """Whether the first frames out of the decoder are those that the packets announce (not so with two fields per frame)."""
    container, stream = _open_stream(path, source)
    with container:
        frames = (frame.pts for frame in _decoded(stream, _packets(container, stream)))
        found = list(islice((pts for pts in frames if pts is None or pts >= index.pts[0]), _CHECKED_FRAMES))
    return found == index.pts[:_CHECKED_FRAMES].tolist()


def _index_by_decoding(path: Path, source: str, key_pts: np.ndarray) -> _Index:
    container, stream = _open_stream(path, source, threads="SLICE")
    with container:
        pts = [frame.pts for frame in _decoded(stream, _packets(container, stream))]
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)  # FFmpeg's own for streams that do not say
        time_base = stream.time_base
    if not pts:
        raise UserError(f"no frame of {source} can be decoded; fetch or record it again")
    if None not in pts and (np.diff(pts) > 0).all():
        return _Index(np.array(pts, np.int64), _seconds(pts, time_base), key_pts)
    numbers = np.arange(len(pts))
    return _Index(numbers, numbers / float(rate), key_pts[:0], has_pts=False)


def _seconds(pts: Sequence[int], time_base: Fraction) -> np.ndarray:
    return (np.array(pts, np.int64) - pts[0]) * time_base.numerator / time_base.denominator


class _Decoder:
    """Decodes frames by their position, going on from the last one where that is quicker than seeking."""

    def __init__(self, path: Path, source: str, index: _Index) -> None:
        self._path, self._source, self._index = path, source, index
        self._restart()

    def frame(self, position: int) -> Any:
        """The decoded frame at a position of the index."""
        key = self._index.key_before(position)
        key_position = int(np.searchsorted(self._index.pts, self._index.key_pts[key])) if key >= 0 else 0
        if position < self._next or key_position - self._next > _SEEK_WORTH_FRAMES:
            self._seek(position, key)
        frame = self._go_on_to(position)
        if frame is None:  # not every stream can be decoded from what it calls a key
            self._restart(threads="SLICE")
            frame = self._go_on_to(position)
        if frame is None:
            raise UserError(
                f"frame {position} of {self._source} cannot be decoded, the file is damaged there; "
                "leave it out with start and stop, or repair the file"
            )
        return frame

    def _go_on_to(self, position: int) -> Any | None:
        self._next = sys.maxsize  # seek next time, unless a frame comes
        for found, frame in self._frames:
            self._next = found + 1
            if found >= position:
                return frame if found == position else None
        return None

    def _seek(self, position: int, key: int) -> None:
        for back in (0, 1, 4):  # some containers land later than they were asked to
            if key - back < 0:
                break
            with contextlib.suppress(FFmpegError):
                self._container.seek(int(self._index.key_pts[key - back]), stream=self._stream, backward=True)
                packets = dropwhile(lambda packet: not packet.is_keyframe, _packets(self._container, self._stream))
                first = next(packets, None)
                if first is not None and first.pts <= self._index.pts[position]:
                    self._frames, self._next = self._numbered(chain([first], packets)), 0
                    return
        self._restart()

    def _restart(self, *, threads: str = "AUTO") -> None:
        threads = threads if self._index.has_pts else "SLICE"  # what is counted must come as it was counted
        self._container, self._stream = _open_stream(self._path, self._source, threads=threads)
        self._frames, self._next = self._numbered(_packets(self._container, self._stream)), 0

    def _numbered(self, packets: Iterable[Any]) -> Iterator[tuple[int, Any]]:
        """Frames with their positions; those that are not in the index (cut away) are left out."""
        for count, frame in enumerate(_decoded(self._stream, packets)):
            if not self._index.has_pts:
                yield count, frame
            elif frame.pts is not None:
                position = int(np.searchsorted(self._index.pts, frame.pts))
                if position < len(self._index.pts) and self._index.pts[position] == frame.pts:
                    yield position, frame


def _to_rgb(frame: Any) -> np.ndarray:
    return frame.to_ndarray(format="rgb24")


def _orientation(frame: Any) -> Callable[[np.ndarray], np.ndarray]:
    """What turns the decoded image upright: the quarter turn or mirroring of the file's display matrix."""
    side_data = frame.side_data.get("DISPLAYMATRIX")
    if side_data is None:
        return lambda image: image
    # (x, y) of the decoded image is shown at (a x + c y, b x + d y), in the order a b . c d . of fixed-point numbers.
    a, b, _, c, d = np.frombuffer(bytes(side_data), np.int32)[:5].tolist()
    if abs(a) >= abs(b):
        return lambda image: image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]
    return lambda image: image.swapaxes(0, 1)[:: -1 if b < 0 else 1, :: -1 if c < 0 else 1]
