"""Lens distortion: OpenCV's models, the ideal image, and pixel maps with a lens."""

import cv2
import numpy as np
import pytest

from st4rtrack.geometry.lens import Lens
from st4rtrack.types import PixelMap

SIZE, INTRINSICS = (144, 192), np.array([[150.0, 0, 97], [0, 152, 70], [0, 0, 1]])
LENSES = [
    ("opencv", (-0.18,)),
    ("opencv", (0.1, 0.02)),
    ("opencv", (-0.3, 0.1, 0.001, -0.002, 0.01)),
    ("fisheye", (0.05, 0.01, 0.0, 0.0)),
]


@pytest.mark.parametrize(("model", "coefficients"), LENSES)
def test_lens_ideal_image_is_known_everywhere_and_inverts(model, coefficients) -> None:
    lens = Lens.of(model, coefficients, INTRINSICS, SIZE)
    ideal_px = np.random.default_rng(0).uniform((0, 0), SIZE[::-1], (20, 50, 2))
    source_px = lens.source_from_ideal(ideal_px)
    assert (source_px >= -0.2).all() and (source_px <= np.array(SIZE[::-1]) + 0.2).all()
    np.testing.assert_allclose(lens.ideal_from_source(source_px), ideal_px, atol=1e-6)
    fx, fy, cx, cy = lens.ideal
    assert fx == fy and (cx, cy) == (96, 72)


def test_lens_radial_distortion_moves_pixels_by_its_formula() -> None:
    lens = Lens.of("opencv", (-0.18, 0.03), INTRINSICS, SIZE)
    x, y = 0.3, -0.2
    factor = 1 - 0.18 * 0.13 + 0.03 * 0.13**2
    fx, fy, cx, cy = lens.ideal
    found = lens.source_from_ideal(np.array([fx * x + cx, fy * y + cy]))
    np.testing.assert_allclose(found, [150 * x * factor + 97, 152 * y * factor + 70], atol=1e-9)


def test_lens_that_folds_the_image_raises() -> None:
    with pytest.raises((ValueError, cv2.error)):
        Lens.of("opencv", (-5.0,), INTRINSICS, SIZE)


def test_lens_of_wide_fisheye_is_cropped_to_100_degrees() -> None:
    lens = Lens.of("fisheye", (0, 0, 0, 0), np.array([[60.0, 0, 96], [0, 60, 72], [0, 0, 1]]), SIZE)
    assert lens.ideal[0] == pytest.approx(0.42 * 192)


def test_pixel_map_with_lens_after_a_resize_maps_the_same_points() -> None:
    lens = Lens.of("opencv", (-0.18,), INTRINSICS, SIZE)
    source = PixelMap(lens=lens).then(PixelMap((0.5, 0.5), (0.0, -4.0)))
    file = PixelMap((2.0, 2.0), (1.0, 0.0)).then(source)  # pixels of half the size, shifted
    px = np.array([[30.0, 50.0], [96.0, 72.0], [180.0, 20.0]])
    np.testing.assert_allclose(file.network_from_source((px - (1, 0)) / 2), source.network_from_source(px), atol=1e-9)
    np.testing.assert_allclose(file.source_from_network(source.network_from_source(px)), (px - (1, 0)) / 2, atol=1e-6)


def test_pixel_map_intrinsics_with_lens_keep_the_zoom() -> None:
    lens = Lens.of("opencv", (-0.18,), INTRINSICS, SIZE)
    pixel_map = PixelMap(lens=lens).then(PixelMap((0.5, 0.5)))
    zoomed = np.stack([INTRINSICS, np.diag((2, 2, 1)) @ INTRINSICS])
    zoomed[1, :2, 2] = INTRINSICS[:2, 2]
    network = pixel_map.network_intrinsics(zoomed)
    assert network[0, 0, 0] == pytest.approx(lens.ideal[0] / 2) and network[1, 0, 0] == pytest.approx(lens.ideal[0])
    np.testing.assert_allclose(network[:, :2, 2], [[48, 36]] * 2)
    np.testing.assert_allclose(pixel_map.source_intrinsics(network), zoomed, atol=1e-9)
