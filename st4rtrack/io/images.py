"""Encoded still images as frames: a folder, a glob, or the JPEG bytes of a sequence file."""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np

from st4rtrack.io.frames import whole_video
from st4rtrack.io.image_size import chunks_fit, size_in_header
from st4rtrack.io.memory import MAX_PIXELS
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
    sizes = [_stored_size(path, label) for path, label in zip(paths, labels, strict=True)]
    for label, size in zip(labels, sizes, strict=True):
        if size and sizes[0] and sorted(size) != sorted(sizes[0]):  # sorted: the orientation is not known yet
            raise UserError(_sizes_differ(label, size, labels[0], sizes[0]))
    return open_encoded_images(lambda i: _content(paths[i], labels[i]), labels, paths[0].parent.name, source, rate)


def _content(path: Path, label: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{label} cannot be read ({error.strerror}); check its permissions, or take it out") from error


def _stored_size(path: Path, label: str) -> tuple[int, int] | None:
    try:
        with path.open("rb") as file:
            return size_in_header(file)
    except OSError as error:
        raise UserError(f"{label} cannot be read ({error.strerror}); check its permissions, or take it out") from error


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
    return cv2.cvtColor(decode_stored(data, label, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def decode_stored(data: bytes, label: str, flags: int = cv2.IMREAD_UNCHANGED) -> np.ndarray:
    """An encoded image, by default as it is stored: any type and number of channels, colours as BGR.

    Raises:
        UserError: it is none that can be read, or claims more pixels than are read.
    """
    size, unreadable = size_in_header(BytesIO(data)), f"{label} cannot be read as an image; replace it or take it out"
    if size is None:  # decoders know more kinds, whose claims nobody looks at
        raise UserError(unreadable)
    if size[0] * size[1] > MAX_PIXELS:
        raise UserError(
            f"{label} says that it has {size[1]}x{size[0]} pixels, which is more than is read; replace it or take it out"
        )
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if chunks_fit(data) else None
    except (cv2.error, MemoryError):
        image = None
    if image is None:
        raise UserError(unreadable)
    return image


def _sizes_differ(label: str, size: tuple[int, ...], first_label: str, first: tuple[int, ...]) -> str:
    return (
        f"{label} is {size[1]}x{size[0]} pixels but {first_label} {first[1]}x{first[0]}; "
        "all images must have one size, so resize it or take it out"
    )


def encode_jpeg(rgb: np.ndarray, quality: int = 95) -> bytes:
    """JPEG of a picture [height, width, 3] uint8."""
    done, data = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    return data.tobytes()
