"""Animated WebP, PNG and AVIF images and multi-page TIFF files as video."""

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from st4rtrack.io.frames import whole_video
from st4rtrack.io.image_size import tiff_pages
from st4rtrack.io.images import open_encoded_images, over_grey
from st4rtrack.io.memory import MAX_PIXELS
from st4rtrack.types import UserError, Video

_MAX_PIXELS_HELD = 16 * MAX_PIXELS  # all frames are decoded at once, four bytes per pixel
_HEAD = 1 << 16
_SHORTEST_S = 0.01  # browsers show frames with a shorter or no duration for 0.1 s (_UNTIMED_S)
_UNTIMED_S = 0.1


def is_animated(path: Path) -> bool:
    """Whether an image file has several frames according to its header."""
    with path.open("rb") as file:
        if len(tiff_pages(file)) > 1:
            return True
        file.seek(0)
        head = file.read(_HEAD)
    if head[:4] == b"RIFF" and head[8:16] == b"WEBPVP8X":
        return bool(head[20] & 2)
    if head.startswith(b"\x89PNG"):
        return b"acTL" in head[: head.find(b"IDAT")]
    return head[4:12] == b"ftypavis"


def open_animation(path: Path, source: str, rate: float) -> Video:
    """Open an animation; all frames are decoded into memory (no key frames), TIFF pages on demand.

    Args:
        rate: frames per second of TIFF files, which have no timestamps.

    Raises:
        UserError: OpenCV is too old, or the file is damaged or too large.
    """
    path = path.resolve()  # the working directory may change before a frame is read
    with path.open("rb") as file:
        pages = tiff_pages(file)
    if pages:
        labels = [f"page {page} of {source}" for page in range(len(pages))]
        return open_encoded_images(lambda page: _tiff_from_page(path.read_bytes(), pages[page]), labels, path.stem, source, rate)
    if not hasattr(cv2, "imdecodeanimation"):
        fix = "install opencv-python-headless 4.12 or newer, or convert it to mp4"
        raise UserError(f"{source} is an animated image, which this OpenCV ({cv2.__version__}) cannot read; {fix}")
    data = path.read_bytes()
    if _pixels_announced(data) > _MAX_PIXELS_HELD:
        raise UserError(f"{source} has too many pixels in all frames to be decoded into memory; convert it to mp4")
    try:
        ok, animation = cv2.imdecodeanimation(np.frombuffer(data, np.uint8))
    except (cv2.error, MemoryError):
        ok, animation = False, None
    if not ok or animation is None or not animation.frames:
        raise UserError(f"{source} is a damaged animation; fetch it again, or convert it to mp4")
    frames = animation.frames
    durations_s = np.array(animation.durations, np.float64) / 1000
    durations_s = np.where(durations_s < _SHORTEST_S, _UNTIMED_S, durations_s)
    time_s = np.concatenate([[0.0], np.cumsum(durations_s)[: len(frames) - 1]])

    def frames_at(indices: Sequence[int]) -> Iterator[np.ndarray]:
        for i in indices:
            rgb = cv2.cvtColor(frames[i], cv2.COLOR_BGRA2RGB if frames[i].shape[2] == 4 else cv2.COLOR_BGR2RGB)
            yield over_grey(rgb, frames[i][..., 3] / np.float32(255)) if frames[i].shape[2] == 4 else rgb

    height, width = frames[0].shape[:2]
    return whole_video(path.stem, source, height, width, time_s, frames_at)


def _tiff_from_page(data: bytes, directory: int) -> bytes:
    """The TIFF file with the page at offset `directory` as its first page (OpenCV decodes the first)."""
    return b"".join((data[:4], struct.pack("<I" if data[:1] == b"I" else ">I", directory), memoryview(data)[8:]))


def _pixels_announced(data: bytes) -> int:
    """Total number of pixels of all frames according to the WebP or PNG header; 0 for other formats."""
    if data[:4] == b"RIFF":
        width, height = (int.from_bytes(data[at : at + 3], "little") + 1 for at in (24, 27))
        return width * height * data.count(b"ANMF")
    if data.startswith(b"\x89PNG") and (at := data.find(b"acTL")) >= 0:
        width, height = struct.unpack_from(">II", data, 16)
        return width * height * int.from_bytes(data[at + 4 : at + 8], "big")
    return 0
