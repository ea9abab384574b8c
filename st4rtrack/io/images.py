"""Encoded still images as video frames: a folder, a glob, or the JPEG bytes of a sequence file."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np

from st4rtrack.io.exif import exif_focal_px, exif_orientation
from st4rtrack.io.files import require_downloaded
from st4rtrack.io.frames import whole_video
from st4rtrack.io.heif import decode_heif, is_heif
from st4rtrack.io.image_series import in_order, require_one_series, times_in_names
from st4rtrack.io.image_size import chunks_fit, size_in_header, tiff_pages
from st4rtrack.io.memory import MAX_PIXELS
from st4rtrack.types import UserError, Video

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".jp2", ".heic", ".heif", ".avif"}
)
TRANSPARENT_COLOUR = 127
"""Grey background of transparent pixels, whose stored colour is arbitrary."""

_MEASURED_IMAGES = 12  # images of a series that are decoded to detect how many of 16 bits are used


def images_among(paths: Iterable[Path]) -> list[Path]:
    """The images among paths, sorted by name; hidden files (metadata of file systems) are skipped."""
    return in_order([p for p in paths if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".") and p.is_file()])


def open_images(paths: list[Path], source: str, rate: float) -> Video:
    if not paths:
        kinds = " ".join(sorted(IMAGE_SUFFIXES))
        raise UserError(
            f"{source} holds no image ({kinds}); give a video file, or a folder or glob of images, in one of these formats"
        )
    require_one_series(paths, source)
    labels = [str(path) for path in paths]
    times = times_in_names(paths)
    if times is not None:
        logger.info("the image names of %s are used as timestamps (%.3f s from the first to the last)", source, times[-1])
    paths = [path.resolve() for path in paths]  # the working directory may change before a frame is read
    sizes = [_stored_size(path, label) for path, label in zip(paths, labels, strict=True)]
    for label, size in zip(labels, sizes, strict=True):
        if size and sizes[0] and sorted(size) != sorted(sizes[0]):  # sorted: the orientation is unknown here
            raise UserError(_sizes_differ(label, size, labels[0], sizes[0]))
    with paths[0].open("rb") as file:
        if (pages := len(tiff_pages(file))) > 1:
            logger.warning("only the first of %d pages of %s is read; give the file itself to read all", pages, labels[0])
    name = paths[0].parent.name
    video = open_encoded_images(lambda i: _content(paths[i], labels[i]), labels, name, source, rate)
    return video if times is None else replace(video, time_s=times)


def _content(path: Path, label: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{label} cannot be read ({error.strerror}); check its permissions, or remove it") from error


def _stored_size(path: Path, label: str) -> tuple[int, int] | None:
    try:
        with path.open("rb") as file:
            return size_in_header(file)
    except OSError as error:
        raise UserError(f"{label} cannot be read ({error.strerror}); check its permissions, or remove it") from error


def open_encoded_images(load: Callable[[int], bytes], labels: list[str], name: str, source: str, rate: float) -> Video:
    """Open encoded images, in memory or on disk, as a video; each is decoded when it is read."""
    if not labels:
        raise UserError(f"{source} has no frames")
    start = load(0)
    first, alpha = _decode(start, labels[0])
    height, width = first.shape[:2]
    bits = 16 if first.dtype != np.uint16 else _bits_used(load, labels, source)
    if alpha is not None and (hidden := float((alpha < 1).mean())) > 0:
        message = "%s has transparent pixels (%.0f %% of the first image), which become grey; leave them out with --static-mask"
        logger.warning(message, source, 100 * hidden)

    def frames_at(indices: Sequence[int]) -> Iterator[np.ndarray]:
        for i in indices:
            image = _to_rgb(*_decode(load(i), labels[i]), bits)
            if image.shape[:2] != (height, width):
                raise UserError(_sizes_differ(labels[i], image.shape[:2], labels[0], (height, width)))
            yield image

    video = whole_video(name, source, height, width, np.arange(len(labels)) / rate, frames_at)
    return replace(video, focal_px=exif_focal_px(start, height, width))


def _bits_used(load: Callable[[int], bytes], labels: list[str], source: str) -> int:
    """Number of bits that 16-bit images use; 10-, 12- and 14-bit cameras often leave the upper bits empty."""
    some = sorted({round(i) for i in np.linspace(0, len(labels) - 1, _MEASURED_IMAGES)})
    largest = max(int(_decode(load(i), labels[i])[0].max()) for i in some)
    bits = min(16, max(8, largest.bit_length() + largest.bit_length() % 2))
    if bits < 16:
        message = (
            "the 16-bit images of %s use only %d bits (largest value %d): all are scaled by %d, so that they are not nearly black"
        )
        logger.warning(message, source, bits, largest, 1 << 16 - bits)
    return bits


def _decode(data: bytes, label: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Decode to upright RGB [height, width, 3] uint8, uint16 or float32, and alpha [height, width] in 0..1 or None."""
    if is_heif(data):
        return decode_heif(data, label), None
    if not data.startswith((b"\x89PNG", b"RIFF", b"II*\0", b"MM\0*")):  # kinds without transparency
        image = decode_stored(data, label, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB), None
    stored = decode_stored(data, label)
    channels = stored.shape[2] if stored.ndim == 3 else 1
    image = cv2.cvtColor(stored, {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}[channels])
    if data.startswith((b"\x89PNG", b"RIFF")):  # OpenCV does not apply their orientation with IMREAD_UNCHANGED
        image, stored = (_upright(each, exif_orientation(data)) for each in (image, stored))
    if channels == 4:
        most = np.iinfo(stored.dtype).max if stored.dtype.kind == "u" else 1
        alpha = stored[..., 3] / np.float32(most)
        if stored.dtype == np.uint8 and data.startswith((b"II*\0", b"MM\0*")):  # OpenCV returns premultiplied colours
            image = (image / np.maximum(alpha, 1 / 255)[..., None]).clip(0, 255).round().astype(np.uint8)
        return image, alpha
    return image, None


def _to_rgb(image: np.ndarray, alpha: np.ndarray | None, bits: int) -> np.ndarray:
    """Convert to RGB [height, width, 3] uint8; transparent pixels are blended with grey."""
    if image.dtype == np.uint16:
        image = np.minimum(image >> (bits - 8), 255).astype(np.uint8)
    elif image.dtype != np.uint8:
        image = (255 * image.clip(0, 1)).round().astype(np.uint8)
    return np.ascontiguousarray(image if alpha is None else over_grey(image, alpha))


def over_grey(rgb: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Blend colours [height, width, 3] uint8 with alpha [height, width] in 0..1 over `TRANSPARENT_COLOUR`."""
    grey = np.float32(TRANSPARENT_COLOUR)
    return (grey + alpha[..., None] * (rgb - grey)).round().astype(np.uint8)


def _upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """Rotate and mirror an image according to its EXIF orientation, 1 to 8."""
    if orientation >= 5:
        image = image.swapaxes(0, 1)
    return image[:: -1 if orientation in (3, 4, 7, 8) else 1, :: -1 if orientation in (2, 3, 6, 7) else 1]


def decode_stored(data: bytes, label: str, flags: int = cv2.IMREAD_UNCHANGED) -> np.ndarray:
    """Decode an image, by default as stored: any dtype and number of channels, colours in BGR order.

    Raises:
        UserError: the data cannot be read as an image, or claims more than `MAX_PIXELS` pixels.
    """
    require_downloaded(label, data)
    size, unreadable = size_in_header(BytesIO(data)), f"{label} cannot be read as an image; replace or remove it"
    if size is None:  # the decoder supports more formats, but their claimed size is not checked
        raise UserError(unreadable)
    if size[0] * size[1] > MAX_PIXELS:
        raise UserError(
            f"{label} has {size[1]}x{size[0]} pixels according to its header, more than {MAX_PIXELS} in all; replace or remove it"
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
        "all images must have the same size, so resize or remove it"
    )


def encode_jpeg(rgb: np.ndarray, quality: int = 95) -> bytes:
    """Encode an RGB image [height, width, 3] uint8 as JPEG."""
    done, data = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    return data.tobytes()
