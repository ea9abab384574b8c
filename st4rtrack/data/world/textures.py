"""Textures with mip levels in one flat array of texels, with vectorised bilinear look-up."""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

LOG_LARGEST = 8


@dataclass(frozen=True)
class Textures:
    """N textures of power-of-two sizes."""

    texels: np.ndarray  # [all texels] int32, four bytes RGBA each; the levels of a texture are contiguous, finest first
    start: np.ndarray  # [N] int64 index of the first texel
    log_size: np.ndarray  # [N, 2] int32 base-2 logarithm of width and height

    def texels_of(self, number: int) -> np.ndarray:
        """Texels of all levels of one texture."""
        stop = self.start[number + 1] if number + 1 < len(self.start) else len(self.texels)
        return self.texels[self.start[number] : stop]


def pyramid(image: np.ndarray) -> tuple[np.ndarray, tuple[int, int]]:
    """Texels of all levels, and log2 of width and height, of an image [H, W, 3 or 4] uint8 RGB(A)."""
    if image.shape[2] == 3:
        image = np.dstack([image, np.full(image.shape[:2], 255, np.uint8)])
    width, height = (min(max(round(np.log2(side)), 0), LOG_LARGEST) for side in (image.shape[1], image.shape[0]))
    logs, parts = (width, height), []
    level = cv2.resize(image, (1 << width, 1 << height), interpolation=cv2.INTER_AREA)
    while True:
        parts.append(np.ascontiguousarray(level).reshape(-1, 4).view(np.int32).ravel())
        if level.shape[0] == 1 and level.shape[1] == 1:
            return np.concatenate(parts), logs
        size = (max(level.shape[1] // 2, 1), max(level.shape[0] // 2, 1))
        level = cv2.resize(level, size, interpolation=cv2.INTER_AREA).reshape(size[1], size[0], 4)


def join_textures(parts: Sequence[tuple[np.ndarray, tuple[int, int]]]) -> Textures:
    """Join textures, as returned by `pyramid`, into one store."""
    lengths = np.array([len(texels) for texels, _ in parts], np.int64)
    texels = np.concatenate([texels for texels, _ in parts]) if parts else np.zeros(0, np.int32)
    logs = np.array([logs for _, logs in parts], np.int32).reshape(-1, 2)
    return Textures(texels, np.cumsum(lengths) - lengths, logs)


def select_textures(textures: Textures, numbers: Sequence[int]) -> list[tuple[np.ndarray, tuple[int, int]]]:
    """Select textures of a store, for `join_textures`."""
    return [(textures.texels_of(n), (int(textures.log_size[n, 0]), int(textures.log_size[n, 1]))) for n in numbers]


_CHAIN = np.zeros((12, 12, 12), np.int64)
"""Number of texels before a level, by log2 width, log2 height and level."""
for _w in range(12):
    for _h in range(12):
        for _level in range(1, 12):
            _before = (1 << max(_w - _level + 1, 0)) * (1 << max(_h - _level + 1, 0))
            _CHAIN[_w, _h, _level] = _CHAIN[_w, _h, _level - 1] + _before


def sample(textures: Textures, number: np.ndarray, uv: np.ndarray, footprint: np.ndarray) -> np.ndarray:
    """Look up textures bilinearly at the nearest mip level: [P, 4] float32 RGBA in [0, 1], as stored (display values).

    Args:
        number: [P] texture of each pixel.
        uv: [P, 2], one tile per unit, v up as in OBJ files.
        footprint: [P] width of a pixel in tiles.
    """
    wide, high = textures.log_size[number, 0], textures.log_size[number, 1]
    top = np.maximum(wide, high)
    level = np.log2(np.maximum(footprint, 1e-9)) + top + 0.3
    level = np.clip(level, 0, top).astype(np.int32)
    start = textures.start[number] + _CHAIN[wide, high, level]
    wide, high = np.maximum(wide - level, 0), np.maximum(high - level, 0)
    x = uv[:, 0] * np.ldexp(np.float32(1), wide) - 0.5
    y = -uv[:, 1] * np.ldexp(np.float32(1), high) - 0.5
    left, top_row = np.floor(x), np.floor(y)
    fx, fy = (x - left).astype(np.float32)[:, None], (y - top_row).astype(np.float32)[:, None]
    column, row = left.astype(np.int64), top_row.astype(np.int64)
    mask_x, mask_y = (np.int64(1) << wide.astype(np.int64)) - 1, (np.int64(1) << high.astype(np.int64)) - 1
    c0, c1 = column & mask_x, (column + 1) & mask_x
    r0, r1 = start + ((row & mask_y) << wide), start + (((row + 1) & mask_y) << wide)

    def texel(at: np.ndarray) -> np.ndarray:
        return np.take(textures.texels, at).view(np.uint8).reshape(-1, 4).astype(np.float32)

    upper, lower = texel(r0 + c0), texel(r1 + c0)
    upper += (texel(r0 + c1) - upper) * fx
    lower += (texel(r1 + c1) - lower) * fx
    upper += (lower - upper) * fy
    upper *= 1 / 255
    return upper
