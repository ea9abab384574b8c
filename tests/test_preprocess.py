"""Sizes, pixels and values at the network."""

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from st4rtrack.geometry.sampling import sample_map
from st4rtrack.io.video import open_video
from st4rtrack.preprocess import normalize_images, stretch_to_network_size, to_network_size
from st4rtrack.types import UserError, Video

cv2.setNumThreads(1)


def ramps(height: int, width: int, count: int = 1) -> Video:
    """Red grows with u, green with v, both 0 to 240, so that an image says where its pixels came from."""
    u, v = (np.arange(width) + 0.5) / width * 240, (np.arange(height) + 0.5) / height * 240
    image = np.stack([*np.meshgrid(u, v), np.full((height, width), 128.0)], axis=-1)
    return open_video(np.repeat(image.round().astype(np.uint8)[None], count, axis=0))


def size_only(height: int, width: int) -> Video:
    def read(start: int, stop: int) -> Iterator[np.ndarray]:
        raise AssertionError("nothing should be decoded")

    return Video("big", height, width, np.zeros(1), np.zeros(1, int), read)


@pytest.mark.parametrize(
    ("size", "long_side", "expected"),
    [
        ((360, 640), 512, (288, 512)),  # the sizes of the published benchmark
        ((540, 960), 512, (288, 512)),
        ((720, 1280), 512, (288, 512)),
        ((480, 640), 512, (384, 512)),
        ((512, 512), 512, (512, 512)),
        ((1920, 1080), 512, (512, 288)),
        ((720, 1296), 512, (272, 512)),
        ((406, 724), 512, (272, 512)),
        ((192, 256), 512, (384, 512)),
        ((100, 3000), 512, (16, 512)),
        ((301, 299), 250, (240, 240)),
        ((17, 16), 16, (16, 0)),
    ],
)
def test_sizes(size: tuple[int, int], long_side: int, expected: tuple[int, int]) -> None:
    for resize in (to_network_size, stretch_to_network_size):
        if 0 in expected:
            with pytest.raises(UserError, match="less than one patch"):
                resize(size_only(*size), long_side=long_side, patch_size=16)
            continue
        video, _ = resize(size_only(*size), long_side=long_side, patch_size=16)
        assert (video.height, video.width) == expected


@pytest.mark.parametrize("height", range(33, 70))
def test_crop_is_that_of_the_release(height: int) -> None:
    width = 96
    video, pixel_map = to_network_size(size_only(height, width), long_side=96, patch_size=16)
    half = (2 * (height // 2)) // 16 * 8
    assert video.height == 2 * half
    assert pixel_map.offset_px == (0, half - height // 2)


@pytest.mark.parametrize("size", [(90, 161), (161, 90), (37, 41), (80, 300), (192, 256)])
@pytest.mark.parametrize("resize", [to_network_size, stretch_to_network_size])
@pytest.mark.parametrize("long_side", [64, 96, 320])
def test_pixel_map_says_where_pixels_came_from(size: tuple[int, int], resize: Any, long_side: int) -> None:
    source = ramps(*size)
    video, pixel_map = resize(source, long_side=long_side, patch_size=16)
    frame = video.frame(0)
    assert frame.shape == (video.height, video.width, 3) and frame.dtype == np.uint8 and frame.flags.c_contiguous
    network_px = np.random.default_rng(0).uniform((2, 2), (video.width - 2, video.height - 2), (50, 2))
    source_px = pixel_map.source_from_network(network_px)
    expected = source_px / (size[1], size[0]) * 240
    found = sample_map(frame[..., :2].astype(np.float64), network_px)
    assert np.abs(found - expected).max() < 1.6  # rounding to 8 bits, twice; one pixel is 240 / side
    assert np.allclose(pixel_map.network_from_source(source_px), network_px)


def test_stretch_sees_the_whole_image() -> None:
    video, pixel_map = stretch_to_network_size(size_only(75, 131), long_side=64, patch_size=16)
    corners = pixel_map.network_from_source(np.array([[0, 0], [131, 75]]))
    assert np.allclose(corners, [[0, 0], [video.width, video.height]])


def test_same_size_is_untouched() -> None:
    source = ramps(48, 64)
    video, pixel_map = to_network_size(source, long_side=64, patch_size=16)
    assert (video.frame(0) == source.frame(0)).all()
    assert (pixel_map.scale, pixel_map.offset_px) == ((1, 1), (0, 0))


def test_frames_are_resized_as_they_are_read() -> None:
    source, reads = ramps(48, 64, count=5), []

    def read(start: int, stop: int) -> Iterator[np.ndarray]:
        for i in range(start, stop):
            reads.append(i)
            yield source.frame(i)

    spied = Video("spied", 48, 64, source.time_s, source.frame_index, read)
    video, _ = to_network_size(spied, long_side=32, patch_size=8)
    assert (len(video), video.name, reads) == (5, "spied", [])
    next(iter(video.frames(2, 5)))
    assert reads == [2]


def test_shrinking_does_not_alias() -> None:
    stripes = np.zeros((64, 256, 3), np.uint8)
    stripes[:, ::2] = 255
    frame = to_network_size(open_video(stripes[None]), long_side=64, patch_size=16)[0].frame(0)
    assert np.abs(frame.astype(int) - 127).max() <= 1


@pytest.mark.parametrize(("size", "long_side"), [((4, 4), 8), ((10, 1000), 512), ((8, 8), 0)])
def test_too_small(size: tuple[int, int], long_side: int) -> None:
    for resize in (to_network_size, stretch_to_network_size):
        with pytest.raises(UserError, match="patch of 16"):
            resize(size_only(*size), long_side=long_side, patch_size=16)


def test_normalize_images() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (2, 3, 4, 5, 3), np.uint8)
    images = normalize_images(rgb)
    assert images.shape == (2, 3, 3, 4, 5) and images.dtype == torch.float32 and images.is_contiguous()
    assert np.allclose(images.numpy(), np.moveaxis(rgb, -1, -3) / 127.5 - 1, atol=1e-6)
    extremes = normalize_images(np.array([[[0, 255, 0]]], np.uint8))
    assert extremes.flatten().tolist() == [-1, 1, -1]
    for wrong in (rgb.astype(float), rgb[..., :2], rgb[0, 0, 0]):
        with pytest.raises(ValueError, match="uint8"):
            normalize_images(wrong)
