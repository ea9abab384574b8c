"""Packets of a video stream: timestamps, key frames and truncation of a file, without decoding."""

import logging
import struct
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import numpy as np
from av.error import FFmpegError

logger = logging.getLogger(__name__)

_MISSED_FRAMES = 1.5
_MISSED_S = 0.05
"""Tolerances of the duration in the header: last frames may have no duration, and time bases are coarse."""

_REORDERED_FRAMES = 16
"""Maximum number of frames that H.264 and HEVC store before a frame that is shown earlier."""

_WITHOUT_LENGTH = frozenset({"mpeg", "mpegts"})  # formats without a length: truncated files look complete


def packets_of(container: Any, stream: Any, torn: Callable[[FFmpegError], None] = lambda error: None) -> Iterator[Any]:
    """Intact packets up to the end, or up to a read error, which is passed to `torn`."""
    try:
        yield from (packet for packet in container.demux(stream) if packet.size and not packet.is_corrupt)
    except FFmpegError as error:
        torn(error)


def read_announcements(container: Any, stream: Any, source: str) -> tuple[list[tuple[int | None, bool, bool]], bool]:
    """Read (presentation timestamp, is key frame, is shown) of every packet, and whether the file is complete.

    Logs a warning if the file is truncated or damaged.
    """
    torn: list[FFmpegError] = []
    found, end = [], 0
    for packet in packets_of(container, stream, torn.append):
        found.append((packet.pts, packet.is_keyframe, _is_shown(packet, stream)))
        end = max(end, (packet.pts or 0) + (packet.duration or 0))
    times = [pts for pts, _, _ in found if pts is not None]
    if not times:
        return found, not torn
    begin_s, end_s = float(min(times) * stream.time_base), float(end * stream.time_base)
    said_s, interval_s = _said_end_s(container, stream), max(1e-3, (end_s - begin_s) / len(times))
    missed = said_s is not None and said_s - end_s > _MISSED_FRAMES * interval_s + _MISSED_S
    cut_off = missed or is_cut_off(Path(container.name))
    whole = not (cut_off or torn or container.format.name in _WITHOUT_LENGTH)
    if not whole and len(certain := _before_gap(found)) < len(found):
        left_out = len(found) - len(certain)
        logger.warning("frames near the end of %s are missing; the %d frames after the first one are left out", source, left_out)
        found = certain
        end_s = float(max(pts for pts, _, _ in found if pts is not None) * stream.time_base) + interval_s
    if cut_off:
        rate = float(stream.average_rate or 0) or 1 / interval_s
        total = f" of about {max(len(found) + 1, round((said_s - begin_s) * rate))}" if missed and said_s is not None else ""
        readable = f"its first {len(found)}{total} frames can be read, up to {end_s:.1f} s"
        logger.warning("%s is cut short: %s; copy or record it again", source, readable)
    elif torn:
        logger.warning("%s is damaged after %d frames (%s); later frames are lost", source, len(found), torn[0].strerror)
    return found, whole


def _before_gap(found: list[tuple[int | None, bool, bool]]) -> list[tuple[int | None, bool, bool]]:
    """Packets of a truncated file that are shown before the first lost frame."""
    # B-frames are stored after frames that are shown later: if the file ends between them, frames after the gap would get wrong
    # numbers.
    times = [pts for pts, _, shown in found if shown and pts is not None]
    if times == sorted(times):
        return found
    times = sorted(set(times))
    usual = float(np.median(np.diff(times)))
    last = times[-_REORDERED_FRAMES - 1 :]
    end = next((after for before, after in pairwise(last) if after - before > _MISSED_FRAMES * usual), None)
    return found if end is None else [packet for packet in found if packet[0] is None or packet[0] < end]


def is_cut_off(path: Path) -> bool:
    """Whether a file is shorter than its headers claim (RIFF, Matroska, MP4), or ends within a packet (MPEG-TS)."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(64)
        if head[:4] == b"RIFF":
            return 8 + int.from_bytes(head[4:8], "little") > size
        for at, packet in ((0, 188), (4, 192)):
            if head[at : at + 1] == b"\x47" and size > 2 * packet:
                file.seek(packet + at)
                if file.read(1) == b"\x47":
                    return size % packet != 0
        if head[:4] == b"\x1a\x45\xdf\xa3":
            return _matroska_end(head) > size
        return head[4:8] == b"ftyp" and _boxes_end(file, size) > size


def _matroska_end(head: bytes) -> int:
    """End offset of the Matroska segment, which follows the header element; 0 if its size is unknown."""
    at, length = _element_size(head, 4)
    at += length
    if head[at : at + 4] != b"\x18\x53\x80\x67":
        return 0
    begin, length = _element_size(head, at + 4)
    unknown = (1 << 7 * (begin - at - 4)) - 1
    return 0 if length == unknown else begin + length


def _element_size(data: bytes, at: int) -> tuple[int, int]:
    """(offset after it, value) of an EBML variable-size integer (RFC 8794, 4)."""
    octets = 9 - max(1, data[at : at + 1].ljust(1, b"\1")[0]).bit_length()
    return at + octets, int.from_bytes(data[at : at + octets], "big") & (1 << 7 * octets) - 1


def _boxes_end(file: IO[bytes], size: int) -> int:
    """End offset of the last box of an MP4 file, according to its header; data that is no box is ignored."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        length, kind = struct.unpack(">I4s", file.read(8))
        if length == 1:
            length = int.from_bytes(file.read(8), "big")
        if length < 8 or not kind.isalnum():  # length 0: up to the end of the file
            break
        at += length
    return at


def _said_end_s(container: Any, stream: Any) -> float | None:
    """End time of the video stream in seconds according to the header; None if it has no duration of this stream."""
    if stream.duration is not None:
        return float(((stream.start_time or 0) + stream.duration) * stream.time_base)
    try:  # Matroska stores it as text, hours:minutes:seconds
        hours, minutes, seconds = stream.metadata["DURATION"].split(":")
        return int(hours) * 3600 + int(minutes) * 60 + float(seconds)
    except (KeyError, ValueError):
        return container.duration / 1e6 if container.duration and len(container.streams) == 1 else None


def _is_shown(packet: Any, stream: Any) -> bool:
    if stream.codec_context.name == "vp8" and not bytes(packet)[0] & 0x10:
        return False  # a reference frame with its own timestamp that is never shown
    return not packet.is_discard  # discarded by an edit list
