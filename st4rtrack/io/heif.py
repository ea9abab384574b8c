"""Reader of HEIC (Pillow with pillow-heif) and AVIF images (OpenCV if built with it, else Pillow)."""

import importlib
import re
import struct
from io import BytesIO

import cv2
import numpy as np

from st4rtrack.io.installation import install_extra
from st4rtrack.io.memory import MAX_PIXELS
from st4rtrack.types import UserError

_AVIF = (b"avif", b"avis")
_HEIC = (b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"mif1", b"msf1")


def is_heif(data: bytes) -> bool:
    """Whether the first bytes are those of a HEIC or AVIF image."""
    return data[4:8] == b"ftyp" and data[8:12] in _AVIF + _HEIC


def heif_size(head: bytes) -> tuple[int, int] | None:
    """(height, width) before rotation of the largest image in a header (others are tiles and previews)."""
    sizes = [
        struct.unpack_from(">II", head, found.end() + 4) for found in re.finditer(b"ispe", head) if found.end() + 12 <= len(head)
    ]
    return max(((height, width) for width, height in sizes), key=lambda size: size[0] * size[1], default=None)


def decode_heif(data: bytes, label: str) -> np.ndarray:
    """Decode a HEIC or AVIF image to upright RGB, [height, width, 3] uint8.

    Raises:
        UserError: the image is damaged or too large, or the package that reads it is missing.
    """
    kind = "AVIF" if data[8:12] in _AVIF else "HEIC"
    size = heif_size(data[: 1 << 18])
    if size is not None and size[0] * size[1] > MAX_PIXELS:
        raise UserError(
            f"{label} has {size[1]}x{size[0]} pixels according to its header, more than {MAX_PIXELS} in all; replace or remove it"
        )
    if (
        size is not None
        and kind == "AVIF"
        and (image := cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)) is not None
    ):
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    try:
        pillow = importlib.import_module("PIL.Image")
        turned = importlib.import_module("PIL.ImageOps").exif_transpose
        if kind == "HEIC":
            importlib.import_module("pillow_heif").register_heif_opener()
    except ImportError:
        fix = f"install it with: {install_extra('images')}; or convert the image to JPEG or PNG"
        raise UserError(f"{label} is an image in the format {kind}, which needs pillow-heif; {fix}") from None
    try:
        with pillow.open(BytesIO(data)) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError("too large")
            return np.ascontiguousarray(turned(image.convert("RGB")))
    except Exception as error:  # the decoder libraries document no exception types
        raise UserError(f"{label} ({kind}) cannot be read as an image; replace it, remove it or convert it to JPEG") from error
