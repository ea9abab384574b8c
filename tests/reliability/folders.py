"""Folders and globs of images."""

import struct
import zlib
from collections.abc import Callable
from functools import partial
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from tests.reliability.case import Case, End, Make
from tests.reliability.damage import DAMAGES
from tests.reliability.videos import pictures, read_video, valid, written

SUFFIXES = ("jpg", "png", "bmp", "tif", "webp", "jp2", "ppm")


def encoded(suffix: str, image: np.ndarray | None = None) -> bytes:
    """An image file."""
    return cv2.imencode(f".{suffix}", pictures(1)[0] if image is None else image)[1].tobytes()


def fill(folder: Path, suffix: str = "png", count: int = 3) -> Path:
    for i in range(count):
        written(folder / f"image_{i}.{suffix}", encoded(suffix))
    return folder


def beside(name: str, content: Callable[[], bytes]) -> Make:
    """A folder of three good images, and another file."""

    def make(folder: Path, rng: np.random.Generator) -> Path:
        written(fill(folder) / name, content())
        return folder

    return make


def alone(name: str, content: Callable[[], bytes]) -> Make:
    """A folder with one image."""

    def make(folder: Path, rng: np.random.Generator) -> Path:
        written(folder / name, content())
        return folder

    return make


def one_damaged(suffix: str, damage: str) -> Make:
    def make(folder: Path, rng: np.random.Generator) -> Path:
        fill(folder, suffix)
        path = folder / f"image_1.{suffix}"
        path.write_bytes(DAMAGES[damage](path.read_bytes(), rng))
        return folder

    return make


def named(folder_name: str, names: list[str]) -> Make:
    def make(folder: Path, rng: np.random.Generator) -> Path:
        (folder / folder_name).mkdir()
        for name in names:
            written(folder / folder_name / name, encoded("png"))
        return folder / folder_name

    return make


def glob_of(pattern: str) -> Make:
    return lambda folder, rng: fill(folder) / pattern


def png_that_claims(width: int, height: int) -> bytes:
    """A header of a huge image, and next to nothing after it."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(9999))) + chunk(b"IEND", b"")


def png_part_that_claims(length: int) -> bytes:
    """A PNG whose picture says how long it is, and is not."""
    data = encoded("png")
    at = data.index(b"IDAT")
    return data[: at - 4] + struct.pack(">I", length) + data[at:]


def jpeg_that_claims_late(width: int, height: int) -> bytes:
    """Bytes of no meaning between its segments, which decoders skip, and a size after them."""
    data = with_size("jpg", width, height)
    at = data.index(b"\xff\xc0")
    return data[:at] + b"skipped" + data[at:]


def radiance() -> bytes:
    """A kind of image that decoders know, and nobody gives by its suffix."""
    return cv2.imencode(".hdr", np.ones((48, 64, 3), np.float32))[1].tobytes()


def with_size(suffix: str, width: int, height: int) -> bytes:
    """An image file whose header has another size written into it."""
    data = bytearray(encoded(suffix))
    if suffix == "jpg":
        at = data.index(b"\xff\xc0") + 5
        data[at : at + 4] = struct.pack(">HH", min(height, 65535), min(width, 65535))
    elif suffix == "bmp":
        data[18:26] = struct.pack("<ii", width, height)
    elif suffix == "ppm":
        data[:] = f"P6\n{width} {height}\n255\n".encode() + bytes(99)
    elif suffix == "jp2":
        at = data.index(b"ihdr") + 4
        data[at : at + 8] = struct.pack(">II", height, width)
        at = data.index(b"\xff\x51") + 6
        data[at : at + 8] = struct.pack(">II", width, height)
    elif suffix == "tif":  # OpenCV writes the directory at the end: tags 256 and 257, little-endian
        for tag, value in ((256, width), (257, height)):
            at = data.rindex(struct.pack("<H", tag), 0, len(data))
            data[at + 2 : at + 12] = struct.pack("<HII", 4, 1, value)
    return bytes(data)


def exif_turned() -> bytes:
    """A JPEG whose EXIF says that it lies on its side."""
    tag = struct.pack("<HHII", 0x0112, 3, 1, 6)
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0" + tag + bytes(4)
    return b"\xff\xd8\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + encoded("jpg")[2:]


def cmyk() -> bytes:
    """A JPEG of four channels as print shops make it: the Adobe marker, four components."""
    file = BytesIO()
    Image.fromarray(pictures(1)[0]).convert("CMYK").save(file, "JPEG")
    return file.getvalue()


def palette() -> bytes:
    file = BytesIO()
    Image.fromarray(pictures(1)[0]).convert("P").save(file, "PNG", transparency=0)
    return file.getvalue()


def unreadable_link(folder: Path, rng: np.random.Generator) -> Path:
    (fill(folder) / "image_9.png").symlink_to(folder / "gone.png")
    return folder


def single(suffix: str) -> Make:
    return lambda folder, rng: written(folder / f"still.{suffix}", encoded(suffix))


def grown(value: float, dtype: type = np.uint16) -> Callable[[], bytes]:
    return lambda: encoded("png" if dtype is np.uint16 else "tif", (pictures(1)[0].astype(np.float64) * value).astype(dtype))


LEFT: list[tuple[str, Make, End]] = [
    ("empty", lambda folder, rng: folder, "sentence"),
    ("only-text", alone("notes.txt", lambda: b"hello"), "sentence"),
    ("with-text", beside("notes.txt", lambda: b"hello"), "result"),
    ("with-hidden", beside("._image_0.png", lambda: b"\0\5\x16\7"), "result"),
    ("one-empty", beside("image_9.png", lambda: b""), "sentence"),
    ("one-of-text", beside("image_9.png", lambda: b"hello"), "sentence"),
    ("one-larger", beside("image_9.png", lambda: encoded("png", pictures(1, 50, 64)[0])), "sentence"),
    ("one-turned", beside("image_9.png", lambda: encoded("png", pictures(1, 64, 48)[0])), "sentence"),
    ("one-video", beside("image_9.png", lambda: valid("clip.mp4")), "sentence"),
    ("two-kinds", beside("image_9.jpg", lambda: encoded("jpg")), "result"),
    ("a-dangling-link", unreadable_link, "result"),
    ("16-bit", alone("a.png", grown(257)), "result"),
    ("float", alone("a.tif", grown(1 / 255, np.float32)), "either"),
    ("grey", alone("a.png", lambda: encoded("png", pictures(1)[0][..., 0])), "result"),
    ("alpha", alone("a.png", lambda: encoded("png", pictures(1, channels=4)[0])), "result"),
    ("palette", alone("a.png", palette), "result"),
    ("cmyk", alone("a.jpg", cmyk), "result"),
    ("exif-turned", alone("a.jpg", exif_turned), "result"),
    ("1x1", alone("a.png", lambda: encoded("png", pictures(1, 1, 1)[0])), "result"),
    ("3x3", alone("a.png", lambda: encoded("png", pictures(1, 3, 3)[0])), "result"),
    ("8k", alone("a.jpg", lambda: encoded("jpg", pictures(1, 4320, 7680)[0])), "result"),
    ("jpg-named-png", alone("a.png", lambda: encoded("jpg")), "result"),
    ("names-with-spaces", named("my images", ["a b 1.png", "a b 2.png"]), "result"),
    ("names-of-unicode", named("zdjęcia 🐢", ["²1.png", "٣.png", "żółw.png"]), "result"),
    ("names-with-dashes", named("-o", ["--help.png", "-1.png"]), "result"),
    ("names-with-brackets", named("[a-z]*", ["[1].png", "{2}.png", "%d.png"]), "result"),
    ("names-of-digits", named("n", ["9" * 200 + ".png", "1.png"]), "result"),
    ("folder-named-mp4", named("clip.mp4", ["1.png"]), "result"),
    ("folder-named-png", named("a.png", ["1.png"]), "result"),
    ("folder-named-zarr", named("a.zarr", ["1.png"]), "sentence"),
    ("glob", glob_of("*.png"), "result"),
    ("glob-of-nothing", glob_of("*.tiff"), "sentence"),
    ("glob-deep", glob_of("**/*.png"), "result"),
    ("glob-odd-stars", glob_of("a**b/*.png"), "sentence"),
    ("glob-open-bracket", glob_of("[*.png"), "sentence"),
    ("glob-back-range", glob_of("[z-a]*.png"), "sentence"),
    ("claims-2-billion", alone("a.png", lambda: png_that_claims(2**31 - 1, 2**31 - 1)), "sentence"),
    ("claims-60000", alone("a.png", lambda: png_that_claims(60000, 60000)), "sentence"),
    ("claims-20000", alone("a.png", lambda: png_that_claims(20000, 20000)), "sentence"),
    ("part-claims-4-gb", alone("a.png", lambda: png_part_that_claims(2**32 - 6)), "sentence"),
    ("jpeg-claims-late", alone("a.jpg", lambda: jpeg_that_claims_late(60000, 60000)), "sentence"),
    ("jpeg-with-gap", alone("a.jpg", lambda: jpeg_that_claims_late(64, 48)), "result"),
    ("another-kind", alone("a.png", radiance), "sentence"),
    ("claims-nothing", alone("a.png", lambda: png_that_claims(0, 0)), "sentence"),
]


def folder_cases() -> list[Case]:
    """All of them."""
    cases = [Case("images", name, make, read_video, end, heavy=name == "8k") for name, make, end in LEFT]
    cases += [Case("images", f"still-{suffix}", single(suffix), read_video, "result") for suffix in SUFFIXES]
    for suffix in ("jpg", "bmp", "ppm", "jp2", "tif"):
        claim = partial(with_size, suffix, 30000, 30000)
        cases.append(Case("images", f"claims-{suffix}", alone(f"a.{suffix}", claim), read_video, "sentence"))
    for suffix in SUFFIXES:
        for damage in ("bit", "many-bits", "cut", "start", "huge"):
            cases.append(Case("images", f"{suffix}-{damage}", one_damaged(suffix, damage), read_video))
    return cases
