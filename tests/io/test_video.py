"""Frames carry their number in their pixels, so that every test sees which frames it got."""

import tracemalloc
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
import zarr

from st4rtrack.io import video_file as video_module
from st4rtrack.io.video import open_video, write_video
from st4rtrack.types import UserError, Video
from tests.shared_data import shared

cv2.setNumThreads(1)

BITS = 8


def numbered(number: int, height: int = 48, width: int = 64) -> np.ndarray:
    """An image that shows its number as eight bars, the lowest bit on the left, red below."""
    image = np.zeros((height, width, 3), np.uint8)
    for bit, columns in enumerate(np.array_split(np.arange(width), BITS)):
        image[:, columns] = 255 * (number >> bit & 1)
    image[height * 3 // 4 :] = (230, 20, 20)
    return image


def number_of(image: np.ndarray) -> int:
    bars = np.array_split(image[: image.shape[0] // 2].mean(axis=(0, 2)), BITS)
    return sum(int(bar.mean() > 127) << bit for bit, bar in enumerate(bars))


def numbers(video: Video, start: int = 0, stop: int | None = None) -> list[int]:
    return [number_of(frame) for frame in video.frames(start, stop)]


def encode(
    path: Path,
    images: Iterable[np.ndarray],
    *,
    pts: Sequence[int] | None = None,
    codec: str = "libx264",
    rate: int = 10,
    container_options: dict[str, str] | None = None,
    **options: str,
) -> Path:
    """Writes a video with chosen presentation times, in units of 1/1000 s."""
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=rate, options=options)
        stream.codec_context.time_base = Fraction(1, 1000 if pts else rate)
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for i, image in enumerate(images):
            if i == 0:
                stream.height, stream.width = image.shape[:2]
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = (i * 1000 // rate if pts is None else pts[i]), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def set_display_matrix(path: Path, a: int, b: int, c: int, d: int) -> Path:
    """Replaces the matrix in the track header, as phones write it."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 44
    data[at : at + 36] = b"".join(
        v.to_bytes(4, "big", signed=True) for v in (a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    )
    path.write_bytes(data)
    return path


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 frames at 10 per second, a key frame every 12, B-frames between."""
    path = tmp_path_factory.mktemp("video") / "clip.mp4"
    return encode(path, map(numbered, range(60)), g="12", bf="2", sc_threshold="0")


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Counts frames that come out of the decoder."""
    counter: list[int] = []
    original = video_module._decoded

    def spy(stream: Any, packets: Any) -> Any:
        for frame in original(stream, packets):
            counter.append(1)
            yield frame

    monkeypatch.setattr(video_module, "_decoded", spy)
    return counter


# Video files


def test_whole_file(clip: Path) -> None:
    video = open_video(clip)
    assert (video.name, video.source, video.height, video.width, len(video)) == ("clip", str(clip), 48, 64, 60)
    assert np.allclose(video.time_s, np.arange(60) / 10)
    assert video.frame_index.tolist() == numbers(video) == list(range(60))
    frame = video.frame(3)
    assert frame.shape == (48, 64, 3) and frame.dtype == np.uint8 and frame.flags.c_contiguous
    assert np.abs(frame[-6:].astype(int) - (230, 20, 20)).mean() < 12  # RGB, not BGR


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ({"start": 7, "stop": 11}, [7, 8, 9, 10]),
        ({"start": "7", "stop": "11"}, [7, 8, 9, 10]),
        ({"start": "2.5s", "stop": "2.8s"}, [25, 26, 27]),
        ({"start": "5.75 s"}, [58, 59]),
        ({"start": 55, "stop": 1000}, [55, 56, 57, 58, 59]),
        ({"start": "5.7s", "stop": 58}, [57]),
        ({"stride": 25}, [0, 25, 50]),
        ({"start": 3, "stride": 20, "stop": 44}, [3, 23, 43]),
        ({"fps": 2}, list(range(0, 60, 5))),
        ({"fps": 2, "stride": 3}, [0, 15, 30, 45]),
        ({"fps": 4, "start": 1, "stop": 12}, [1, 4, 6, 9, 11]),
        ({"fps": 10}, list(range(60))),
        ({"fps": 1000}, list(range(60))),
    ],
)
def test_selection(clip: Path, choice: dict[str, Any], expected: list[int]) -> None:
    video = open_video(clip, **choice)
    assert numbers(video) == video.frame_index.tolist() == expected
    assert np.allclose(video.time_s, np.array(expected) / 10)
    assert numbers(video, len(video) - 1) == expected[-1:]


def test_reads_in_any_order(clip: Path) -> None:
    video = open_video(clip)
    for i in (30, 31, 5, 59, 0, 47, 48, 24, 23):
        assert number_of(video.frame(i)) == i
    assert numbers(video, 20, 40) == list(range(20, 40))
    assert numbers(video, 10, 10) == []
    for start, stop in ((-1, 2), (0, 61), (5, 4)):
        with pytest.raises(IndexError):
            next(iter(video.read(start, stop)))


def test_readers_side_by_side(clip: Path) -> None:
    video = open_video(clip)
    pairs = zip(video.frames(0, 20), video.frames(30, 50), strict=True)
    assert [(number_of(a), number_of(b)) for a, b in pairs] == [(i, i + 30) for i in range(20)]


def test_reading_on_decodes_nothing_twice(clip: Path, decoded: list[int]) -> None:
    video = open_video(clip)
    decoded.clear()
    for start in range(0, 60, 4):
        assert numbers(video, start, start + 4) == list(range(start, start + 4))
    assert len(decoded) == 60


def test_seeking_begins_at_the_key_frame_before(clip: Path, decoded: list[int]) -> None:
    video = open_video(clip)
    decoded.clear()
    assert number_of(video.frame(52)) == 52
    assert len(decoded) <= 12


def test_opening_decodes_little(clip: Path, decoded: list[int]) -> None:
    open_video(clip)
    assert len(decoded) < 10


def test_frames_are_not_held(tmp_path: Path) -> None:
    height, width, count = 240, 320, 60
    path = tmp_path / "long.mp4"
    write_video(path, (numbered(i, height, width) for i in range(count)), fps=30)
    video = open_video(path)
    tracemalloc.start()
    total = sum(1 for _ in video.frames())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert total == count
    assert peak < 10 * height * width * 3


def test_variable_frame_rate(tmp_path: Path) -> None:
    pts = [0, 100, 133, 166, 700, 750, 1000, 1010, 1020, 2400]
    video = open_video(encode(tmp_path / "vfr.mkv", map(numbered, range(10)), pts=pts, bf="0"))
    assert np.allclose(video.time_s, np.array(pts) / 1000, atol=1e-3)
    assert numbers(video) == list(range(10))
    assert numbers(open_video(tmp_path / "vfr.mkv", fps=5)) == [0, 4, 6, 9]  # first at or after 0, .2 (.7), .8 (1.0), 1.2 (2.4)
    assert numbers(open_video(tmp_path / "vfr.mkv", start="0.7s", stop="1.01s")) == [4, 5, 6]


def test_clock_that_ticks_in_milliseconds(tmp_path: Path) -> None:
    pts = [round(i * 1000 / 30) for i in range(30)]
    encode(tmp_path / "a.mkv", map(numbered, range(30)), pts=pts, rate=30)
    assert numbers(open_video(tmp_path / "a.mkv", fps=15)) == list(range(0, 30, 2))
    assert numbers(open_video(tmp_path / "a.mkv", fps=30)) == list(range(30))


def test_clock_begins_at_the_first_frame(tmp_path: Path) -> None:
    video = open_video(encode(tmp_path / "late.mkv", map(numbered, range(5)), pts=[5000, 5100, 5200, 5300, 5400]))
    assert np.allclose(video.time_s, np.arange(5) / 10)


@pytest.mark.parametrize(("height", "width"), [(49, 65), (64, 48), (17, 200)])
def test_odd_and_portrait_sizes(tmp_path: Path, height: int, width: int) -> None:
    images = [numbered(i, height, width) for i in range(3)]
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        stream = container.add_stream("ffv1", rate=10)
        stream.height, stream.width, stream.pix_fmt = height, width, "bgr0"
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    video = open_video(tmp_path / "a.mkv")
    assert (video.height, video.width) == (height, width)
    assert all((frame == image).all() for frame, image in zip(video.frames(), images, strict=True))


@pytest.mark.parametrize(
    ("matrix", "upright"),
    [
        ((0, 1, -1, 0), lambda image: np.rot90(image, -1)),  # a quarter turn clockwise: a phone held upright
        ((0, -1, 1, 0), lambda image: np.rot90(image, 1)),
        ((-1, 0, 0, -1), lambda image: np.rot90(image, 2)),
        ((-1, 0, 0, 1), lambda image: image[:, ::-1]),
        ((1, 0, 0, 1), lambda image: image),
    ],
)
def test_rotation_is_applied(tmp_path: Path, matrix: tuple[int, int, int, int], upright: Any) -> None:
    path = encode(tmp_path / "phone.mp4", map(numbered, range(3)))
    expected = upright(numbered(2))
    video = open_video(set_display_matrix(path, *matrix))
    assert (video.height, video.width) == expected.shape[:2]
    frame = video.frame(2)
    assert frame.shape == expected.shape and frame.flags.c_contiguous
    assert np.abs(frame.astype(int) - expected).mean() < 12


@pytest.mark.parametrize(
    ("name", "codec"),
    [
        ("a.webm", "libvpx"),
        ("a.webm", "libvpx-vp9"),
        ("a.avi", "mpeg4"),
        ("a.ts", "mpeg2video"),
        ("a.avi", "mjpeg"),
        ("a.ts", "libx264"),
    ],
)
def test_containers_and_codecs(tmp_path: Path, name: str, codec: str) -> None:
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no {codec}")
    rate = 25 if codec == "mpeg2video" else 10
    video = open_video(encode(tmp_path / name, map(numbered, range(40)), codec=codec, rate=rate, g="10"))
    assert np.allclose(np.diff(video.time_s), 1 / rate, atol=2e-3)
    assert numbers(video) == list(range(40))
    assert number_of(video.frame(33)) == 33 and number_of(video.frame(8)) == 8


@pytest.mark.parametrize("codec", ["libx265", "libsvtav1"])
def test_ten_bit(tmp_path: Path, codec: str) -> None:
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no {codec}")
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        options = {"x265-params": "log-level=none:pools=1", "preset": "10" if codec == "libsvtav1" else "ultrafast"}
        stream = container.add_stream(codec, rate=10, options=options)
        stream.height, stream.width, stream.pix_fmt = 96, 128, "yuv420p10le"
        for i in range(6):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(numbered(i, 96, 128), format="rgb24")))
        container.mux(stream.encode(None))
    assert numbers(open_video(tmp_path / "a.mp4")) == list(range(6))


def test_stream_without_times(tmp_path: Path) -> None:
    video = open_video(encode(tmp_path / "raw.h264", map(numbered, range(30)), g="10", bf="2"))
    assert numbers(video) == list(range(30))
    assert number_of(video.frame(17)) == 17 and number_of(video.frame(3)) == 3
    assert (np.diff(video.time_s) > 0).all()


@pytest.mark.parametrize("name", ["a.ts", "a.mp4", "a.mkv"])
def test_download_that_stopped_early(tmp_path: Path, name: str) -> None:
    path = encode(tmp_path / name, map(numbered, range(60)), container_options={"movflags": "faststart"}, g="10", bf="2")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 7 // 10])
    found = numbers(open_video(path))
    assert 20 < len(found) < 60
    assert found == sorted(set(found))


@pytest.mark.parametrize("name", ["a.ts", "a.mp4", "a.mkv"])
@pytest.mark.parametrize("pyramid", ["none", "normal"])
def test_open_video_cut_off_between_b_frames_stops_before_the_gap(tmp_path: Path, name: str, pyramid: str) -> None:
    options = {"g": "24", "bf": "4", "b_strategy": "0", "x264-params": f"b-pyramid={pyramid}"}
    path = encode(tmp_path / name, map(numbered, range(36)), container_options={"movflags": "faststart"}, **options)
    data = path.read_bytes()
    for share in (0.7, 0.73, 0.76, 0.79, 0.82, 0.85):
        path.write_bytes(data[: int(share * len(data))])
        video = open_video(path)
        assert len(video) > 2 and numbers(video) == list(range(len(video)))
        np.testing.assert_allclose(video.time_s, np.arange(len(video)) / 10, atol=1e-6)


@pytest.mark.parametrize(("name", "codec"), [("a.mkv", "mjpeg"), ("a.mp4", "libx264")])
def test_damaged_frame_is_named(tmp_path: Path, name: str, codec: str) -> None:
    path = encode(tmp_path / name, map(numbered, range(10)), codec=codec, g="1")
    with av.open(str(path)) as container:
        payload = next(bytes(p) for p in container.demux(video=0) if p.size and round(p.pts * p.time_base * 10) == 6)
    path.write_bytes(path.read_bytes().replace(payload, bytes(len(payload))))
    video = open_video(path)
    assert numbers(video, 0, 6) == list(range(6))
    with pytest.raises(UserError, match=r"frame 6 of .* cannot be decoded"):
        numbers(video)
    assert numbers(video, 7) == [7, 8, 9]


# Images, arrays, npz, zarr


def write_images(folder: Path, names: Iterable[str]) -> Path:
    folder.mkdir(exist_ok=True)
    for i, name in enumerate(names):
        cv2.imwrite(str(folder / name), cv2.cvtColor(numbered(i), cv2.COLOR_RGB2BGR))
    return folder


def test_folder_of_images(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "shots", [f"img{i}.png" for i in range(12)])  # img2 before img10
    (folder / "notes.txt").write_text("not an image")
    (folder / "._img3.png").write_bytes(b"left behind by a file system")
    video = open_video(folder)
    assert (video.name, video.height, video.width) == ("shots", 48, 64)
    assert numbers(video) == list(range(12))
    assert np.allclose(video.time_s, np.arange(12) / 30)
    assert (video.frame(5) == numbered(5)).all()
    assert np.allclose(open_video(folder, fps=5).time_s, np.arange(12) / 5)
    assert numbers(open_video(folder, fps=10, start="0.5s", stride=3)) == [5, 8, 11]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_open_video_of_a_tiff_of_several_pages_has_all_frames(
    tmp_path: Path, dtype: type, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "stack.tif"
    pages = [numbered(i).astype(dtype)[..., ::-1] * (257 if dtype == np.uint16 else 1) for i in range(5)]
    assert cv2.imwritemulti(str(path), pages)
    video = open_video(path, fps=10)
    assert (video.name, len(video), numbers(video)) == ("stack", 5, list(range(5)))
    assert numbers(open_video(path, start=1, stride=3)) == [1, 4] and not caplog.text
    np.testing.assert_allclose(video.time_s, np.arange(5) / 10)
    assert numbers(open_video(tmp_path)) == [0] and "first of 5 pages" in caplog.text


def test_open_video_of_a_tiff_whose_directories_form_a_loop_ends(tmp_path: Path) -> None:
    path = tmp_path / "loop.tif"
    assert cv2.imwritemulti(str(path), [numbered(i)[..., ::-1] for i in range(2)])
    data = bytearray(path.read_bytes())
    first = int.from_bytes(data[4:8], "little")
    end = first + 2 + 12 * int.from_bytes(data[first : first + 2], "little")
    data[end : end + 4] = data[4:8]
    path.write_bytes(data)
    assert numbers(open_video(path)) == [0]


def test_glob_of_images(tmp_path: Path) -> None:
    folder = write_images(tmp_path / "shots", ["a1.png", "b.jpg", "a10.png", "a2.png"])
    video = open_video(f"{folder}/a*.png")
    assert (video.name, numbers(video)) == ("shots", [0, 3, 2])
    assert open_video(folder / "b.jpg").name == "b"


def test_relative_paths_survive_a_change_of_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_images(tmp_path / "shots", ["1.png", "2.png"])
    write_video(tmp_path / "a.mp4", map(numbered, range(3)), fps=10)
    monkeypatch.chdir(tmp_path)
    videos = [open_video("shots"), open_video("shots/*.png"), open_video("a.mp4")]
    monkeypatch.chdir("/")
    assert [numbers(video) for video in videos] == [[0, 1], [0, 1], [0, 1, 2]]


def test_image_kinds_become_8_bit_rgb(tmp_path: Path) -> None:
    grey = np.full((6, 8), 77, np.uint8)
    for name, image in {
        "grey": grey,
        "deep": grey.astype(np.uint16) * 257,
        "opaque": np.dstack([grey, grey, grey, np.full_like(grey, 255)]),
    }.items():
        cv2.imwrite(str(tmp_path / f"{name}.png"), image)
    for frame in open_video(tmp_path).frames():
        assert frame.dtype == np.uint8 and frame.shape == (6, 8, 3) and (frame == 77).all()


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    _, data = cv2.imencode(".jpg", cv2.cvtColor(numbered(5), cv2.COLOR_RGB2BGR))
    tiff = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"  # orientation 6: turn clockwise
    exif = b"\xff\xe1" + (len(tiff) + 2).to_bytes(2, "big") + tiff
    (tmp_path / "a.jpg").write_bytes(data.tobytes()[:2] + exif + data.tobytes()[2:])
    video = open_video(tmp_path)
    assert (video.height, video.width) == (64, 48)
    assert number_of(np.rot90(video.frame(0), 1)) == 5


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp"])
def test_images_of_different_sizes(tmp_path: Path, suffix: str) -> None:
    write_images(tmp_path, [f"0.{suffix}", f"1.{suffix}"])
    cv2.imwrite(str(tmp_path / f"2.{suffix}"), numbered(2, 48, 66))
    with pytest.raises(UserError, match=rf"2.{suffix} is 66x48 pixels but .*0.{suffix} 64x48"):
        list(open_video(tmp_path).frames())


def test_unreadable_image(tmp_path: Path) -> None:
    write_images(tmp_path, ["0.png"])
    (tmp_path / "1.png").write_bytes(b"no image")
    (tmp_path / "2.png").write_bytes(b"")
    video = open_video(tmp_path)
    for i in (1, 2):
        with pytest.raises(UserError, match=rf"{i}.png cannot be read"):
            video.frame(i)


def test_arrays(clip: Path) -> None:
    frames = np.stack([numbered(i) for i in range(6)])
    for source in (frames, list(frames)):
        video = open_video(source, start=1, stride=2, fps=10)
        assert (numbers(video), video.source) == ([1, 3, 5], "array")
        assert np.allclose(video.time_s, [0.1, 0.3, 0.5])
    for wrong in (frames[0], frames.astype(float), frames[:0], [], [frames[0], frames[0][:-1]], frames[..., :1], np.zeros(())):
        with pytest.raises(UserError, match=r"array must be .*uint8"):
            open_video(wrong)
    with pytest.raises(UserError, match="not int"):
        open_video(3)


def test_video_of_a_video(clip: Path, decoded: list[int]) -> None:
    video = open_video(clip, start=10, stop=50, stride=2)
    again = open_video(video, start=20, stop="4s", stride=5)  # numbers and times are those of the source
    assert numbers(again) == again.frame_index.tolist() == [20, 30]
    plain = Video("a", 48, 64, video.time_s, video.frame_index, lambda start, stop: video.read(start, stop))
    assert numbers(open_video(plain, start=20, stop="4s", stride=5)) == [20, 30]
    assert open_video(video) is video


def test_npz(tmp_path: Path) -> None:
    images = [cv2.imencode(".jpg", cv2.cvtColor(numbered(i), cv2.COLOR_RGB2BGR))[1].tobytes() for i in range(5)]
    objects = np.empty(5, object)
    objects[:] = images
    rgb = np.stack([numbered(i) for i in range(5)])
    np.savez(tmp_path / "s.npz", images_jpeg_bytes=np.array(images))
    np.savez(tmp_path / "o.npz", images_jpeg_bytes=objects)
    np.savez(tmp_path / "rgb.npz", rgb=rgb)
    np.savez(tmp_path / "timed.npz", rgb=rgb, time_s=np.array([0, 0.1, 0.5, 0.6, 1.0]))
    for name in ("s", "o", "rgb"):
        video = open_video(tmp_path / f"{name}.npz", start=1)
        assert (video.name, numbers(video)) == (name, [1, 2, 3, 4])
    assert numbers(open_video(tmp_path / "timed.npz", fps=2)) == [0, 2, 4]
    np.savez(tmp_path / "other.npz", depth=rgb)
    with pytest.raises(UserError, match=r"neither images_jpeg_bytes nor rgb.*depth"):
        open_video(tmp_path / "other.npz")


def test_scene_folder(tmp_path: Path) -> None:
    scene = tmp_path / "walk"
    group = zarr.create_group(str(scene / "scene.zarr"))
    group.create_array("rgb", data=np.stack([numbered(i) for i in range(4)]), chunks=(1, 48, 64, 3))
    group.create_array("time_s", data=np.array([0, 0.5, 1.0, 1.5]))
    for path in (scene, scene / "scene.zarr"):
        video = open_video(path, start="0.5s")
        assert (video.name, numbers(video), video.time_s.tolist()) == ("walk", [1, 2, 3], [0.5, 1.0, 1.5])
    (tmp_path / "empty.zarr").mkdir()
    with pytest.raises(UserError, match="not a scene"):
        open_video(tmp_path / "empty.zarr")


# Mistakes


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"start": 60}, "start 60 is beyond the end of .*59"),
        ({"start": "6s"}, "start 6s is beyond the end"),
        ({"start": -1}, "start must be a frame number"),
        ({"start": "-1s"}, "start must be"),
        ({"start": True}, "start must be"),
        ({"start": 1.5}, "start must be"),
        ({"start": "soon"}, "start must be"),
        ({"stop": "nans"}, "stop must be"),
        ({"stop": 0}, "stop must come after"),
        ({"start": 5, "stop": 5}, "stop must come after"),
        ({"start": 9, "stop": "0.5s"}, "stop must come after"),
        ({"stride": 0}, "stride must be"),
        ({"stride": -2}, "stride must be"),
        ({"stride": 1.5}, "stride must be"),
        ({"stride": "2"}, "stride must be"),
        ({"fps": 0}, "fps must be"),
        ({"fps": -3}, "fps must be"),
        ({"fps": float("nan")}, "fps must be"),
        ({"fps": float("inf")}, "fps must be"),
        ({"fps": "fast"}, "fps must be"),
    ],
)
def test_wrong_choices(clip: Path, choice: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        open_video(clip, **choice)


def test_wrong_paths(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_text("this is not a video\n" * 50)
    (tmp_path / "text.txt").write_text("this is not a video\n" * 50)
    (tmp_path / "folder").mkdir()
    with av.open(str(tmp_path / "sound.wav"), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.sample_rate = 8000
        container.mux(stream.encode(sound))
    for name, message in {
        "absent.mp4": "does not exist",
        "empty.mp4": "is empty",
        "text.mp4": "is not a video",
        "text.txt": "video",
        "sound.wav": "has no video stream",
        "folder": "holds no image",
        "*.png": "holds no image",
    }.items():
        with pytest.raises(UserError, match=message) as caught:
            open_video(tmp_path / name)
        assert name in str(caught.value) and "\n" not in str(caught.value)


# Writing


@pytest.mark.parametrize(("height", "width"), [(48, 64), (49, 65)])
def test_write_video(tmp_path: Path, height: int, width: int) -> None:
    write_video(tmp_path / "a.mp4", (numbered(i, height, width) for i in range(10)), fps=29.97)
    video = open_video(tmp_path / "a.mp4")
    assert (video.height, video.width) == (height + height % 2, width + width % 2)
    assert numbers(video) == list(range(10))
    assert np.allclose(video.time_s, np.arange(10) / 29.97, atol=1e-4)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_write_video_without_x264(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(av, "codecs_available", set())
    write_video(tmp_path / "a.mp4", (numbered(i) for i in range(10)), fps=23.976)
    assert numbers(open_video(tmp_path / "a.mp4")) == list(range(10))


def test_write_video_refuses(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no frames"):
        write_video(tmp_path / "a.mp4", iter([]), fps=10)
    with pytest.raises(ValueError, match="frame 1"):
        write_video(tmp_path / "a.mp4", [numbered(0), numbered(1, 50, 64)], fps=10)
    assert not list(tmp_path.iterdir())


# Real input


@pytest.mark.parametrize(("name", "count"), [("apple", 50), ("feng", 112), ("sheep", 120)])
def test_real_clips(name: str, count: int) -> None:
    video = open_video(shared(f"clips/{name}.mp4"))
    assert len(video) == count and video.time_s[0] == 0
    first, last = video.frame(0), video.frame(count - 1)
    assert first.shape == last.shape == (video.height, video.width, 3)
    assert first.std() > 10 and (first != last).any()


@pytest.mark.parametrize("name", ["dog_skin", "fall_arc", "kitchen_static", "quadruped_track", "two_cmu_static"])
def test_real_sequences(name: str) -> None:
    video = open_video(shared(f"sequences/{name}.npz"))
    assert (len(video), video.height, video.width) == (64, 192, 256)
    assert all(video.frame(i).std() > 10 for i in (0, 63))


def test_video_file_that_is_a_git_lfs_pointer_names_it(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:abc\nsize 9\n")
    with pytest.raises(UserError, match="Git LFS"):
        open_video(tmp_path / "a.mp4")
