"""Videos as phones and cameras write them: dynamic range, pixel aspect, fields, streams, damaged ends."""

import logging
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from st4rtrack.io.video import open_video
from st4rtrack.io.video_pixels import tone_mapped, usable_aspect
from st4rtrack.types import UserError

HEIGHT, WIDTH = 64, 96
PATCHES = np.array([(200, 40, 40), (40, 200, 40), (40, 40, 200), (200, 200, 40), (200, 40, 200), (128, 128, 128)], np.uint8)
BT709_TO_2020 = np.linalg.inv(
    [[1.660491, -0.587641, -0.072850], [-0.124550, 1.132900, -0.008349], [-0.018151, -0.100579, 1.118730]]
)


def picture(shift: int = 0) -> np.ndarray:
    """Six patches of colour, moved to the right."""
    rows = PATCHES.reshape(2, 3, 3).repeat(HEIGHT // 2, 0).repeat(WIDTH // 3, 1)
    return np.ascontiguousarray(np.roll(rows, shift, axis=1))


def pq_signal(rgb: np.ndarray) -> np.ndarray:
    """Signal that shows SDR colours with a diffuse white of 203 cd/m2 (BT.2408)."""
    power = ((rgb / 255.0) ** 2.4 * 203 / 10000 @ BT709_TO_2020.T).clip(0) ** 0.1593017578125
    return ((0.8359375 + 18.8515625 * power) / (1 + 18.6875 * power)) ** 78.84375


def hlg_signal(rgb: np.ndarray) -> np.ndarray:
    display = ((rgb / 255.0) ** 2.4 * 203 / 1000 @ BT709_TO_2020.T).clip(1e-9)
    scene = display * (display @ [0.2627, 0.6780, 0.0593])[..., None] ** (1 / 1.2 - 1)
    return np.where(scene <= 1 / 12, np.sqrt(3 * scene), 0.17883277 * np.log((12 * scene - 0.28466892).clip(1e-9)) + 0.55991073)


def ten_bit_frame(signal: np.ndarray) -> av.VideoFrame:
    """yuv420p10 with the BT.2020 matrix, limited range."""
    luma = signal @ [0.2627, 0.6780, 0.0593]
    chroma = [(signal[..., channel] - luma) / span for channel, span in ((2, 1.8814), (0, 1.4746))]
    planes = [luma * 876 + 64, *(cv2.resize(c, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA) * 896 + 512 for c in chroma)]
    frame = av.VideoFrame(signal.shape[1], signal.shape[0], "yuv420p10le")
    for plane, values in zip(frame.planes, planes, strict=True):
        rows = np.zeros((plane.height, plane.line_size // 2), np.uint16)
        rows[:, : plane.width] = values.round()
        plane.update(rows.tobytes())
    frame.colorspace, frame.color_range = 9, 1
    return frame


def encode(
    path: Path,
    images: Sequence[np.ndarray | av.VideoFrame],
    *,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    pts: Sequence[int] | None = None,
    change: Callable[[av.VideoStream], None] = lambda stream: None,
    audio: bool = False,
    container_options: dict[str, str] | None = None,
    **options: str,
) -> Path:
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=30, options=options)
        sound = container.add_stream("aac", rate=48000) if audio else None
        stream.pix_fmt, stream.codec_context.time_base = pix_fmt, Fraction(1, 600)
        for number, image in enumerate(images):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24") if isinstance(image, np.ndarray) else image
            if number == 0:
                stream.width, stream.height = frame.width, frame.height
                change(stream)
            frame.pts, frame.time_base = 20 * number if pts is None else pts[number], Fraction(1, 600)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if sound is not None:
            silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            silence.sample_rate = 48000
            container.mux(sound.encode(silence))
            container.mux(sound.encode(None))
    return path


def turn_clockwise(path: Path) -> None:
    """The display matrix of a phone that is held upright."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44
    matrix = (0, 1 << 16, 0, -1 << 16, 0, 0, 0, 0, 1 << 30)
    data[at : at + 36] = b"".join(value.to_bytes(4, "big", signed=True) for value in matrix)
    path.write_bytes(data)


@pytest.mark.parametrize(("curve", "signal"), [(16, pq_signal), (18, hlg_signal)], ids=["PQ", "HLG"])
def test_open_video_of_a_phone_in_hdr_is_upright_with_right_colours_and_times(
    tmp_path: Path, curve: int, signal: Callable
) -> None:
    def tag(stream: av.VideoStream) -> None:
        context = stream.codec_context
        context.colorspace, context.color_trc, context.color_primaries, context.color_range = 9, curve, 9, 1

    upright = np.ascontiguousarray(np.rot90(picture(), -1))
    pts = [0, 10, 21, 30, 50, 60]
    frames = [ten_bit_frame(signal(picture())) for _ in pts]
    options = {"codec": "libx265", "pix_fmt": "yuv420p10le", "x265-params": "log-level=none", "crf": "8"}
    path = encode(tmp_path / "phone.mov", frames, pts=pts, change=tag, audio=True, **options)
    turn_clockwise(path)
    video = open_video(path)
    assert (video.height, video.width) == (WIDTH, HEIGHT)
    np.testing.assert_allclose(video.time_s, np.array(pts) / 600, atol=1e-3)
    for frame in video.frames():
        inner = np.s_[4:28, 4:28]
        for row in range(3):
            for column in range(2):
                corner = (32 * row, 32 * column)
                patch, truth = (image[corner[0] :, corner[1] :][inner].mean(axis=(0, 1)) for image in (frame, upright))
                np.testing.assert_allclose(patch, truth, atol=9)


def test_tone_mapped_white_and_peak_stay_in_range_and_in_order() -> None:
    white, peak = (tone_mapped(np.full(3, level), 16, 9)[0] for level in (0.5807, 0.7518))  # 203 and 1000 cd/m2
    assert 0.9 < white < 0.97 and peak == pytest.approx(1, abs=0.01)
    assert tone_mapped(np.zeros(3), 18, 9).max() == 0


@pytest.mark.parametrize(("aspect", "width"), [(Fraction(4, 3), 128), (Fraction(8, 9), 85)])
def test_open_video_with_a_pixel_aspect_gives_square_pixels(tmp_path: Path, aspect: Fraction, width: int) -> None:
    def change(stream: av.VideoStream) -> None:
        stream.codec_context.sample_aspect_ratio = aspect

    video = open_video(encode(tmp_path / "anamorphic.mp4", [picture()] * 2, change=change))
    frame = video.frame(1)
    assert (video.height, video.width) == frame.shape[:2] == (HEIGHT, width)
    assert np.abs(frame[8:24, int(width / 6)].astype(int) - PATCHES[0]).max() < 12


@pytest.mark.parametrize("aspect", [Fraction(1, 200), Fraction(3, 1)], ids=["thin", "more pixels than are read"])
def test_usable_aspect_of_a_damaged_header_warns(aspect: Fraction, caplog: pytest.LogCaptureFixture) -> None:
    assert usable_aspect(aspect, av.VideoFrame(8192, 8192, "gray"), "clip") == 1
    assert "square" in caplog.text


@pytest.mark.parametrize("order", ["tff=1", "bff=1"])
def test_open_video_interlaced_gives_one_field(tmp_path: Path, order: str) -> None:
    def change(stream: av.VideoStream) -> None:
        stream.codec_context.flags |= 1 << 18 | 1 << 29

    combed = picture()
    combed[1::2] = picture(8)[1::2]
    path = encode(tmp_path / "clip.mkv", [combed] * 4, change=change, crf="4", x264opts=order)
    for frame in open_video(path).frames():
        inner = frame[4:28].astype(int)  # of one row of patches
        assert np.abs(np.diff(inner, axis=0)).max() < 30 < np.abs(np.diff(combed.astype(int)[4:28], axis=0)).max()


@pytest.mark.parametrize("largest", [0, 1])
def test_open_video_with_two_streams_reads_the_largest(tmp_path: Path, largest: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    path, small = tmp_path / "two.mkv", np.zeros((32, 48, 3), np.uint8)
    images = [picture(), small] if largest == 0 else [small, picture()]
    with av.open(str(path), "w") as container:
        streams = [container.add_stream("libx264", rate=30) for _ in images]
        for stream, image in zip(streams, images, strict=True):  # the header needs all of them
            stream.height, stream.width, stream.pix_fmt = *image.shape[:2], "yuv420p"
        for stream, image in zip(streams, images, strict=True):
            for number in range(3):
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts, frame.time_base = number, Fraction(1, 30)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    video = open_video(path)
    assert (video.height, video.width, len(video)) == (HEIGHT, WIDTH, 3)
    assert f"number {largest} (96x64)" in caplog.text


KINDS = [
    ("clip.mkv", "libx264", {}),
    ("clip.mp4", "libx264", {"movflags": "+faststart"}),
    ("fragments.mp4", "libx264", {"movflags": "+frag_keyframe+empty_moov"}),
    ("clip.ts", "libx264", {}),
    ("clip.avi", "mpeg4", {}),
]


@pytest.mark.parametrize(("name", "codec", "options"), KINDS, ids=[name for name, *_ in KINDS])
def test_open_video_cut_off_within_its_last_second_warns(
    tmp_path: Path, name: str, codec: str, options: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    noise = np.random.default_rng(0)
    frames = [picture(i) // 2 + noise.integers(0, 90, (HEIGHT, WIDTH, 3), np.uint8) for i in range(36)]
    path = encode(tmp_path / name, frames, codec=codec, container_options=options, g="12", b="4M")
    assert len(list(open_video(path).frames())) == 36 and not caplog.text
    data = path.read_bytes()
    path.write_bytes(
        data[: int(0.7 * len(data)) // 188 * 188 + 94]
    )  # within a packet of MPEG-TS: nothing tells a cut between two
    video = open_video(path)
    assert 10 < len(video) < 36 and len(list(video.frames())) == len(video)
    assert "cut short" in caplog.text and str(len(video)) in caplog.text


def test_open_video_without_its_index_says_that_it_is_cut_short(tmp_path: Path) -> None:
    path = encode(tmp_path / "clip.mp4", [picture(i) for i in range(6)])
    path.write_bytes(path.read_bytes()[: path.read_bytes().index(b"moov") - 20])
    with pytest.raises(UserError, match=r"cut short and its index is lost"):
        open_video(path)


def test_open_video_with_quicktime_focal_length_has_it_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "phone.mov"
    key = "com.apple.quicktime.camera.focal_length.35mm_equivalent"
    with av.open(str(path), "w", options={"movflags": "use_metadata_tags"}) as container:
        container.metadata.update({key: "26", "com.apple.quicktime.location.ISO6709": "+48.1372+011.5756/"})
        stream = container.add_stream("libx264", rate=30)
        stream.height, stream.width, stream.pix_fmt = HEIGHT, WIDTH, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture(), format="rgb24")))
        container.mux(stream.encode(None))
    video = open_video(path)
    assert video.focal_px == pytest.approx(26 / 36 * WIDTH)
    assert "48.1372" not in repr(vars(video))


@pytest.mark.skipif(not hasattr(cv2, "imwriteanimation"), reason="this OpenCV writes no animations")
@pytest.mark.parametrize("name", ["clip.webp", "clip.png"])
def test_open_video_of_an_animated_image_has_all_frames_and_times(tmp_path: Path, name: str) -> None:
    animation = cv2.Animation()
    animation.frames = [np.dstack([picture(4 * i)[..., ::-1], np.full((HEIGHT, WIDTH), 255, np.uint8)]) for i in range(5)]
    animation.durations = np.array([40, 200, 80, 80, 80])
    assert cv2.imwriteanimation(str(tmp_path / name), animation)
    video = open_video(tmp_path / name)
    np.testing.assert_allclose(video.time_s, [0, 0.04, 0.24, 0.32, 0.40])
    assert np.abs(video.frame(3)[8:24, 16 + 12].astype(int) - PATCHES[0]).max() < 24
