"""Encoded still images as frames: a folder, a glob, or the JPEG bytes of a sequence file."""

import re
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from st4rtrack.io.frames import whole_video
from st4rtrack.types import UserError, Video

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".jp2"})


def images_among(paths: Iterable[Path]) -> list[Path]:
    """Images in natural order (img2 before img10); hidden files are what file systems leave behind."""
    images = [p for p in paths if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".") and p.is_file()]
    return sorted(images, key=lambda p: [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", str(p))])


def open_images(paths: list[Path], source: str, rate: float) -> Video:
    if not paths:
        kinds = " ".join(sorted(IMAGE_SUFFIXES))
        raise UserError(f"{source} holds no image ({kinds}); give a video file, or a folder or glob of images")
    labels = [str(path) for path in paths]
    paths = [path.resolve() for path in paths]  # the current folder may change before a frame is read
    sizes = [_size_in_header(path) for path in paths]
    for label, size in zip(labels, sizes, strict=True):
        if size and sizes[0] and sorted(size) != sorted(sizes[0]):  # sorted: the orientation is not known yet
            raise UserError(_sizes_differ(label, size, labels[0], sizes[0]))
    return open_encoded_images(lambda i: paths[i].read_bytes(), labels, paths[0].parent.name, source, rate)


def open_encoded_images(load: Callable[[int], bytes], labels: list[str], name: str, source: str, rate: float) -> Video:
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

    return whole_video(name, source, height, width, np.arange(len(labels)) / rate, frames_at)


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


def encode_jpeg(rgb: np.ndarray, quality: int = 95) -> bytes:
    """JPEG of a picture [height, width, 3] uint8."""
    done, data = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    return data.tobytes()
