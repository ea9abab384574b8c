"""Videos: valid ones in odd forms, and damaged or hostile ones."""

import os
from collections.abc import Callable, Iterable
from fractions import Fraction
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import av
import numpy as np

from st4rtrack.io.video import open_video
from st4rtrack.io.video_writer import write_gif
from tests.reliability.case import Case, End, Make
from tests.reliability.damage import DAMAGES

FRAMES, HEIGHT, WIDTH = 12, 48, 64


def read_video(path: Path) -> None:
    """Decodes all frames, as `run` does, and looks at their form."""
    video = open_video(str(path))
    count = 0
    for frame in video.frames():
        assert frame.shape == (video.height, video.width, 3) and frame.dtype == np.uint8
        count += 1
    assert count == len(video) > 0
    assert np.isfinite(video.time_s).all() and (np.diff(video.time_s) > 0).all()


def pictures(count: int = FRAMES, height: int = HEIGHT, width: int = WIDTH, channels: int = 3) -> list[np.ndarray]:
    """A bright square that wanders over stripes."""
    stripes = np.broadcast_to(np.arange(width)[None, :, None] * 2 % 200, (height, width, channels)).astype(np.uint8)
    images = []
    for i in range(count):
        image = stripes.copy()
        image[height // 4 : height // 2, (3 * i) % width : (3 * i) % width + max(1, width // 5)] = 250
        images.append(image)
    return images


def encode(
    path: Path,
    images: Iterable[np.ndarray],
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    given: str = "rgb24",
    pts: list[int] | None = None,
    container_format: str | None = None,
    change: Callable[[Any], None] = lambda stream: None,
    **options: str,
) -> Path:
    """Writes a video by PyAV; `change` sets up the stream, `pts` are milliseconds."""
    with av.open(str(path), "w", format=container_format) as container:
        stream: Any = container.add_stream(codec, rate=10, options=options)
        stream.pix_fmt, stream.codec_context.time_base = pix_fmt, Fraction(1, 1000 if pts else 10)
        for i, image in enumerate(images):
            if i == 0:
                stream.height, stream.width = image.shape[:2]
                change(stream)
            frame = av.VideoFrame.from_ndarray(image, format=given)
            frame.pts, frame.time_base = (pts[i], Fraction(1, 1000)) if pts else (i, Fraction(1, 10))
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


BASES: dict[str, dict[str, Any]] = {
    "clip.mp4": {"g": "4"},
    "clip.mkv": {"g": "4"},
    "clip.avi": {"codec": "mjpeg", "pix_fmt": "yuvj420p"},
    "clip.webm": {"codec": "libvpx"},
    "clip.ts": {"g": "4"},
    "clip.mov": {"codec": "mpeg4"},
}


@cache
def valid(name: str) -> bytes:
    """Bytes of a valid file."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        if path.suffix == ".gif":
            write_gif(path, pictures(), fps=10)
        else:
            encode(path, pictures(), **BASES[name])
        return path.read_bytes()


def damaged(name: str, damage: str) -> Make:
    def make(folder: Path, rng: np.random.Generator) -> Path:
        return written(folder / name, DAMAGES[damage](valid(name), rng))

    return make


def written(path: Path, content: bytes | str) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def encoded(name: str, images: Callable[[], list[np.ndarray]] = pictures, **how: Any) -> Make:
    return lambda folder, rng: encode(folder / name, images(), **how)


def bytes_of(name: str, content: Callable[[], bytes | str]) -> Make:
    return lambda folder, rng: written(folder / name, content())


def rotated(folder: Path, rng: np.random.Generator) -> Path:
    """A display matrix of a quarter turn, as phones write it."""
    data = bytearray(valid("clip.mp4"))
    at = data.index(b"tkhd") + 44
    matrix = (0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30)
    data[at : at + 36] = b"".join(v.to_bytes(4, "big", signed=True) for v in matrix)
    return written(folder / "turned.mp4", bytes(data))


def nonsense_rotation(folder: Path, rng: np.random.Generator) -> Path:
    data = bytearray(valid("clip.mp4"))
    at = data.index(b"tkhd") + 44
    data[at : at + 36] = bytes(36)
    return written(folder / "unturned.mp4", bytes(data))


def changing_size(folder: Path, rng: np.random.Generator) -> Path:
    large = encode(folder / "large.ts", pictures(height=96, width=128)).read_bytes()
    return written(folder / "growing.ts", valid("clip.ts") + large)


def tagged_pq(stream: Any) -> None:
    """BT.2020 primaries with the PQ curve."""
    stream.codec_context.color_primaries, stream.codec_context.color_trc, stream.codec_context.colorspace = 9, 16, 9


def interlaced(stream: Any) -> None:
    stream.codec_context.flags |= 1 << 18 | 1 << 29


def only_sound(folder: Path, rng: np.random.Generator) -> Path:
    path = folder / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def no_frames(folder: Path, rng: np.random.Generator) -> Path:
    """A Matroska file that ends before its first cluster of frames."""
    data = valid("clip.mkv")
    return written(folder / "nothing.mkv", data[: data.index(b"\x1f\x43\xb6\x75")])


def pipe(folder: Path, rng: np.random.Generator) -> Path:
    os.mkfifo(folder / "pipe.mp4")
    return folder / "pipe.mp4"


def dangling(folder: Path, rng: np.random.Generator) -> Path:
    (folder / "link.mp4").symlink_to(folder / "gone.mp4")
    return folder / "link.mp4"


def loop(folder: Path, rng: np.random.Generator) -> Path:
    (folder / "loop.mp4").symlink_to(folder / "loop.mp4")
    return folder / "loop.mp4"


def grey() -> list[np.ndarray]:
    return [image[..., 0].copy() for image in pictures()]


NAMES = [
    "with spaces.mp4",
    "żółw 🐢.mp4",
    "--help.mp4",
    "-o.mp4",
    "100%d.mp4",
    "frame%03d.mp4",
    "[1].mp4",
    "a*b?.mp4",
    "quote'\".mp4",
    "new\nline.mp4",
    "concat:a|b.mp4",
    "http:x.mp4",
    "$(touch executed).mp4",
    "x" * 240 + ".mp4",
    "no-ending",
    "UPPER.MP4",
]

ODD: list[tuple[str, Make, End, bool]] = [
    ("one-frame", encoded("one.mp4", lambda: pictures(1)), "result", False),
    ("3x3", encoded("dot.mkv", lambda: pictures(4, 3, 3), codec="ffv1", pix_fmt="yuv444p"), "result", False),
    ("1x1", encoded("point.mkv", lambda: pictures(4, 1, 1), codec="ffv1", pix_fmt="yuv444p"), "result", False),
    ("8k", encoded("large.mkv", lambda: pictures(1, 4320, 7680), codec="mjpeg", pix_fmt="yuvj420p"), "result", False),
    ("very-wide", encoded("wide.mkv", lambda: pictures(3, 2, 4000), codec="mjpeg", pix_fmt="yuvj420p"), "result", False),
    ("portrait", encoded("tall.mp4", lambda: pictures(3, 128, 48)), "result", False),
    ("odd-sides", encoded("odd.mkv", lambda: pictures(3, 47, 63), codec="ffv1", pix_fmt="yuv444p"), "result", False),
    ("10-bit", encoded("deep.mkv", codec="ffv1", pix_fmt="yuv420p10le"), "result", False),
    ("16-bit", encoded("deeper.mkv", codec="ffv1", pix_fmt="gray16le"), "result", False),
    ("hdr-pq", encoded("pq.mkv", codec="ffv1", pix_fmt="yuv420p10le", change=tagged_pq), "result", True),
    ("grey", encoded("grey.mkv", grey, given="gray", codec="ffv1", pix_fmt="gray"), "result", False),
    (
        "alpha",
        encoded("alpha.mkv", lambda: pictures(channels=4), given="rgba", codec="ffv1", pix_fmt="yuva420p"),
        "result",
        False,
    ),
    ("alpha-png", encoded("alpha.mov", lambda: pictures(channels=4), given="rgba", codec="png", pix_fmt="rgba"), "result", False),
    ("interlaced", encoded("fields.mp4", change=interlaced, x264opts="tff=1"), "result", False),
    ("full-range", encoded("full.mp4", pix_fmt="yuvj420p"), "result", False),
    ("4:4:4", encoded("444.mp4", pix_fmt="yuv444p"), "result", False),
    ("b-frames", encoded("b.mp4", bf="3", g="12"), "result", False),
    ("open-gop", encoded("gop.ts", bf="3", g="6", x264opts="open-gop=1"), "result", False),
    ("variable-rate", encoded("vfr.mkv", pts=[0, 10, 500, 501, 900, 2000, 2001, 2002, 2003, 4000, 4100, 9000]), "result", False),
    ("a-year-long", encoded("year.mkv", pts=[*range(11), 31_536_000_000]), "result", False),
    ("no-times-h264", encoded("raw.h264", container_format="h264"), "result", False),
    ("no-times-mjpeg", encoded("raw.mjpeg", codec="mjpeg", pix_fmt="yuvj420p", container_format="mjpeg"), "result", False),
    ("rotated", rotated, "result", False),
    ("rotation-of-zeros", nonsense_rotation, "result", False),
    ("changing-size", changing_size, "sentence", False),
    ("gif", bytes_of("clip.gif", lambda: valid("clip.gif")), "result", False),
    ("sound-only", only_sound, "sentence", False),
    ("no-frames", no_frames, "sentence", False),
    ("empty", bytes_of("empty.mp4", lambda: b""), "sentence", False),
    ("one-byte", bytes_of("byte.mp4", lambda: b"\0"), "sentence", False),
    ("text", bytes_of("text.mp4", lambda: "this is no video\n" * 99), "sentence", False),
    ("page", bytes_of("page.mp4", lambda: "<!DOCTYPE html><html><body>404 not found</body></html>"), "sentence", False),
    ("noise", lambda folder, rng: written(folder / "noise.mp4", rng.bytes(9999)), "sentence", False),
    ("zeros", bytes_of("zeros.mp4", lambda: bytes(9999)), "sentence", False),
    ("zip", bytes_of("archive.mp4", lambda: b"PK\x03\x04" + bytes(99)), "sentence", False),
    ("other-ending", bytes_of("clip.txt", lambda: valid("clip.mp4")), "result", False),
    ("wrong-ending", bytes_of("clip.mp4", lambda: valid("clip.mkv")), "result", False),
    ("video-named-png", bytes_of("clip.png", lambda: valid("clip.mp4")), "sentence", False),
    ("video-named-npz", bytes_of("clip.npz", lambda: valid("clip.mp4")), "sentence", False),
    (
        "playlist-of-the-net",
        bytes_of("list.mp4", lambda: "#EXTM3U\n#EXTINF:1,\nhttp://example.invalid/a.ts\n"),
        "sentence",
        False,
    ),
    ("playlist-of-files", bytes_of("list.m3u8", lambda: "#EXTM3U\n#EXTINF:1,\n/etc/passwd\n#EXT-X-ENDLIST\n"), "sentence", False),
    ("playlist-of-itself", bytes_of("self.ffconcat", lambda: "ffconcat version 1.0\nfile 'self.ffconcat'\n"), "sentence", False),
    ("subtitles", bytes_of("talk.srt", lambda: "1\n00:00:00,000 --> 00:00:01,000\nhello\n"), "sentence", False),
    ("pipe", pipe, "sentence", False),
    ("dangling-link", dangling, "sentence", False),
    ("looping-link", loop, "sentence", False),
    ("missing", lambda folder, rng: folder / "missing.mp4", "sentence", False),
    ("name-too-long", lambda folder, rng: folder / ("y" * 300 + ".mp4"), "sentence", False),
    ("name-with-zero", lambda folder, rng: folder / "a\0b.mp4", "sentence", False),
]


def video_cases() -> list[Case]:
    """All of them."""
    cases = [Case("video", name, make, read_video, end, warns, heavy=name == "8k") for name, make, end, warns in ODD]
    cases += [
        Case("video", f"named-{i}", bytes_of(name, lambda: valid("clip.mp4")), read_video, "result")
        for i, name in enumerate(NAMES)
    ]
    for name in (*BASES, "clip.gif"):
        for damage in DAMAGES:
            tries = 2 if damage in ("bits", "cut") else 1
            cases += [Case("video", f"{name}-{damage}-{i}", damaged(name, damage), read_video) for i in range(tries)]
    return cases
