"""Files that people report: each function writes one into a folder and gives its path; `read` says what the reader made of it."""

import json
from collections.abc import Callable
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from PIL import Image

from st4rtrack.io.known.calibration import undistorted
from st4rtrack.io.known.known import known_of_video
from st4rtrack.io.queries import read_queries
from st4rtrack.io.video import open_video
from st4rtrack.options import KnownGeometry
from st4rtrack.types import PixelMap, UserError
from tests.cases.clips import Look, moving
from tests.cases.logged import logged_messages
from tests.cases.measure import Row
from tests.cases.table import Case, Expected
from tests.cases.world import Clip
from tests.reliability.videos import encode

LOOK = Look(seed=9, width=96, height=72, frames=12)
FOCAL = LOOK.focal_px


@cache
def clip() -> Clip:
    return moving(LOOK)


def read(path: Path) -> Row:
    """Reads every frame: count, size, time step, mean, the messages; or the sentence of the error."""
    with logged_messages() as messages:
        try:
            video = open_video(str(path))
            frames = np.stack(list(video.frames()))
        except UserError as error:
            return {"exit_code": 2, "messages": [*messages, str(error)]}
    step = float(np.median(np.diff(video.time_s))) if len(video) > 1 else 0.0
    height, width = frames.shape[1:3]
    expected = cv2.resize(clip().rgb[0], (width, height)).astype(float)
    return {
        "exit_code": 0,
        "frames": len(frames),
        "size": [width, height],
        "step_s": round(step, 3),
        "colour_error": float(np.abs(frames[0].astype(float) - expected).mean()),
        "right_colours": bool(np.abs(frames[0].astype(float) - expected).mean() < 12),
        "combed": _combing(frames) > 1.3 * _combing(np.stack([cv2.resize(image, (width, height)) for image in clip().rgb])),
        "messages": messages,
    }


def _combing(frames: np.ndarray) -> float:
    """Difference of neighbouring rows over that of the rows of one field."""
    rows = frames.astype(float)
    return float(np.abs(rows[:, 1:] - rows[:, :-1]).mean() / np.abs(rows[:, 2:] - rows[:, :-2]).mean())


def anamorphic(folder: Path, codec: str = "libx264") -> Path:
    """Stored three quarters as wide as it is to be shown."""

    def change(stream: Any) -> None:
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)

    return encode(folder / "anamorphic.mp4", [cv2.resize(image, (72, 72)) for image in clip().rgb], codec, change=change)


def dv(folder: Path) -> Path:
    """PAL DV: 720x576 that is shown at 4:3."""
    with av.open(str(folder / "tape.avi"), "w") as container:
        stream: Any = container.add_stream("dvvideo", rate=25)
        stream.width, stream.height, stream.pix_fmt = 720, 576, "yuv420p"
        for image in clip().rgb[:3]:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(cv2.resize(image, (720, 576)), format="rgb24")))
        container.mux(stream.encode(None))
    return folder / "tape.avi"


def truncated(folder: Path, share: float = 0.66, ending: str = "mkv") -> Path:
    """The file ends early."""
    path = encode(folder / f"cut_off.{ending}", clip().rgb, g="3", crf="10")
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def two_streams(folder: Path) -> Path:
    """A small preview first, the video second."""
    path = folder / "streams.mkv"
    with av.open(str(path), "w") as container:
        streams: list[Any] = [container.add_stream("libx264", rate=10) for _ in range(2)]
        sizes = ((48, 36), (LOOK.width, LOOK.height))
        for stream, (width, height) in zip(streams, sizes, strict=True):
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for image in clip().rgb:
            for stream, size in zip(streams, sizes, strict=True):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(cv2.resize(image, size), format="rgb24")))
        for stream in streams:
            container.mux(stream.encode(None))
    return path


def animated(folder: Path, ending: str = "webp") -> Path:
    pictures = [Image.fromarray(image) for image in clip().rgb]
    path = folder / f"moving.{ending}"
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=80, lossless=True)
    return path


def interlaced(folder: Path) -> Path:
    """Two moments in the rows of each frame."""
    fast = moving(Look(seed=9, width=96, height=72, frames=12, speed=6.0)).rgb
    fields = fast[::2].copy()
    fields[:, 1::2] = fast[1::2, 1::2]

    def change(stream: Any) -> None:
        stream.codec_context.flags |= 1 << 18 | 1 << 29

    return encode(folder / "camcorder.mts", fields, change=change, crf="8", x264opts="tff=1")


def colours(folder: Path, matrix: int = 1, full: bool = False) -> Path:
    """FFV1 4:4:4 with a tagged matrix: 1 is BT.709."""
    path = folder / "colours.mkv"
    kr, kb = {1: (0.2126, 0.0722), 6: (0.299, 0.114)}[matrix]
    scale = (1.0, 0.0, 1.0) if full else (219 / 255, 16.0, 224 / 255)
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("ffv1", rate=10)
        stream.width, stream.height, stream.pix_fmt = LOOK.width, LOOK.height, "yuv444p"
        context = stream.codec_context
        context.colorspace, context.color_trc, context.color_primaries, context.color_range = (
            matrix,
            matrix,
            matrix,
            2 if full else 1,
        )
        for image in clip().rgb:
            red, green, blue = np.moveaxis(image.astype(float), -1, 0)
            luma = kr * red + (1 - kr - kb) * green + kb * blue
            chroma = [(blue - luma) / (2 - 2 * kb), (red - luma) / (2 - 2 * kr)]
            planes = (
                np.stack([luma * scale[0] + scale[1], *[c * scale[2] + 128 for c in chroma]])
                .round()
                .clip(0, 255)
                .astype(np.uint8)
            )
            frame = av.VideoFrame.from_ndarray(planes, format="yuv444p")
            frame.colorspace, frame.color_range = matrix, 2 if full else 1
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def phone(folder: Path) -> Path:
    """Portrait HEVC of 10 bits, tagged as HLG, BT.2020, variable rate."""

    def change(stream: Any) -> None:
        context = stream.codec_context
        context.colorspace, context.color_trc, context.color_primaries = 9, 18, 9

    pictures = [np.ascontiguousarray(np.rot90(image)) for image in clip().rgb]
    pts = np.cumsum([0, *[33, 17, 50, 16] * 3])[:12].tolist()
    return encode(
        folder / "IMG_0001.mov", pictures, "libx265", "yuv420p10le", pts=pts, change=change, **{"x265-params": "log-level=none"}
    )


def images(
    folder: Path, names: Callable[[int], str], change: Callable[[np.ndarray, int], np.ndarray] = lambda image, _: image
) -> Path:
    """A folder of images; `change` gives what is stored, RGB, RGBA or grey."""
    folder = folder / "images"
    folder.mkdir(exist_ok=True)
    for k, image in enumerate(clip().rgb):
        stored = change(image, k)
        if stored.ndim == 3:
            stored = cv2.cvtColor(stored, cv2.COLOR_RGBA2BGRA if stored.shape[2] == 4 else cv2.COLOR_RGB2BGR)
        (folder / names(k)).write_bytes(cv2.imencode(Path(names(k)).suffix, stored)[1].tobytes())
    return folder


def twelve_bit(folder: Path) -> Path:
    """Sixteen-bit images whose values end at 4095."""
    return images(folder, "{:03d}.png".format, lambda image, _: image.astype(np.uint16) << 4)


def alpha(folder: Path) -> Path:
    """Arbitrary colours under alpha 0 on the left third."""

    def change(image: np.ndarray, k: int) -> np.ndarray:
        opacity = np.full(image.shape[:2], 255, np.uint8)
        opacity[:, :32] = 0
        image = image.copy()
        image[:, :32] = np.random.default_rng(k).integers(0, 255, image[:, :32].shape)
        return np.dstack([image, opacity])

    return images(folder, "{:03d}.png".format, change)


def two_series(folder: Path) -> Path:
    return images(folder, lambda k: f"{'left' if k % 2 else 'right'}_{k // 2:03d}.png")


def two_kinds(folder: Path) -> Path:
    """Each frame as PNG and as JPEG."""
    images(folder, "{:03d}.jpg".format)
    return images(folder, "{:03d}.png".format)


def with_masks(folder: Path) -> Path:
    """A mask beside each frame."""
    images(folder, "{:03d}_mask.png".format, lambda _, k: clip().moving[k].astype(np.uint8) * 255)
    return images(folder, "{:03d}.png".format)


def time_names(folder: Path) -> Path:
    """Nanoseconds in the names, 83 ms apart."""
    return images(folder, lambda k: f"{1403636579763555584 + 83_000_000 * k}.png")


def container_only(folder: Path, brand: str = "heic") -> Path:
    """Images of a format whose decoder is not there: the beginning of the file is enough for the sentence."""
    folder = folder / "images"
    folder.mkdir()
    for k in range(4):
        (folder / f"IMG_{k:04d}.{brand.upper()}").write_bytes(b"\0\0\0\x18ftyp" + brand.encode() + bytes(99))
    return folder


def brackets(folder: Path) -> Path:
    """A glob inside a folder whose name is a pattern itself."""
    inner = folder / "shots [v2]"
    inner.mkdir()
    images(inner, "{:03d}.png".format)
    return inner / "images" / "*.png"


def intrinsics_row(folder: Path, form: str) -> Row:
    """The focal length that is read from a transforms.json, at source size."""
    flip = np.diag([1.0, -1.0, -1.0, 1.0])
    frames = [
        {"file_path": f"images/{k:03d}.png", "transform_matrix": (m @ flip).tolist()}
        for k, m in enumerate(clip().world_from_camera)
    ]
    exact = {"fl_x": FOCAL, "fl_y": FOCAL, "cx": 48.0, "cy": 36.0, "w": 96, "h": 72}
    content = {
        "angle": {"camera_angle_x": 2 * np.arctan(48 / FOCAL), "frames": frames},
        "per-frame": {"frames": [{**frame, **exact} for frame in frames]},
        "k1": {**exact, "k1": -0.18, "k2": 0.0, "p1": 0.0, "p2": 0.0, "frames": frames},
        "fisheye": {**exact, "camera_model": "OPENCV_FISHEYE", "k1": -0.18, "frames": frames},
    }[form]
    path = images(folder, "{:03d}.png".format)
    (folder / "transforms.json").write_text(json.dumps(content))
    with logged_messages() as messages:
        try:
            source = open_video(path)
            _, pixel_map, geometry = undistorted(source, KnownGeometry(cameras=folder / "transforms.json"))
            known = known_of_video(geometry, source, pixel_map, (72, 96), 0)
        except UserError as error:
            return {"exit_code": 2, "messages": [*messages, str(error)]}
    focal = None if known.intrinsics is None else pixel_map.source_intrinsics(known.intrinsics)[0, 0, 0]
    right = focal is not None and abs(focal / FOCAL - 1) < 0.01
    return {"exit_code": 0, "messages": messages, "right_focal": right, "undistorted": pixel_map.lens is not None}


def depth_row(folder: Path) -> Row:
    """Depth images with 65535 for unknown."""
    path = images(folder, "{:03d}.png".format)
    (folder / "depth").mkdir()
    for k, depth in enumerate(clip().depth):
        stored = (1000 * depth).astype(np.uint16)
        stored[:, :25] = 65535
        (folder / "depth" / f"{k:03d}.png").write_bytes(cv2.imencode(".png", stored)[1].tobytes())
    with logged_messages() as messages:
        try:
            known = known_of_video(KnownGeometry(depth=folder / "depth"), open_video(path), PixelMap(), (72, 96), 0)
        except UserError as error:
            return {"exit_code": 2, "messages": [*messages, str(error)]}
        assert known.depth is not None
        farthest = float(np.nanmax(known.depth(3)))
    return {"exit_code": 0, "messages": messages, "unknown_is_unknown": farthest < 60}


def queries_row(folder: Path, content: str, encoding: str = "utf-8") -> Row:
    """A CSV of query points as spreadsheets write it."""
    (folder / "queries.csv").write_bytes(content.encode(encoding))
    try:
        return {"exit_code": 0, "messages": [], "points": len(read_queries(folder / "queries.csv"))}
    except UserError as error:
        return {"exit_code": 2, "messages": [str(error)]}


def _read(folder: Path, make: Callable[..., Path], **options: Any) -> Row:
    return read(make(folder, **options))


def _file(name: str, make: Callable[..., Path], *expected: Expected, reported: str = "", **options: Any) -> Case:
    return Case(name, "reading", _read, expected, {"make": make, **options}, reported=reported)


def _refused(pattern: str) -> Expected:
    return Expected(exit_code=2, sentence=pattern)


WHOLE = Expected(frames=12)
SIZE, TURNED = (LOOK.width, LOOK.height), (LOOK.height, LOOK.width)
READING = [
    _file("anamorphic", anamorphic, Expected(frames=12, size=SIZE), reported="AliceVision PR#1448"),
    _file(
        "dv",
        dv,
        Expected(frames=3, size=(768, 576)),
        Expected(frames=3, size=(788, 576)),
        Expected(frames=3, size=(786, 576)),
        reported="AliceVision PR#1448",
    ),
    _file(
        "truncated",
        truncated,
        Expected(sentence="truncat|incomplete|cut off|cut short|ends|damaged|missing"),
        reported="PosePipeline#59",
    ),
    _file(
        "truncated-last-second",
        truncated,
        Expected(sentence="truncat|incomplete|cut off|cut short|ends|damaged|missing"),
        share=0.9,
        reported="PosePipeline#59",
    ),
    _file("two-streams", two_streams, Expected(size=SIZE, sentence="stream")),
    _file("animated-webp", animated, WHOLE, Expected(sentence="animat|webp")),
    _file("animated-png", animated, WHOLE, Expected(sentence="animat|png"), ending="png"),
    _file("interlaced", interlaced, Expected(values=(("combed", False),)), Expected(sentence="interlac")),
    _file("bt709", colours, Expected(frames=12, values=(("right_colours", True),)), reported="PyAV#2230"),
    _file("bt709-full-range", colours, Expected(frames=12, values=(("right_colours", True),)), full=True, reported="PyAV#2230"),
    _file("bt601", colours, Expected(frames=12, values=(("right_colours", True),)), matrix=6),
    _file("phone-hdr", phone, Expected(frames=12, size=TURNED, sentence="HDR|HLG|tone"), Expected(frames=12, size=TURNED)),
    _file(
        "twelve-bit-in-16",
        twelve_bit,
        Expected(frames=12, values=(("right_colours", True),)),
        Expected(frames=12, sentence="12|bit|dark"),
    ),
    _file("alpha", alpha, Expected(frames=12, sentence="alpha|transparent"), reported="AliceVision PR#743, vggt#47"),
    _file("two-series", two_series, Expected(exit_code=2, sentence="left.*right|right.*left"), reported="Meshroom#1386"),
    _file(
        "jpg-and-png",
        two_kinds,
        _refused("jpg.*png|png.*jpg"),
        Expected(frames=12, sentence="jpg|png"),
        reported="instant-ngp#1049",
    ),
    _file("with-masks", with_masks, _refused("mask"), Expected(frames=12, sentence="mask"), reported="instant-ngp#1049"),
    _file("time-names", time_names, Expected(frames=12, values=(("step_s", 0.083),)), reported="evo users"),
    _file("heic", container_only, _refused("HEI[CF]"), reported="dust3r#20, colmap#3356"),
    _file("avif", container_only, _refused("AVIF"), reported="dust3r#20", brand="avif"),
    _file("brackets", brackets, WHOLE, _refused(r"bracket|glob\.escape|\[\[")),
    *[
        Case(f"transforms-{form}", "reading", intrinsics_row, expected, {"form": form}, reported=reported)
        for form, expected, reported in (
            ("angle", (Expected(values=(("right_focal", True),)),), "instant-ngp#61"),
            ("per-frame", (Expected(values=(("right_focal", True),)),), "nerfstudio#3057"),
            ("k1", (Expected(values=(("right_focal", True), ("undistorted", True))),), "nerfstudio PR#1049"),
            ("fisheye", (Expected(values=(("right_focal", True), ("undistorted", True))),), "nerfstudio PR#1049"),
        )
    ],
    Case(
        "depth-65535",
        "reading",
        depth_row,
        (Expected(values=(("unknown_is_unknown", True),)), Expected(sentence="65535")),
        reported="librealsense#3508",
    ),
    Case(
        "queries-excel",
        "reading",
        queries_row,
        (Expected(values=(("points", 2),)), _refused("semicolon|;|comma")),
        {"content": "\ufeffu;v\r\n48,5;36,5\r\n20,5;15,5\r\n"},
    ),
    Case(
        "queries-utf16",
        "reading",
        queries_row,
        (Expected(values=(("points", 2),)), _refused("UTF")),
        {"content": "u,v\r\n48,36\r\n20,15\r\n", "encoding": "utf-16"},
    ),
]
