"""Images as video frames: a folder, a glob, the JPEG bytes of a sequence file, an animation, or the pages of a TIFF file.

Pillow reads headers (nothing is decoded, as a file of a few bytes can claim gigabytes), animations, HEIC and AVIF; OpenCV decodes
the rest, also with 16 bits.
"""

import importlib
import logging
import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import cv2
import numpy as np
from PIL import Image, ImageOps, ImageSequence

from st4rtrack.io.files import require_downloaded
from st4rtrack.io.frames import whole_video
from st4rtrack.io.image_series import in_order, require_one_series, times_in_names
from st4rtrack.io.installation import install_extra
from st4rtrack.io.memory import MAX_PIXELS
from st4rtrack.types import UserError, Video

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".jp2", ".heic", ".heif", ".avif"}
)
TRANSPARENT_COLOUR = 127
"""Grey background of transparent pixels, whose stored colour is arbitrary."""

Image.MAX_IMAGE_PIXELS = MAX_PIXELS  # of a header, beyond which Pillow warns
Image.init()
_FORMATS = [name for name in ("PNG", "JPEG", "BMP", "DIB", "PPM", "TIFF", "WEBP", "JPEG2000", "AVIF") if name in Image.OPEN]
_PNG, _TIFF = b"\x89PNG\r\n\x1a\n", (b"II*\0", b"MM\0*")
_AVIF = (b"avif", b"avis")
_HEIC = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")
_SUBFILE, _NO_PAGE = 254, 1 | 4  # TIFF tag and flags: reduced version of another page, mask
_EXIF_FOLDER, _ORIENTATION = 0x8769, 0x0112
_FOCAL_MM, _FOCAL_35MM, _PLANE_X_RESOLUTION, _PLANE_UNIT, _EXIF_WIDTH = 0x920A, 0xA405, 0xA20E, 0xA210, 0xA002
_UNIT_MM = {2: 25.4, 3: 10.0, 4: 1.0}
_FILM_LONG_SIDE_MM = 36.0
_MAX_PIXELS_HELD = 16 * MAX_PIXELS  # all frames of an animation are decoded at once, four bytes per pixel
_SHORTEST_S, _UNTIMED_S = 0.01, 0.1  # browsers show frames with a shorter or no duration for 0.1 s
_MEASURED_IMAGES = 12  # images of a series that are decoded to detect how many of 16 bits are used


def images_among(paths: Iterable[Path]) -> list[Path]:
    """The images among paths, sorted by name; hidden files (metadata of file systems) are skipped."""
    return in_order([p for p in paths if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".") and p.is_file()])


def open_images(paths: list[Path], source: str, rate: float) -> Video:
    if not paths:
        kinds = " ".join(sorted(IMAGE_SUFFIXES))
        raise UserError(f"{source} holds no image ({kinds}); give a video file, or a folder or glob of images of these formats")
    require_one_series(paths, source)
    labels = [str(path) for path in paths]
    times = times_in_names(paths)
    if times is not None:
        logger.info("the image names of %s are used as timestamps (%.3f s from the first to the last)", source, times[-1])
    paths = [path.resolve() for path in paths]  # the working directory may change before a frame is read
    sizes = [_read(path, label, lambda file, label=label: _size(file, label)) for path, label in zip(paths, labels, strict=True)]
    for label, size in zip(labels, sizes, strict=True):
        if size and sizes[0] and sorted(size) != sorted(sizes[0]):  # sorted: the orientation is unknown here
            raise _sizes_differ(label, size, labels[0], sizes[0])
    if (pages := len(_tiff_pages(paths[0]))) > 1:
        logger.warning("only the first of %d pages of %s is read; give the file itself to read all", pages, labels[0])
    name = paths[0].parent.name
    video = open_encoded_images(lambda i: _read(paths[i], labels[i], lambda file: file.read()), labels, name, source, rate)
    return video if times is None else replace(video, time_s=times)


def _read(path: Path, label: str, read: Callable[[IO[bytes]], Any]) -> Any:
    try:
        with path.open("rb") as file:
            return read(file)
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
                raise _sizes_differ(labels[i], image.shape[:2], labels[0], (height, width))
            yield image

    video = whole_video(name, source, height, width, np.arange(len(labels)) / rate, frames_at)
    return replace(video, focal_px=_exif_focal_px(start, height, width))


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
    if data[4:8] == b"ftyp" and data[8:12] in _AVIF + _HEIC:
        return _decode_heif(data, label), None
    if not data.startswith((_PNG, b"RIFF", *_TIFF)):  # kinds without transparency
        image = decode_stored(data, label, cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH)
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB), None
    stored = decode_stored(data, label)
    channels = stored.shape[2] if stored.ndim == 3 else 1
    image = cv2.cvtColor(stored, {1: cv2.COLOR_GRAY2RGB, 3: cv2.COLOR_BGR2RGB, 4: cv2.COLOR_BGRA2RGB}[channels])
    if data.startswith((_PNG, b"RIFF")):  # OpenCV does not apply their orientation with IMREAD_UNCHANGED
        orientation = int(_exif_tags(data).get(_ORIENTATION, 1))
        image, stored = (_upright(each, orientation) for each in (image, stored))
    if channels == 4:
        most = np.iinfo(stored.dtype).max if stored.dtype.kind == "u" else 1
        alpha = stored[..., 3] / np.float32(most)
        if stored.dtype == np.uint8 and data.startswith(_TIFF):  # OpenCV returns premultiplied colours
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
    if 5 <= orientation <= 8:
        image = image.swapaxes(0, 1)
    return image[:: -1 if orientation in (3, 4, 7, 8) else 1, :: -1 if orientation in (2, 3, 6, 7) else 1]


def decode_stored(data: bytes, label: str, flags: int = cv2.IMREAD_UNCHANGED) -> np.ndarray:
    """Decode an image, by default as stored: any dtype and number of channels, colours in BGR order.

    Raises:
        UserError: the data cannot be read as an image, or claims more than `MAX_PIXELS` pixels.
    """
    require_downloaded(label, data)
    unreadable = f"{label} cannot be read as an image; replace or remove it"
    if _size(BytesIO(data), label) is None:  # the decoder supports more formats, but their claimed size is not checked
        raise UserError(unreadable)
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags) if _chunks_fit(data) else None
    except (cv2.error, MemoryError):
        image = None
    if image is None:
        raise UserError(unreadable)
    return image


def _sizes_differ(label: str, size: tuple[int, ...], first_label: str, first: tuple[int, ...]) -> UserError:
    return UserError(
        f"{label} is {size[1]}x{size[0]} pixels but {first_label} {first[1]}x{first[0]}; "
        "all images must have the same size, so resize or remove it"
    )


def encode_jpeg(rgb: np.ndarray, quality: int = 95) -> bytes:
    """Encode an RGB image [height, width, 3] uint8 as JPEG."""
    done, data = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    assert done
    return data.tobytes()


def focal_from_35mm(focal_35mm: float, height: int, width: int) -> float | None:
    """Focal length in pixels from the 35 mm equivalent (long image side = 36 mm); `None` if implausible."""
    focal_px = focal_35mm / _FILM_LONG_SIDE_MM * max(height, width)
    return focal_px if 0.1 < focal_px / max(height, width) < 50 else None


def is_animated(path: Path) -> bool:
    """Whether an image file has several frames or pages."""
    if len(_tiff_pages(path)) > 1:
        return True
    with path.open("rb") as file:
        image = _opened(file)
        return image is not None and image.format in ("WEBP", "PNG", "AVIF") and getattr(image, "n_frames", 1) > 1


def open_animation(path: Path, source: str, rate: float) -> Video:
    """Open an animation; all frames are decoded into memory (no key frames), TIFF pages on demand.

    Args:
        rate: frames per second of TIFF files, which have no timestamps.

    Raises:
        UserError: the file is damaged or too large.
    """
    path = path.resolve()  # the working directory may change before a frame is read
    if pages := _tiff_pages(path):
        labels = [f"page {page} of {source}" for page in range(len(pages))]
        return open_encoded_images(lambda page: _tiff_from_page(path.read_bytes(), pages[page]), labels, path.stem, source, rate)
    frames, durations_s = [], []
    try:
        with Image.open(path, formats=_FORMATS) as image:
            height, width = image.height, image.width
            if height * width * getattr(image, "n_frames", 1) > _MAX_PIXELS_HELD:
                raise UserError(f"{source} has too many pixels in all frames to be decoded into memory; convert it to mp4")
            for frame in ImageSequence.Iterator(image):
                rgba = np.asarray(frame.convert("RGBA"))
                frames.append(over_grey(rgba[..., :3], rgba[..., 3] / np.float32(255)))
                durations_s.append(frame.info.get("duration", 0) / 1000)
    except UserError:
        raise
    except Exception as error:  # the decoder libraries document no exception types
        raise UserError(f"{source} is a damaged animation; fetch it again, or convert it to mp4") from error
    durations_s = np.where(np.array(durations_s) < _SHORTEST_S, _UNTIMED_S, durations_s)
    time_s = np.concatenate([[0.0], np.cumsum(durations_s)[:-1]])
    return whole_video(path.stem, source, height, width, time_s, lambda indices: (frames[i] for i in indices))


def _opened(file: IO[bytes]) -> Image.Image | None:
    """An image whose header is read; `None` for unsupported formats or damaged headers."""
    try:
        return Image.open(file, formats=_FORMATS + ["HEIF"] * ("HEIF" in Image.OPEN))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise
    except Exception:  # a damaged header can fail with any kind of error
        return None


def _size(file: IO[bytes], label: str) -> tuple[int, int] | None:
    """(height, width) before rotation, from the header; `None` for unsupported formats or damaged headers."""
    try:
        image = _opened(file)
        if image is not None and image.height * image.width > MAX_PIXELS:
            raise Image.DecompressionBombError
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise UserError(f"{label} has more than {MAX_PIXELS} pixels according to its header; replace or remove it") from None
    return None if image is None else (image.height, image.width)


def _exif_tags(data: bytes) -> dict[int, float]:
    """Orientation and the tags of the focal length; others (location, name, date) are not kept."""
    if data.startswith(_PNG) and b"eXIf" not in data:  # Pillow would decode the image to find it behind
        return {}
    try:
        image = _opened(BytesIO(data))
        exif = Image.Exif() if image is None else image.getexif()
        tags = {**exif, **exif.get_ifd(_EXIF_FOLDER)}
        used = (_ORIENTATION, _FOCAL_MM, _FOCAL_35MM, _PLANE_X_RESOLUTION, _PLANE_UNIT, _EXIF_WIDTH)
        return {tag: float(tags[tag]) for tag in used if tag in tags}
    except Exception:  # damaged EXIF data is ignored: the focal length is optional
        return {}


def _exif_focal_px(data: bytes, height: int, width: int) -> float | None:
    """Focal length in pixels, from the sensor resolution or else the 35 mm equivalent; `None` if unknown."""
    tags = _exif_tags(data)
    if all(tags.get(tag, 0.0) > 0 for tag in (_FOCAL_MM, _PLANE_X_RESOLUTION, _EXIF_WIDTH)):
        stored_px = tags[_FOCAL_MM] * tags[_PLANE_X_RESOLUTION] / _UNIT_MM.get(int(tags.get(_PLANE_UNIT, 2)), 25.4)
        long_side = max(height, width)  # the width before rotation is the long side of all but square sensors
        turned = tags.get(_ORIENTATION, 1) >= 5
        focal_px = stored_px / tags[_EXIF_WIDTH] * (long_side if width >= height or turned else width)
        if 0.3 < focal_px / long_side < 20:
            return focal_px
    return focal_from_35mm(tags.get(_FOCAL_35MM, 0.0), height, width)


def _decode_heif(data: bytes, label: str) -> np.ndarray:
    """Decode a HEIC or AVIF image to upright RGB, [height, width, 3] uint8."""
    kind = "AVIF" if data[8:12] in _AVIF else "HEIC"
    if kind == "HEIC":
        try:
            importlib.import_module("pillow_heif").register_heif_opener()
        except ImportError:
            fix = f"install it with: {install_extra('images')}; or convert the image to JPEG or PNG"
            raise UserError(f"{label} is an image in the format HEIC, which needs pillow-heif; {fix}") from None
    unreadable = f"{label} ({kind}) cannot be read as an image; replace it, remove it or convert it to JPEG"
    if _size(BytesIO(data), label) is None:
        raise UserError(unreadable)
    try:
        with Image.open(BytesIO(data)) as image:
            return np.ascontiguousarray(ImageOps.exif_transpose(image.convert("RGB")))
    except Exception as error:  # the decoder libraries document no exception types
        raise UserError(unreadable) from error


def _chunks_fit(data: bytes) -> bool:
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


def _tiff_pages(path: Path) -> list[int]:
    """Directory offsets of the pages of a TIFF file, without thumbnails and masks; empty if damaged or no TIFF."""
    pages = []
    try:
        with path.open("rb") as file:
            if file.read(4) in _TIFF:
                file.seek(0)
                page: Any
                for page in ImageSequence.Iterator(Image.open(file, formats=["TIFF"])):
                    if not page.tag_v2.get(_SUBFILE, 0) & _NO_PAGE:
                        pages.append(page.tag_v2._offset)
    except Exception:  # a damaged file can fail with any kind of error
        return []
    return pages


def _tiff_from_page(data: bytes, directory: int) -> bytes:
    """The TIFF file with the page at offset `directory` as its first page (OpenCV decodes the first)."""
    return b"".join((data[:4], struct.pack("<I" if data[:1] == b"I" else ">I", directory), memoryview(data)[8:]))
