"""Folders of images as people have them: several series, times in names, bit depths, transparency, phones' formats."""

import struct
import sys
from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
import pytest
import zarr

from st4rtrack.io.video import open_video
from st4rtrack.types import UserError

GREY = np.full((6, 8), 77, np.uint8)


def write(folder: Path, names: Iterable[str], image: np.ndarray = GREY) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_bytes(cv2.imencode(Path(name).suffix, image)[1].tobytes())
    return folder


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (
            [f"{side}_{i:03d}.png" for side in ("left", "right") for i in range(4)],
            ["left_000.png to", "right_000.png to", "shots/left_*'"],
        ),
        ([f"cam{camera}_{i:03d}.png" for camera in (0, 1) for i in range(4)], ["cam0_000.png", "cam1_000.png", "shots/cam0*'"]),
        (
            [f"{i:03d}{end}.png" for end in ("", "_mask") for i in range(4)],
            ["000.png", "000_mask.png", "shots/[0-9][0-9][0-9].png'"],
        ),
        ([f"{i}.{end}" for end in ("png", "jpg") for i in range(4)], ["0.jpg and 0.png", "shots/*.jpg'"]),
        ([*(f"{i:03d}.png" for i in range(4)), "background.png"], ["000.png to 003.png (4 images) and background.png"]),
    ],
    ids=["two", "numbered cameras", "masks", "two formats", "one more"],
)
def test_open_images_of_two_series_names_both(tmp_path: Path, names: list[str], words: list[str]) -> None:
    with pytest.raises(UserError) as raised:
        open_video(write(tmp_path / "shots", names))
    for word in words:
        assert word in str(raised.value)


@pytest.mark.parametrize(
    "names",
    [
        ["a.png", "b.png", "zebra.png"],
        [f"IMG_{i}.{'jpg' if i % 2 else 'jpeg'}" for i in range(6)],
        [f"{minute:02d}_{second:02d}.png" for minute in range(2) for second in range(0, 60, 10)],
        [f"shot_v2.{1001 + i}.png" for i in range(6)],
    ],
    ids=["no system", "two endings", "clock", "version"],
)
def test_open_images_of_one_series_are_one_video(tmp_path: Path, names: list[str]) -> None:
    video = open_video(write(tmp_path / "shots", names))
    assert len(video) == len(names) and video.time_s[1] == pytest.approx(1 / 30)


@pytest.mark.parametrize(
    "names",
    [
        ["1403636579763555584.png", "1403636579846555584.png", "1403636580246555584.png"],
        ["cam_1403636579763.jpg", "cam_1403636579846.jpg", "cam_1403636580246.jpg"],
        ["1305031102.175304.png", "1305031102.258304.png", "1305031102.658304.png"],
        ["1305031102_175304000.png", "1305031102_258304000.png", "1305031102_658304000.png"],
        ["9.5.png", "9.583.png", "9.983.png"],
    ],
    ids=["ns", "ms", "s", "s and ns", "decimals"],
)
def test_open_images_with_times_as_names_has_these_times(tmp_path: Path, names: list[str]) -> None:
    folder = write(tmp_path / "shots", reversed(names))
    video = open_video(folder)
    np.testing.assert_allclose(video.time_s, [0, 0.083, 0.483], atol=2e-4)
    assert len(open_video(folder, fps=4)) == 2  # there is a clock, so a rate drops frames


@pytest.mark.parametrize("bits", [10, 12, 14])
def test_open_images_of_few_bits_in_sixteen_are_scaled_alike(tmp_path: Path, bits: int, caplog: pytest.LogCaptureFixture) -> None:
    full = np.arange(48, dtype=np.uint16).reshape(6, 8) * 5
    for number, level in enumerate((full // 4, full)):  # one factor for all, or the exposure would flicker
        write(tmp_path / "shots", [f"{number}.png"], level << bits - 8)
    dark, bright = open_video(tmp_path / "shots").frames()
    np.testing.assert_array_equal(bright[..., 0], full)
    np.testing.assert_array_equal(dark[..., 1], full // 4)
    assert f"only {bits} bits" in caplog.text


def test_open_images_of_sixteen_bits_are_not_scaled(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    image = GREY.astype(np.uint16) * 257
    assert (open_video(write(tmp_path / "shots", ["0.png"], image)).frame(0) == 77).all() and not caplog.text


@pytest.mark.parametrize("suffix", ["png", "webp", "tiff"])
def test_open_images_with_transparency_shows_grey_there(tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture) -> None:
    image = np.dstack([GREY, GREY, GREY, np.full_like(GREY, 255)])
    image[:, :4, :3], image[:, :4, 3] = np.random.default_rng(0).integers(0, 255, (6, 4, 3)), 0
    frame = open_video(write(tmp_path / "shots", [f"0.{suffix}"], image)).frame(0)
    assert (frame[:, :4] == 127).all() and np.abs(frame[:, 4:].astype(int) - 77).max() <= 1
    assert "transparent" in caplog.text and "50 %" in caplog.text


def heif(brand: bytes) -> bytes:
    return b"\0\0\0\x18ftyp" + brand + bytes(99)


def test_open_images_in_heic_without_the_package_names_format_and_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    (tmp_path / "IMG_0001.HEIC").write_bytes(heif(b"heic"))
    with pytest.raises(UserError, match=r"IMG_0001\.HEIC.*HEIC.*pip install .*\[images\]"):
        open_video(tmp_path)


def test_open_images_in_avif_are_read(tmp_path: Path) -> None:
    if not cv2.haveImageWriter("a.avif"):
        pytest.skip("this OpenCV writes no AVIF")
    image = np.full((48, 64, 3), (10, 120, 200), np.uint8)
    folder = write(tmp_path / "shots", ["0.avif", "1.AVIF"], image)
    frame = open_video(folder).frame(1)
    assert np.abs(frame.astype(int) - (200, 120, 10)).max() < 12


def test_open_images_of_a_damaged_avif_names_it(tmp_path: Path) -> None:
    (tmp_path / "0.avif").write_bytes(heif(b"avif"))
    with pytest.raises(UserError, match=r"0\.avif.*AVIF"):
        open_video(tmp_path)


def jpeg_with_exif(entries: list[tuple[int, int, bytes]], exif: list[tuple[int, int, bytes]]) -> bytes:
    """A JPEG image of 64x48 pixels with tags (number, TIFF type, value of 4 or 8 bytes), the second ones in the EXIF folder."""
    data = cv2.imencode(".jpg", np.zeros((48, 64, 3), np.uint8))[1].tobytes()
    exif_at = 8 + 2 + 12 * (len(entries) + 1) + 4
    tail_at, tail, folders = exif_at + 2 + 12 * len(exif) + 4, b"", b""
    for tags in ([*entries, (0x8769, 4, struct.pack(">I", exif_at))], exif):
        folders += struct.pack(">H", len(tags))
        for tag, kind, value in tags:
            if len(value) > 4:
                value, tail = struct.pack(">I", tail_at + len(tail)), tail + value
            folders += struct.pack(">HHI", tag, kind, 1) + value
        folders += bytes(4)
    body = b"Exif\0\0MM\0*\0\0\0\x08" + folders + tail
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + data[2:]


SHORT = ">HH"


@pytest.mark.parametrize(
    ("entries", "exif", "expected"),
    [
        ([], [(0xA405, 3, struct.pack(SHORT, 26, 0))], 26 / 36 * 64),
        ([(0x0112, 3, struct.pack(SHORT, 6, 0))], [(0xA405, 3, struct.pack(SHORT, 26, 0))], 26 / 36 * 64),
        (
            [],
            [
                (0x920A, 5, struct.pack(">II", 42, 10)),
                (0xA002, 4, struct.pack(">I", 640)),
                (0xA20E, 5, struct.pack(">II", 2540, 1)),
                (0xA210, 3, struct.pack(SHORT, 2, 0)),
            ],
            42.0,
        ),
        ([(0x0112, 3, struct.pack(SHORT, 1, 0))], [], None),
        ([], [(0x920A, 5, struct.pack(">II", 4, 0))], None),
    ],
    ids=["35 mm", "turned", "sensor", "none", "zero"],
)
def test_open_images_has_the_focal_length_of_exif(tmp_path: Path, entries: list, exif: list, expected: float | None) -> None:
    (tmp_path / "0.jpg").write_bytes(jpeg_with_exif(entries, exif))
    video = open_video(tmp_path)
    assert video.focal_px == (None if expected is None else pytest.approx(expected))


def test_open_images_reads_no_other_metadata(tmp_path: Path) -> None:
    secret = (0x010F, 2, b"GPS\0")  # as text where the maker stands
    (tmp_path / "0.jpg").write_bytes(jpeg_with_exif([secret], [(0xA405, 3, struct.pack(SHORT, 26, 0))]))
    video = open_video(tmp_path)
    assert video.focal_px is not None and "GPS" not in repr(vars(video))


def test_open_video_of_a_glob_in_a_folder_with_brackets_finds_its_files(tmp_path: Path) -> None:
    folder = write(tmp_path / "shots [v2]", ["0.png", "1.png"])
    assert len(open_video(f"{folder}/*.png")) == 2


def test_open_images_of_a_git_lfs_pointer_names_it(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")
    with pytest.raises(UserError, match="git lfs pull"):
        open_video(tmp_path)


def test_open_video_of_old_zarr_or_an_archive_names_the_fix(tmp_path: Path) -> None:
    zarr.open_group(tmp_path / "old.zarr", mode="w", zarr_format=2)
    with pytest.raises(UserError, match="zarr migrate v3"):
        open_video(tmp_path / "old.zarr")
    (tmp_path / "frames.zarr.zip").write_bytes(b"PK")
    with pytest.raises(UserError, match="unpack it"):
        open_video(tmp_path / "frames.zarr.zip")
