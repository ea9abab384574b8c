"""Image size from the header without decoding, as a file of a few bytes can claim gigabytes."""

import re
import struct
from typing import IO

from st4rtrack.io.heif import heif_size

_PNG = b"\x89PNG\r\n\x1a\n"
_WITHOUT_LENGTH = (0x01, *range(0xD0, 0xD9))
"""JPEG markers without a length field."""
_JPEG_START = 1 << 16
_TIFF = (b"II*\0", b"MM\0*")
_TIFF_SUBFILE, _TIFF_NO_PAGE = 254, 1 | 4  # flags: reduced version of another page, mask
_TIFF_NUMBER = {1: "B", 3: "H", 4: "I", 16: "Q"}


def size_in_header(file: IO[bytes]) -> tuple[int, int] | None:
    """(height, width) before rotation, from the header; None for unsupported formats or damaged headers.

    Args:
        file: PNG, JPEG, BMP, PNM, TIFF, WebP, HEIF or JPEG 2000 file, at position 0.
    """
    start = file.read(40)
    try:
        if start.startswith(_PNG):
            return _swapped(struct.unpack_from(">II", start, 16))
        if start.startswith(b"\xff\xd8"):
            return _jpeg_size(file)
        if start.startswith(b"BM"):
            width, height = struct.unpack_from("<ii", start, 18)
            return abs(height), abs(width)
        if found := re.match(rb"P[1-7]\s+(\d{1,18})\s+(\d{1,18})\s", start):
            return int(found[2]), int(found[1])
        if start[:4] in _TIFF:
            return _tiff_size(file, "<" if start[:1] == b"I" else ">")
        if start.startswith(b"RIFF") and start[8:12] == b"WEBP":
            return _webp_size(start)
        if start[4:8] == b"ftyp":
            return heif_size(start + file.read(_JPEG_START))
        if (at := (start + file.read(4096)).find(b"\xff\x4f\xff\x51")) >= 0:  # JPEG 2000 markers SOC and SIZ
            file.seek(at + 8)
            right, bottom, left, top = struct.unpack(">IIII", file.read(16))
            return max(0, bottom - top), max(0, right - left)
    except struct.error:  # truncated file
        pass
    return None


def chunks_fit(data: bytes) -> bool:
    """Whether all PNG chunks end within the file (decoders allocate the claimed size, up to 4 GB); True for other formats."""
    at = len(_PNG)
    while data.startswith(_PNG) and at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        at += 12 + length
        if at > len(data):
            return False
        if kind == b"IEND":
            break
    return True


def _swapped(width_height: tuple[int, int]) -> tuple[int, int]:
    return width_height[1], width_height[0]


def _jpeg_size(file: IO[bytes]) -> tuple[int, int] | None:
    """JPEG size from the start-of-frame segment; the whole file is read only if the first 64 KiB lack it."""
    file.seek(0)
    start = file.read(_JPEG_START)
    return _jpeg_frame(start) or _jpeg_frame(start + file.read())


def _jpeg_frame(data: bytes) -> tuple[int, int] | None:
    """Size in the first start-of-frame segment; bytes between segments are skipped, as decoders do."""
    at = 2
    while (at := data.find(b"\xff", at)) >= 0:
        head = data[at + 1 : at + 9]
        if head[:1] in (b"\0", b"\xff", b""):  # no marker: a data byte or padding
            at += 1
            continue
        if len(head) < 8:
            return None
        kind, length, _, height, width = struct.unpack(">BHBHH", head)
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC):  # start of frame
            return height, width
        at += 2 + (0 if kind in _WITHOUT_LENGTH else max(2, length))
    return None


def tiff_pages(file: IO[bytes]) -> list[int]:
    """Directory offsets of the pages of a TIFF file, without thumbnails and masks; empty if damaged or no TIFF.

    Args:
        file: the file, at position 0.
    """
    start = file.read(8)
    if start[:4] not in _TIFF:
        return []
    order, pages, seen = "<" if start[:1] == b"I" else ">", [], set[int]()
    try:
        (at,) = struct.unpack_from(f"{order}I", start, 4)
        while at and at not in seen:
            seen.add(at)
            tags = _tiff_tags(file, order, at)
            if not tags.get(_TIFF_SUBFILE, 0) & _TIFF_NO_PAGE:
                pages.append(at)
            (at,) = struct.unpack(f"{order}I", file.read(4))
    except struct.error:  # truncated file
        return []
    return pages


def _tiff_size(file: IO[bytes], order: str) -> tuple[int, int] | None:
    file.seek(4)
    tags = _tiff_tags(file, order, struct.unpack(f"{order}I", file.read(4))[0])
    return (tags[257], tags[256]) if {256, 257} <= tags.keys() else None


def _tiff_tags(file: IO[bytes], order: str, at: int) -> dict[int, int]:
    """Width (256), height (257) and subfile type (254) of a TIFF directory; leaves the file after its entries."""
    file.seek(at)
    (count,) = struct.unpack(f"{order}H", file.read(2))
    tags: dict[int, int] = {}
    for _ in range(count):
        entry = file.read(12)
        tag, kind = struct.unpack_from(f"{order}HH", entry)
        if tag in (_TIFF_SUBFILE, 256, 257) and kind in _TIFF_NUMBER:
            tags[tag] = struct.unpack_from(f"{order}{_TIFF_NUMBER[kind]}", entry, 8)[0] if kind != 16 else 1 << 32
    return tags


def _webp_size(start: bytes) -> tuple[int, int] | None:
    kind = start[12:16]
    if kind == b"VP8X":
        return int.from_bytes(start[27:30], "little") + 1, int.from_bytes(start[24:27], "little") + 1
    if kind == b"VP8L":
        bits = struct.unpack_from("<I", start, 21)[0]
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", start, 26)
    return height & 0x3FFF, width & 0x3FFF
