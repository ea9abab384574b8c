"""Reader of video files through PyAV: random access by frame position, rotation, variable frame rate."""

import contextlib
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import chain, dropwhile, islice
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.error import FFmpegError

from st4rtrack.io.files import require_downloaded
from st4rtrack.io.frames import whole_video
from st4rtrack.io.images import focal_from_35mm
from st4rtrack.io.memory import MAX_PIXELS
from st4rtrack.io.video_packets import is_cut_off, packets_of, read_announcements
from st4rtrack.io.video_pixels import FrameConverter, has_alpha, hdr_curve
from st4rtrack.types import UserError, Video

logger = logging.getLogger(__name__)

_SEEK_WORTH_FRAMES = 16  # seeking flushes the decoder, so over fewer frames than about this sequential decoding is faster
_DEFAULT = 1  # FFmpeg's disposition of the default stream
_COVER_ART = 0x400  # FFmpeg's disposition of a picture attached to an audio file; older PyAV has no name for it
_OTHERS_FILES = frozenset({"applehttp", "concat", "dash", "ffmetadata", "hls", "image2", "imf", "lavfi", "rtsp", "sdp", "tty"})
_DEMUXERS = ",".join(sorted(av.formats_available - _OTHERS_FILES))  # none that opens further files, as playlists do
_QUICKTIME_FOCAL = "com.apple.quicktime.camera.focal_length.35mm_equivalent"
_CHECKED_FRAMES = 4  # number of decoded frames whose timestamps are compared with those of the packets


@dataclass(frozen=True)
class _Index:
    """Frame index of a video file, in presentation order."""

    # [frames] increasing presentation timestamps in units of the stream's time base; frame numbers if it has none
    pts: np.ndarray
    time_s: np.ndarray  # [frames] seconds since the first frame
    key_pts: np.ndarray  # [keys] increasing presentation timestamps of the key frames
    has_pts: bool = True  # whether decoded frames carry `pts`; otherwise they can only be counted from the beginning
    focal_35mm: float | None = None  # 35 mm equivalent focal length in millimetres, if the file has it


def open_video_file(path: Path, source: str) -> Video:
    require_downloaded(path)
    path = path.resolve()  # absolute, so that FFmpeg does not parse part of it as a protocol
    index = _index_file(path, source)
    decoder = _Decoder(path, source, index)
    first = decoder.frame(0)
    if (curve := hdr_curve(first)) is not None:
        logger.info("%s has high dynamic range (%s), which is tone-mapped to standard colours (BT.709)", source, curve)
    if first.interlaced_frame:
        logger.info("%s is interlaced: each frame is made from its top field, at half the height", source)
    if has_alpha(first) and (first.to_ndarray(format="rgba")[..., 3] < 255).any():
        logger.warning("%s has transparent pixels, which become grey; leave them out with --static-mask", source)
    height, width = decoder.image(0).shape[:2]
    idle = [decoder]  # keeps its position between reads, so that sequential reads decode no frame twice

    def frames_at(indices: Sequence[int]) -> Iterator[np.ndarray]:
        decoder = idle.pop() if idle else _Decoder(path, source, index)  # popped: concurrent readers need one each
        try:
            for i in indices:
                image = decoder.image(i)
                if image.shape != (height, width, 3):
                    raise UserError(
                        f"frame {i} of {source} is {image.shape[1]}x{image.shape[0]} pixels but the first {width}x{height}; "
                        "cut the video with start and stop where its size changes"
                    )
                yield image
        finally:
            idle[:] = [decoder]

    video = whole_video(path.stem, source, height, width, index.time_s, frames_at)
    return replace(video, focal_px=index.focal_35mm and focal_from_35mm(index.focal_35mm, height, width))


def _open_stream(path: Path, source: str, *, threads: str = "AUTO") -> tuple[Any, Any]:
    """Open a file: (container, video stream). Frame threads are faster, but a damaged frame spoils its neighbours."""
    try:
        options = {"protocol_whitelist": "file", "format_whitelist": _DEMUXERS, "max_pixels": str(MAX_PIXELS)}
        container = av.open(str(path), options=options)
    except (FFmpegError, OSError, ValueError, MemoryError) as error:
        why = "it is cut short and its index is lost" if is_cut_off(path) else getattr(error, "strerror", None) or error
        raise UserError(f"{source} is not a video that can be read ({why}); give a video file or a folder of images") from error
    streams = [stream for stream in container.streams.video if not int(getattr(stream, "disposition", 0)) & _COVER_ART]
    streams.sort(key=_preference, reverse=True)
    if not streams or container.format.name == "tty":  # FFmpeg's "tty" format renders text files
        container.close()
        raise UserError(f"{source} has no video stream; give a video file or a folder of images")
    if streams[0].codec_context is None:
        container.close()
        raise UserError(f"{source} uses a codec that this PyAV cannot decode; convert it to H.264 first")
    streams[0].codec_context.options = {"max_pixels": str(MAX_PIXELS)}
    streams[0].thread_type = threads
    return container, streams[0]


def _preference(stream: Any) -> tuple[int, int, int]:
    """Sort key of video streams: the largest is read; among equals the default stream, then the first."""
    context = stream.codec_context
    pixels = context.width * context.height if context else -1
    return pixels, int(getattr(stream, "disposition", 0)) & _DEFAULT, -stream.index


def _decoded(stream: Any, packets: Iterable[Any], lost: Callable[[FFmpegError], None] = lambda error: None) -> Iterator[Any]:
    """Decode packets to frames in order; undecodable packets are skipped and their errors passed to `lost`."""
    for packet in packets:
        try:
            yield from packet.decode()
        except FFmpegError as error:
            lost(error)
    with contextlib.suppress(FFmpegError):
        yield from stream.codec_context.decode(None)


def _index_file(path: Path, source: str) -> _Index:
    container, stream = _open_stream(path, source)
    with container:
        packets, whole = read_announcements(container, stream, source)
        time_base, focal_35mm, others = stream.time_base, _focal_35mm(container, stream), len(container.streams.video) - 1
        if others and stream.codec_context:
            values = (source, others + 1, stream.index, stream.codec_context.width, stream.codec_context.height)
            logger.info("%s has %d video streams; number %d (%dx%d) is read, the largest", *values)
    if not packets:
        raise UserError(f"{source} holds no frames; fetch or record it again")
    key_pts = sorted({pts for pts, is_key, _ in packets if is_key and pts is not None})
    shown_pts = [pts for pts, _, shown in packets if shown]
    # Frames before the first key frame refer to frames that were cut off. Repeated timestamps come from concatenated files.
    pts = sorted({pts for pts in shown_pts if pts is not None and pts >= min(key_pts, default=pts)})
    if pts and all(packet[0] is not None for packet in packets) and len(set(shown_pts)) == len(shown_pts):
        index = _Index(np.array(pts, np.int64), _seconds(pts, time_base), np.array(key_pts, np.int64))
        if _comes_as_announced(path, source, index):
            index = index if whole else _without_undecodable_end(path, source, index)
            return replace(index, focal_35mm=focal_35mm)
    logger.info("the packets of %s do not determine its frames, so it is decoded once to count them", source)
    return replace(_index_by_decoding(path, source, np.array(key_pts, np.int64)), focal_35mm=focal_35mm)


def _without_undecodable_end(path: Path, source: str, index: _Index) -> _Index:
    """The index of a truncated file up to the last frame that can be decoded."""
    decoder = _Decoder(path, source, index)
    count = len(index.pts)
    while count > 1:
        with contextlib.suppress(UserError):
            decoder.frame(count - 1)
            break
        count -= 1
    if count < len(index.pts):
        logger.warning("the last %d frames of %s cannot be decoded and are left out", len(index.pts) - count, source)
    return replace(index, pts=index.pts[:count], time_s=index.time_s[:count])


def _focal_35mm(container: Any, stream: Any) -> float | None:
    """35 mm equivalent focal length in QuickTime files of phones; no other metadata but rotation and timestamps is read."""
    for metadata in (stream.metadata, container.metadata):
        with contextlib.suppress(KeyError, ValueError):
            return float(metadata[_QUICKTIME_FOCAL])
    return None


def _comes_as_announced(path: Path, source: str, index: _Index) -> bool:
    """Whether the first decoded frames have the timestamps of the packets (not so with one packet per field)."""
    container, stream = _open_stream(path, source)
    with container:
        frames = (frame.pts for frame in _decoded(stream, packets_of(container, stream)))
        found = list(islice((pts for pts in frames if pts is None or pts >= index.pts[0]), _CHECKED_FRAMES))
    return found == index.pts[:_CHECKED_FRAMES].tolist()


def _index_by_decoding(path: Path, source: str, key_pts: np.ndarray) -> _Index:
    container, stream = _open_stream(path, source, threads="SLICE")
    lost: list[FFmpegError] = []
    with container:
        pts = [frame.pts for frame in _decoded(stream, packets_of(container, stream), lost.append)]
        rate = stream.average_rate or stream.guessed_rate or Fraction(25)  # FFmpeg's default for streams without a rate
        time_base = stream.time_base
    if not pts:
        raise UserError(f"no frame of {source} can be decoded; fetch or record it again")
    if lost:
        logger.warning("%d packets of %s cannot be decoded and are left out: it is damaged", len(lost), source)
    if None not in pts and (np.diff(pts) > 0).all():
        return _Index(np.array(pts, np.int64), _seconds(pts, time_base), key_pts)
    numbers = np.arange(len(pts))
    return _Index(numbers, numbers / float(rate), key_pts[:0], has_pts=False)


def _seconds(pts: Sequence[int], time_base: Fraction) -> np.ndarray:
    return (np.array(pts, np.int64) - pts[0]) * time_base.numerator / time_base.denominator


class _Decoder:
    """Decodes frames by position; continues from the last one where that is faster than seeking."""

    def __init__(self, path: Path, source: str, index: _Index) -> None:
        self._path, self._source, self._index = path, source, index
        self._convert: FrameConverter | None = None
        self._restart()

    def image(self, position: int) -> np.ndarray:
        """The image at a position: [height, width, 3] uint8 RGB, upright, with square pixels."""
        frame = self.frame(position)
        if frame.is_corrupt:
            logger.warning("frame %d of %s is damaged; the decoder concealed the errors", position, self._source)
        if self._convert is None:
            self._convert = FrameConverter(self._stream.sample_aspect_ratio, frame, self._source)
        return self._convert(frame)

    def frame(self, position: int) -> Any:
        """The decoded frame at a position of the index."""
        key = int(np.searchsorted(self._index.key_pts, self._index.pts[position], side="right")) - 1  # -1: none
        key_position = int(np.searchsorted(self._index.pts, self._index.key_pts[key])) if key >= 0 else 0
        if position < self._next or key_position - self._next > _SEEK_WORTH_FRAMES:
            self._seek(position, key)
        frame = self._go_on_to(position)
        if frame is None:  # some streams cannot be decoded from their key frames
            self._restart(threads="SLICE")
            frame = self._go_on_to(position)
        if frame is None:
            raise UserError(
                f"frame {position} of {self._source} cannot be decoded, the file is damaged there; "
                "leave it out with start and stop, or repair the file"
            )
        return frame

    def _go_on_to(self, position: int) -> Any | None:
        self._next = sys.maxsize  # seek next time unless a frame is decoded
        for found, frame in self._frames:
            self._next = found + 1
            if found >= position:
                return frame if found == position else None
        return None

    def _seek(self, position: int, key: int) -> None:
        for back in (0, 1, 4):  # some containers seek beyond the requested key frame
            if key - back < 0:
                break
            with contextlib.suppress(FFmpegError):
                self._container.seek(int(self._index.key_pts[key - back]), stream=self._stream, backward=True)
                packets = dropwhile(lambda packet: not packet.is_keyframe, packets_of(self._container, self._stream))
                first = next(packets, None)
                if first is not None and first.pts <= self._index.pts[position]:
                    self._frames, self._next = self._numbered(chain([first], packets)), 0
                    return
        self._restart()

    def _restart(self, *, threads: str = "AUTO") -> None:
        threads = threads if self._index.has_pts else "SLICE"  # frames without pts must be decoded as when they were counted
        self._container, self._stream = _open_stream(self._path, self._source, threads=threads)
        self._frames, self._next = self._numbered(packets_of(self._container, self._stream)), 0

    def _numbered(self, packets: Iterable[Any]) -> Iterator[tuple[int, Any]]:
        """Decoded frames with their positions; frames that are not in the index (cut by an edit list) are skipped."""
        for count, frame in enumerate(_decoded(self._stream, packets)):
            if not self._index.has_pts:
                yield count, frame
            elif frame.pts is not None:
                position = int(np.searchsorted(self._index.pts, frame.pts))
                if position < len(self._index.pts) and self._index.pts[position] == frame.pts:
                    yield position, frame
