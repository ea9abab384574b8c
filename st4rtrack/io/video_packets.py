"""The packets of a video stream: what a file announces, before anything is decoded."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

from av.error import FFmpegError

logger = logging.getLogger(__name__)

_MISSED_S = 1.0  # a header may be that far from where the frames end, or 2 % of the whole


def packets_of(container: Any, stream: Any, torn: Callable[[FFmpegError], None] = lambda error: None) -> Iterator[Any]:
    """Whole packets, up to the end or to where a file is cut off or broken, which `torn` is told."""
    try:
        yield from (packet for packet in container.demux(stream) if packet.size and not packet.is_corrupt)
    except FFmpegError as error:
        torn(error)


def read_announcements(container: Any, stream: Any, source: str) -> list[tuple[int | None, bool, bool]]:
    """(presentation time, whether decoding can begin there, whether it is shown) of every packet; warns where a file is not whole."""
    torn: list[FFmpegError] = []
    found, end = [], 0
    for packet in packets_of(container, stream, torn.append):
        found.append((packet.pts, packet.is_keyframe, _is_shown(packet, stream)))
        end = max(end, (packet.pts or 0) + (packet.duration or 0))
    end_s, said_s = float(end * stream.time_base), _said_duration_s(container, stream)
    if torn:
        logger.warning("%s is broken off (%s); what comes after is lost", source, torn[0].strerror)
    elif found and said_s is not None and said_s - end_s > max(_MISSED_S, 0.02 * said_s):
        logger.warning("%s should last %.1f s, but its frames end after %.1f s: is it whole?", source, said_s, end_s)
    return found


def _said_duration_s(container: Any, stream: Any) -> float | None:
    """How long the header says that the pictures last; None if it says nothing of them alone."""
    if stream.duration is not None:
        return float(((stream.start_time or 0) + stream.duration) * stream.time_base)
    return container.duration / 1e6 if container.duration and len(container.streams) == 1 else None


def _is_shown(packet: Any, stream: Any) -> bool:
    if stream.codec_context.name == "vp8" and not bytes(packet)[0] & 0x10:
        return False  # a reference picture, with a time of its own but never shown
    return not packet.is_discard  # cut away by an edit list
