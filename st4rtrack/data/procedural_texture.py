"""Procedural texture atlas, packed for look-ups with one gather per texel.

Every texture is periodic (it tiles), has three channels that a scene mixes into its own colours, and has several
mip levels so that distant surfaces do not alias.
"""

import math
from collections.abc import Callable
from functools import lru_cache

import torch
import torch.nn.functional as F

TEXTURE_SIZE = 256
MIP_LEVELS = 7
NUM_TEXTURES = 64
NUM_KINDS = 8
FIRST_CLEAN = 32
"""First texture with almost no grain; these repeat exactly."""
REGULAR_KINDS = (3, 4, 5, 6)
"""Kinds of regular patterns: bricks, checks, stripes, dots."""


def value_noise(generator: torch.Generator, cells: int, channels: int = 3) -> torch.Tensor:
    """Periodic smooth noise in [0, 1], [channels, size, size], with `cells` random values per side."""
    grid = torch.rand((1, channels, cells, cells), generator=generator)
    if cells >= TEXTURE_SIZE:
        return grid[0]
    padded = F.pad(grid, (2, 2, 2, 2), mode="circular") if cells >= 2 else grid.expand(-1, -1, 5, 5)
    step = TEXTURE_SIZE // cells
    smooth = F.interpolate(padded, scale_factor=step, mode="bicubic", align_corners=False)
    return smooth[0, :, 2 * step : 2 * step + TEXTURE_SIZE, 2 * step : 2 * step + TEXTURE_SIZE].clamp(0, 1)


def octaves(generator: torch.Generator, first: int, gain: float, channels: int = 3) -> torch.Tensor:
    """Sum of octaves of value noise from `first` cells per side up to single texels; `gain` is the weight ratio of octaves."""
    total = torch.zeros(channels, TEXTURE_SIZE, TEXTURE_SIZE)
    weight, norm, cells = 1.0, 0.0, first
    while cells <= TEXTURE_SIZE:
        total += weight * (value_noise(generator, cells, channels) - 0.5)
        norm += weight * weight
        weight, cells = weight * gain, cells * 2
    return (0.5 + 0.9 * total / math.sqrt(norm)).clamp(0, 1)


def _pixel_grid() -> tuple[torch.Tensor, torch.Tensor]:
    axis = (torch.arange(TEXTURE_SIZE) + 0.5) / TEXTURE_SIZE
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return y, x


def _pick(generator: torch.Generator, options: tuple[int, ...]) -> int:
    return options[int(torch.randint(len(options), (1,), generator=generator))]


def _clouds(generator: torch.Generator) -> torch.Tensor:
    gain = 0.6 + 0.35 * float(torch.rand((), generator=generator))
    return octaves(generator, _pick(generator, (4, 8, 16)), gain)


def _blotches(generator: torch.Generator) -> torch.Tensor:
    base = octaves(generator, _pick(generator, (4, 8, 16)), 0.55)
    return torch.sigmoid((base - 0.5) * 22)


def _checks(generator: torch.Generator) -> torch.Tensor:
    y, x = _pixel_grid()
    rows, columns = _pick(generator, (2, 4, 8)), _pick(generator, (2, 4, 8))
    parity = ((y * rows).floor() + (x * columns).floor()) % 2
    cell = torch.rand((3, rows, columns), generator=generator)
    shade = cell[:, (y * rows).long(), (x * columns).long()]
    return 0.6 * parity + 0.4 * shade


def _patches(generator: torch.Generator) -> torch.Tensor:
    y, x = _pixel_grid()
    count = _pick(generator, (16, 40, 90))
    seeds = torch.rand((2, count), generator=generator)
    dy = (y[..., None] - seeds[0]).abs()
    dx = (x[..., None] - seeds[1]).abs()
    distance = torch.minimum(dy, 1 - dy) ** 2 + torch.minimum(dx, 1 - dx) ** 2
    return torch.rand((3, count), generator=generator)[:, distance.argmin(-1)]


def _bricks(generator: torch.Generator) -> torch.Tensor:
    y, x = _pixel_grid()
    rows, columns = _pick(generator, (4, 8, 16)), _pick(generator, (2, 4, 8))
    row = (y * rows).floor()
    across = (x * columns + 0.5 * (row % 2)) % columns
    shade = torch.rand((3, rows, columns), generator=generator)[:, row.long(), across.long()]
    edge = torch.minimum((y * rows) % 1, across % 1)
    return torch.where(edge < 0.08, 0.1 + 0.1 * shade, 0.3 + 0.7 * shade)


def _stripes(generator: torch.Generator) -> torch.Tensor:
    y, x = _pixel_grid()
    warp = value_noise(generator, 4, 1)[0] * float(torch.rand((), generator=generator))
    turns = torch.randint(-6, 7, (3, 2), generator=generator)
    turns[0, 0] += 8
    phase = turns[:, :1, None] * y + turns[:, 1:, None] * x + warp
    return 0.5 + 0.5 * torch.tanh(3 * torch.sin(2 * math.pi * phase))


def _dots(generator: torch.Generator) -> torch.Tensor:
    y, x = _pixel_grid()
    count = _pick(generator, (4, 8))
    radius = 0.1 + 0.35 * torch.rand((count, count), generator=generator)
    row, column = (y * count).long(), (x * count).long()
    distance = torch.hypot((y * count) % 1 - 0.5, (x * count) % 1 - 0.5)
    inside = torch.sigmoid((radius[row, column] - distance) * 40)
    shade = torch.rand((3, count, count), generator=generator)[:, row, column]
    return inside * shade + (1 - inside) * (1 - shade.mean())


_KINDS: tuple[Callable[[torch.Generator], torch.Tensor], ...] = (
    _clouds, _blotches, _patches, _bricks, _checks, _stripes, _dots, _clouds,
)  # fmt: skip


def make_texture(index: int) -> torch.Tensor:
    """Texture number `index` as [3, size, size] float in [0, 1]; deterministic."""
    generator = torch.Generator().manual_seed(7919 * index + 11)
    pattern = _KINDS[index % len(_KINDS)](generator)
    # Few real surfaces have one colour down to the pixel: fine grain and large stains on the first half.
    grain = octaves(generator, _pick(generator, (16, 32)), 0.8)
    stains = octaves(generator, 2, 0.5, 1)
    amount = 0.15 + 0.35 * float(torch.rand((), generator=generator))
    clean = 0.15 if index >= FIRST_CLEAN else 1.0
    return ((1 - clean * amount) * pattern + clean * (amount * grain + 0.25 * (stains - 0.5))).clamp(0, 1)


@lru_cache(maxsize=4)
def texture_atlas(device: torch.device) -> tuple[torch.Tensor, int]:
    """Texels of all textures on a device, and the number of textures; built once per process (about a second).

    Texels [levels and textures and pixels, flat] int32: three bytes each, coarsest level last.
    """
    level = torch.stack([make_texture(index) for index in range(NUM_TEXTURES)])
    packed = []
    for _ in range(MIP_LEVELS):
        bytes_ = (level * 255 + 0.5).to(torch.int32)
        packed.append((bytes_[:, 0] | (bytes_[:, 1] << 8) | (bytes_[:, 2] << 16)).reshape(-1))
        level = F.avg_pool2d(level, 2)
    return torch.cat(packed).to(device), NUM_TEXTURES


def _channels(packed: torch.Tensor) -> torch.Tensor:
    """Unpack texels [S, N] to [S, 3, N] floats in 0..255."""
    return torch.stack([packed & 255, (packed >> 8) & 255, (packed >> 16) & 255], 1).float()


def sample_texture(
    texels: torch.Tensor, texture: torch.Tensor, uv: torch.Tensor, footprint: torch.Tensor, num_textures: int
) -> torch.Tensor:
    """Look up textures bilinearly at the nearest mip level.

    texels: flat atlas. texture [S, N] int64. uv [S, 2, N], one tile per unit. footprint [S, N]: width of a pixel
    in tiles. Returns [S, 3, N] in [0, 1].
    """
    level = torch.log2((footprint * TEXTURE_SIZE).clamp(min=1.0)) + 0.3
    level = level.long().clamp(max=MIP_LEVELS - 1)
    size = torch.full_like(level, TEXTURE_SIZE) >> level
    # Levels are stored one after another: a geometric series of squares.
    start = (TEXTURE_SIZE * TEXTURE_SIZE - size * size) // 3 * 4 * num_textures + texture * size * size
    position = uv * size[:, None] - 0.5
    corner = position.floor()
    fraction = position - corner
    mask = size - 1
    column, row = corner[:, 0].long(), corner[:, 1].long()
    left, right = column & mask, (column + 1) & mask
    top, bottom = start + (row & mask) * size, start + ((row + 1) & mask) * size
    fx, fy = fraction[:, :1], fraction[:, 1:]
    upper = torch.lerp(_channels(texels[top + left]), _channels(texels[top + right]), fx)
    lower = torch.lerp(_channels(texels[bottom + left]), _channels(texels[bottom + right]), fx)
    return torch.lerp(upper, lower, fy) * (1.0 / 255.0)
