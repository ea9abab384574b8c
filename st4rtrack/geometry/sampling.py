"""Sampling of maps at continuous pixels. The only module that applies the half-pixel offset."""

from typing import TYPE_CHECKING, TypeVar

import cv2
import numpy as np

if TYPE_CHECKING:
    import torch

ArrayT = TypeVar("ArrayT", np.ndarray, "torch.Tensor")


def sample_map(values: ArrayT, pixels_px: ArrayT) -> ArrayT:
    """Bilinear values of a map at continuous pixels; the border value is repeated beyond the outer pixel centres.

    Args:
        values: [height, width, channels] or [height, width].
        pixels_px: [..., 2] (u, v), the centre of the first pixel at (0.5, 0.5).
    Returns:
        [..., channels] or [...]; differentiable in both arguments for tensors.
    """
    height, width = values.shape[:2]
    u = (pixels_px[..., 0] - 0.5).clip(0, width - 1)
    v = (pixels_px[..., 1] - 0.5).clip(0, height - 1)
    u0, v0 = _floor_index(u, width - 2), _floor_index(v, height - 2)
    u1, v1 = (u0 + 1).clip(0, width - 1), (v0 + 1).clip(0, height - 1)
    fu, fv = u - u0, v - v0
    if values.ndim == 3:
        fu, fv = fu[..., None], fv[..., None]
    top = values[v0, u0] * (1 - fu) + values[v0, u1] * fu
    bottom = values[v1, u0] * (1 - fu) + values[v1, u1] * fu
    return top * (1 - fv) + bottom * fv  # pyright: ignore[reportReturnType]


def remap(values: np.ndarray, pixels_px: np.ndarray, interpolation: int = cv2.INTER_LINEAR) -> np.ndarray:
    """`sample_map` at pixels [rows, columns, 2] with OpenCV, faster for whole images; weights are multiples of 1/32."""
    index = (pixels_px - 0.5).astype(np.float32, copy=False)
    parts = np.array_split(index, len(index) // 30_000 + 1)  # OpenCV takes fewer than 32768 rows at a time
    read = [cv2.remap(values, p[..., 0], p[..., 1], interpolation, borderMode=cv2.BORDER_REPLICATE) for p in parts]
    return read[0] if len(read) == 1 else np.concatenate(read)


def sample_frames(maps: "torch.Tensor", pixels_px: "torch.Tensor") -> "torch.Tensor":
    """`sample_map` for many frames, each at its own pixels.

    Args:
        maps: [frames, height, width, channels].
        pixels_px: [frames, points, 2] (u, v); finite.
    Returns:
        [frames, points, channels]; differentiable in both arguments.
    """
    import torch

    return torch.stack([sample_map(values, places) for values, places in zip(maps, pixels_px, strict=True)])


def spread_out(count: int, most: int) -> np.ndarray:
    """At most `most` indices of `count` items, evenly spaced: pixels in raster order stay spread over the image."""
    return np.linspace(0, count - 1, min(most, count)).astype(np.int64)


def nearest_pixel(pixels_px: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Row and column [...] of the pixel that contains each continuous pixel [..., 2], clamped to the image."""
    column = np.clip(np.floor(pixels_px[..., 0]), 0, width - 1).astype(np.int64)
    row = np.clip(np.floor(pixels_px[..., 1]), 0, height - 1).astype(np.int64)
    return row, column


def inside_image(pixels_px: ArrayT, height: int, width: int) -> ArrayT:
    """Whether pixels [..., 2] lie in the image rectangle [0, width) x [0, height)."""
    u, v = pixels_px[..., 0], pixels_px[..., 1]
    return (u >= 0) & (u < width) & (v >= 0) & (v < height)


def covered_pixels(pixels_px: np.ndarray, height: int, width: int, *, hole_px: int) -> np.ndarray:
    """[height, width] bool: pixels covered by positions [points, 2], after closing holes of up to `hole_px`; NaN is ignored."""
    row, column = nearest_pixel(pixels_px[inside_image(pixels_px, height, width)], height, width)
    reach = hole_px // 2
    covered = np.zeros((height + 2 * reach, width + 2 * reach), np.uint8)  # padded: else regions would grow to the border
    covered[row + reach, column + reach] = 1
    closed = cv2.morphologyEx(covered, cv2.MORPH_CLOSE, np.ones((hole_px, hole_px), np.uint8))
    return closed[reach : reach + height, reach : reach + width] > 0


def _floor_index(value: ArrayT, last: int) -> ArrayT:
    if isinstance(value, np.ndarray | np.generic):
        return np.clip(np.floor(value), 0, max(last, 0)).astype(np.int64)
    return value.detach().floor().long().clamp(0, max(last, 0))
