"""Known lens distortion: its sources, and the undistorted video."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from st4rtrack.io.known.calibration import undistorted
from st4rtrack.io.known.known import known_of_video
from st4rtrack.io.video import open_video
from st4rtrack.options import KnownGeometry
from st4rtrack.types import PixelMap, UserError, Video

SIZE, FOCAL = (72, 96), 75.0


def video() -> Video:
    return open_video(np.zeros((2, *SIZE, 3), np.uint8))


def lens_of(known: KnownGeometry):
    _, pixel_map, _ = undistorted(video(), known)
    assert pixel_map.lens is not None
    return pixel_map.lens


def test_undistorted_point_is_where_the_pinhole_sees_it() -> None:
    u, v = np.meshgrid(np.arange(SIZE[1]) + 0.5, np.arange(SIZE[0]) + 0.5)
    x, y = 0.45, -0.3
    factor = 1 - 0.25 * (x * x + y * y)
    blob = 255 * np.exp(-((u - 48 - FOCAL * x * factor) ** 2 + (v - 36 - FOCAL * y * factor) ** 2) / 8)
    source = open_video(np.repeat(blob[None, ..., None], 3, axis=-1).round().astype(np.uint8))
    ideal, pixel_map, _ = undistorted(source, KnownGeometry(distortion="-0.25", intrinsics=f"{FOCAL:g}"))
    frame = ideal.frame(0)[..., 0].astype(float)
    found = np.array([(frame * u).sum(), (frame * v).sum()]) / frame.sum()
    assert pixel_map.lens is not None
    focal = pixel_map.lens.ideal[0]
    np.testing.assert_allclose(found, [48 + focal * x, 36 + focal * y], atol=0.15)
    assert np.linalg.norm(found - (48 + FOCAL * x * factor, 36 + FOCAL * y * factor)) > 0.3


OPENCV = """%YAML:1.0
---
camera_matrix: !!opencv-matrix
   rows: 3
   cols: 3
   dt: d
   data: [ 75., 0., 47.5, 0., 75., 35.5, 0., 0., 1. ]
distortion_coefficients: !!opencv-matrix
   rows: 1
   cols: 5
   dt: d
   data: [ -0.2, 0.05, 0., 0., 0. ]
"""
ROS = """image_width: 192
image_height: 144
camera_matrix: {rows: 3, cols: 3, data: [150.0, 0.0, 95.5, 0.0, 150.0, 71.5, 0.0, 0.0, 1.0]}
distortion_model: equidistant
distortion_coefficients: {rows: 1, cols: 4, data: [-0.2, 0.05, 0.0, 0.0]}
"""
JSON = '{"camera_matrix": [[75, 0, 47.5], [0, 75, 35.5], [0, 0, 1]], "dist_coeffs": [[-0.2, 0.05, 0, 0, 0]]}'


@pytest.mark.parametrize(
    ("name", "text", "model"), [("a.yml", OPENCV, "opencv"), ("a.yaml", ROS, "fisheye"), ("a.json", JSON, "opencv")]
)
def test_undistorted_reads_calibration_files(tmp_path: Path, name: str, text: str, model: str) -> None:
    (tmp_path / name).write_text(text)
    lens = lens_of(KnownGeometry(distortion=tmp_path / name))
    assert lens.model == model and lens.coefficients[:2] == (-0.2, 0.05)
    np.testing.assert_allclose(lens.camera, (75, 75, 48, 36), atol=0.51 if name == "a.yaml" else 1e-9)


@pytest.mark.parametrize(("text", "model", "count"), [("-0.2", "opencv", 1), ("fisheye:0.1,0,0,0", "fisheye", 4)])
def test_undistorted_reads_coefficients(text: str, model: str, count: int) -> None:
    lens = lens_of(KnownGeometry(distortion=text, intrinsics="75"))
    assert lens.model == model and len(lens.coefficients) == count


@pytest.mark.parametrize(
    ("known", "message"),
    [
        (KnownGeometry(distortion="-0.2"), "give --intrinsics"),
        (KnownGeometry(distortion="1,2,3", intrinsics="75"), "3 coefficients"),
        (KnownGeometry(distortion="nothing.yaml", intrinsics="75"), "neither numbers nor a file"),
        (KnownGeometry(distortion="-9", intrinsics="75"), "cannot be used"),
    ],
)
def test_undistorted_unusable_distortion_raises(known: KnownGeometry, message: str) -> None:
    with pytest.raises(UserError, match=message):
        undistorted(video(), known)


def test_undistorted_without_distortion_changes_nothing() -> None:
    source, known = video(), KnownGeometry(intrinsics="75,75.5")
    assert undistorted(source, known) == (source, PixelMap(), known)


def test_undistorted_pixels_that_are_not_square_become_square() -> None:
    source, known = video(), KnownGeometry(intrinsics="75,100,48,36")
    _, pixel_map, known = undistorted(source, known)
    found = known_of_video(known, source, pixel_map, SIZE, 0)
    assert found.intrinsics is not None
    np.testing.assert_allclose(found.intrinsics[0], [[100, 0, 48], [0, 100, 36], [0, 0, 1]])
    np.testing.assert_allclose(pixel_map.network_from_source(np.array([48 + 30.0, 36])), [48 + 40, 36])


def test_known_masks_in_source_pixels_are_undistorted() -> None:
    mask = np.zeros(SIZE, np.uint8)
    mask[:, 90:] = 255  # 42 px off the middle: k1 brings it there from 42.8 px
    known = KnownGeometry(distortion="-0.2", intrinsics="75", static_mask=mask)
    _, pixel_map, geometry = undistorted(video(), known)
    found = known_of_video(geometry, video(), pixel_map, SIZE, 0).static
    assert found is not None and pixel_map.lens is not None
    edge = 48 + (pixel_map.lens.ideal_from_source(np.array([90.0, 36.0])) - 48)[0]
    first = int(np.flatnonzero(found(0)[36])[0])
    assert abs(first - edge) <= 0.51 and cv2.countNonZero(found(0)[:, : int(edge) - 4].astype(np.uint8)) == 0
