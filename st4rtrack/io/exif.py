"""Focal length and orientation from EXIF data; no other tag is read (no location, name or date)."""

import re
import struct

_ORIENTATION, _EXIF_FOLDER = 0x0112, 0x8769
_FOCAL_MM, _FOCAL_35MM = 0x920A, 0xA405
_PLANE_X_RESOLUTION, _PLANE_UNIT, _EXIF_WIDTH = 0xA20E, 0xA210, 0xA002
_TAGS = {_ORIENTATION, _EXIF_FOLDER, _FOCAL_MM, _FOCAL_35MM, _PLANE_X_RESOLUTION, _PLANE_UNIT, _EXIF_WIDTH}
_NUMBERS = {1: "B", 3: "H", 4: "I", 5: "II", 9: "i", 10: "ii"}  # struct format by TIFF type; two integers are a fraction
_UNIT_MM = {2: 25.4, 3: 10.0, 4: 1.0}
_FILM_LONG_SIDE_MM = 36.0
_MAX_ENTRIES = 512
_TIFF_START = re.compile(rb"(?:(?<=Exif\0\0)|(?<=eXIf)|(?<=EXIF....)|^|(?<=\0\0\0\0))(?:II\*\0|MM\0\*)", re.DOTALL)
_HEAD = 1 << 18  # EXIF data precedes the image data and is at most 64 kB in a JPEG


def focal_from_35mm(focal_35mm: float, height: int, width: int) -> float | None:
    """Focal length in pixels from the 35 mm equivalent (long image side = 36 mm); `None` if implausible."""
    focal_px = focal_35mm / _FILM_LONG_SIDE_MM * max(height, width)
    return focal_px if 0.1 < focal_px / max(height, width) < 50 else None


def exif_focal_px(data: bytes, height: int, width: int) -> float | None:
    """Focal length in pixels, from the sensor resolution or else the 35 mm equivalent; `None` if unknown."""
    tags = _read_tags(data)
    focal_mm, resolution = tags.get(_FOCAL_MM, 0.0), tags.get(_PLANE_X_RESOLUTION, 0.0)
    if focal_mm > 0 and resolution > 0 and tags.get(_EXIF_WIDTH, 0.0) > 0:
        stored_px = focal_mm * resolution / _UNIT_MM.get(int(tags.get(_PLANE_UNIT, 2)), 25.4)
        long_side = max(height, width)  # the width before rotation is the long side of all but square sensors
        focal_35mm = stored_px / tags[_EXIF_WIDTH] * (long_side if width >= height or _turned(tags) else width)
        if 0.3 < focal_35mm / long_side < 20:
            return focal_35mm
    return focal_from_35mm(tags.get(_FOCAL_35MM, 0.0), height, width)


def exif_orientation(data: bytes) -> int:
    """EXIF orientation, 1 to 8; 1 (upright) if the image has none."""
    found = int(_read_tags(data).get(_ORIENTATION, 1))
    return found if 1 <= found <= 8 else 1


def _turned(tags: dict[int, float]) -> bool:
    return tags.get(_ORIENTATION, 1) >= 5


def _read_tags(data: bytes) -> dict[int, float]:
    """Values of the tags in `_TAGS`, wherever the EXIF data is in the file."""
    whole = data[4:8] == b"ftyp" or data.startswith((b"\x89PNG", b"RIFF"))  # EXIF data may follow the image data
    found = _TIFF_START.search(data if whole else data[:_HEAD])
    if found is None:
        return {}
    start = found.start()
    try:
        return _tags_at(data[start : start + _HEAD])
    except (struct.error, IndexError):  # damaged EXIF data is ignored: the focal length is optional
        return {}


def _tags_at(tiff: bytes) -> dict[int, float]:
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return {}
    tags: dict[int, float] = {}
    folders: list[int] = [struct.unpack_from(f"{order}I", tiff, 4)[0]]
    for at in folders:
        (count,) = struct.unpack_from(f"{order}H", tiff, at)
        for entry in range(at + 2, at + 2 + 12 * min(count, _MAX_ENTRIES), 12):
            tag, kind, number = struct.unpack_from(f"{order}HHI", tiff, entry)
            if tag not in _TAGS or kind not in _NUMBERS or number != 1:
                continue
            fraction = len(_NUMBERS[kind]) == 2
            place = struct.unpack_from(f"{order}I", tiff, entry + 8)[0] if fraction else entry + 8
            value = struct.unpack_from(order + _NUMBERS[kind], tiff, place)
            if not fraction or value[1]:
                tags[tag] = value[0] / value[1] if fraction else value[0]
        if len(folders) == 1 and _EXIF_FOLDER in tags:
            folders.append(int(tags[_EXIF_FOLDER]))
    return tags
