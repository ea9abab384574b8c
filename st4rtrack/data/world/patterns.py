"""Procedural textures: periodic noise, wood, tiles, bricks, cloth, grass, façades; and photographs from a folder."""

import functools
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

SIZE = 256
FINEST = 110.0
"""Frequency in waves per texture from which noise fades, so that enlarged textures show no texels."""


@functools.lru_cache(maxsize=64)
def noise(seed: int, slope: float, channels: int = 1, stretch: float = 1.0) -> np.ndarray:
    """Periodic noise [SIZE, SIZE, channels], mean 0, deviation 1, with a spectrum of frequency ** -slope."""
    rng = np.random.default_rng((seed, 77))
    fy, fx = np.fft.fftfreq(SIZE)[:, None] * SIZE, np.fft.rfftfreq(SIZE)[None] * SIZE
    radius = np.hypot(fy * stretch, fx / stretch)
    fine = np.exp(-np.square(radius / FINEST))
    radius[0, 0] = np.inf
    layers = []
    for _ in range(channels):
        spectrum = np.fft.rfft2(rng.standard_normal((SIZE, SIZE))) * (radius**-slope * fine)
        layer = np.fft.irfft2(spectrum, (SIZE, SIZE))
        layers.append(layer / layer.std())
    return np.stack(layers, -1).astype(np.float32)


def _draw_noise(rng: np.random.Generator, slope: float, channels: int = 1, stretch: float = 1.0) -> np.ndarray:
    return noise(int(rng.integers(40)), slope, channels, stretch)


def _tint(colour: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Display colours [S, S, 3] uint8 from a colour [3] in [0, 1] times brightness [S, S, 1 or 3]."""
    return (np.clip(colour * value, 0, 1) * 255).astype(np.uint8)


def random_colour(rng: np.random.Generator, saturation: float = 0.5, low: float = 0.15, high: float = 0.95) -> np.ndarray:
    """Draw a display colour [3]."""
    hue, value = rng.random(), rng.uniform(low, high)
    wheel = np.clip(np.abs((hue * 6 + np.array([0, 4, 2])) % 6 - 3) - 1, 0, 1)
    return value * (1 - saturation * rng.random() * (1 - wheel))


def _cells(rng: np.random.Generator, rows: int, columns: int, offset: float = 0.0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Grid of cells: random value in [0, 1) per cell, distance to the cell border across and down in cells, each [S, S]."""
    y, x = (np.arange(SIZE) + 0.5)[:, None] / SIZE * rows, (np.arange(SIZE) + 0.5)[None] / SIZE * columns
    row = np.floor(y).astype(int)
    shifted = (x + row * offset) % columns
    column = np.floor(shifted).astype(int)
    value = rng.random((rows, columns))[row, column]
    return value, np.abs(shifted % 1 - 0.5), np.broadcast_to(np.abs(y % 1 - 0.5), shifted.shape)


def plaster(rng: np.random.Generator) -> np.ndarray:
    """Painted wall, nearly uniform."""
    seed, amount = int(rng.integers(40)), rng.uniform(0.004, 0.02)
    return _tint(random_colour(rng, rng.choice([0.1, 0.1, 0.4]), 0.5, 0.97), 1 + amount * noise(seed, rng.choice([1.3, 1.8])))


def wallpaper(rng: np.random.Generator) -> np.ndarray:
    """Wallpaper with stripes or a repeated ornament."""
    base, other = random_colour(rng, 0.4, 0.5, 0.95), random_colour(rng, 0.5, 0.3, 0.9)
    n = int(rng.choice([4, 8, 16]))
    _value, across, down = _cells(rng, n, n, rng.choice([0, 0.5]))
    kind = rng.integers(3)
    mask = (
        across > 0.25
        if kind == 0
        else np.hypot(across, down) < rng.uniform(0.15, 0.4)
        if kind == 1
        else (across + down) % 0.5 < 0.18
    )
    return _tint(np.where(mask[..., None], other, base), 1 + 0.03 * _draw_noise(rng, 1.0))


def planks(rng: np.random.Generator) -> np.ndarray:
    """Wooden floor with boards along v."""
    value, across, down = _cells(rng, int(rng.choice([1, 2])), int(rng.choice([6, 8, 12])), 0.5)
    grain = _draw_noise(rng, 1.2, 1, 5.0)[..., 0]
    tone = np.array([0.62, 0.42, 0.26]) * rng.uniform(0.5, 1.4) * np.array([1, rng.uniform(0.9, 1.15), rng.uniform(0.8, 1.5)])
    shade = 0.8 + 0.3 * value + 0.07 * grain
    shade = np.where((across > 0.475) | (down > 0.495), shade * 0.5, shade)
    return _tint(tone, shade[..., None])


def wood(rng: np.random.Generator) -> np.ndarray:
    """Plain wood with grain."""
    grain = _draw_noise(rng, 1.2, 1, 6.0)
    tone = np.array([0.6, 0.4, 0.24]) * rng.uniform(0.4, 1.5) * np.array([1, rng.uniform(0.9, 1.15), rng.uniform(0.8, 1.5)])
    return _tint(tone, 1 + 0.1 * grain)


def tiles(rng: np.random.Generator) -> np.ndarray:
    """Square tiles with joints, plain or chequered."""
    n = int(rng.choice([2, 4, 6]))
    value, across, down = _cells(rng, n, n)
    base, other = random_colour(rng, 0.3, 0.4, 0.95), random_colour(rng, 0.3, 0.2, 0.95)
    parity = (np.floor(np.arange(SIZE) / SIZE * n)[:, None] + np.floor(np.arange(SIZE) / SIZE * n)[None]) % 2
    colour = np.where((parity > 0)[..., None] & (rng.random() < 0.4), other, base)
    joint = np.maximum(across, down) > 0.5 - 0.02 * n / 4
    shade = np.where(joint, rng.uniform(0.5, 1.1), 0.93 + 0.1 * value + 0.02 * _draw_noise(rng, 1.3)[..., 0])
    return _tint(colour, shade[..., None])


def bricks(rng: np.random.Generator) -> np.ndarray:
    """Brick or stone wall."""
    rows = int(rng.choice([8, 12, 16]))
    value, across, down = _cells(rng, rows, rows // 2 // 2 * 2, 0.5)
    base = np.array([0.6, 0.33, 0.25]) if rng.random() < 0.6 else random_colour(rng, 0.2, 0.4, 0.8)
    shade = 0.75 + 0.4 * value + 0.12 * _draw_noise(rng, 0.8)[..., 0]
    joint = (across > 0.47) | (down > 0.44)
    return _tint(np.where(joint[..., None], rng.uniform(0.5, 0.8), base), np.where(joint, 1, shade)[..., None])


def rough(rng: np.random.Generator) -> np.ndarray:
    """Concrete, asphalt, sand, earth, carpet: noise about a dull colour."""
    base = random_colour(rng, 0.25, 0.25, 0.75)
    fine, coarse = _draw_noise(rng, 0.3), _draw_noise(rng, 1.5)
    return _tint(base, 1 + rng.uniform(0.03, 0.16) * fine + rng.uniform(0.03, 0.12) * coarse)


def asphalt(rng: np.random.Generator) -> np.ndarray:
    """Grey road surface."""
    return _tint(np.full(3, rng.uniform(0.25, 0.5)), 1 + 0.1 * _draw_noise(rng, 0.2) + 0.08 * _draw_noise(rng, 1.6))


def paving(rng: np.random.Generator) -> np.ndarray:
    """Paving stones."""
    rows = int(rng.choice([3, 4, 8]))
    value, across, down = _cells(rng, rows, rows, rng.choice([0, 0.5]))
    base = random_colour(rng, 0.15, 0.4, 0.7)
    shade = np.where(np.maximum(across, down) > 0.46, 0.6, 0.85 + 0.2 * value) + 0.06 * _draw_noise(rng, 0.6)[..., 0]
    return _tint(base, shade[..., None])


def grass(rng: np.random.Generator) -> np.ndarray:
    """Lawn, meadow, dry grass, leaves on the ground."""
    base = np.array([rng.uniform(0.25, 0.5), rng.uniform(0.38, 0.55), rng.uniform(0.12, 0.25)])
    fine = _draw_noise(rng, 0.4, 3)
    coarse = _draw_noise(rng, 1.5)
    return _tint(base, 1 + 0.22 * fine.mean(-1, keepdims=True) + 0.06 * fine + 0.15 * coarse)


def cloth(rng: np.random.Generator) -> np.ndarray:
    """Fabric of clothes: plain, denim, stripes, checks, dots, prints."""
    base, other = random_colour(rng, rng.choice([0.3, 0.9]), 0.06, 0.95), random_colour(rng, 0.7, 0.06, 0.95)
    kind, n = rng.choice(7, p=[0.3, 0.12, 0.12, 0.08, 0.06, 0.2, 0.12]), int(rng.choice([8, 16, 24]))
    _value, across, down = _cells(rng, n, n, 0.0)
    mix = np.zeros((SIZE, SIZE))
    if kind == 1:
        mix = (down > 0.25) * 1.0
    elif kind == 2:
        mix = (down > 0.3) * 0.5 + (across > 0.3) * 0.5
    elif kind == 3:
        mix = (np.hypot(across, down) < 0.25) * 1.0
    elif kind == 4:
        mix = np.clip(_draw_noise(rng, 1.4)[..., 0] * 2, 0, 1)
    elif kind == 5:
        base = np.array([0.2, 0.28, 0.45]) * rng.uniform(0.5, 1.6)
    weave = 1 + rng.uniform(0.02, 0.1) * _draw_noise(rng, 0.3)[..., 0] + 0.06 * _draw_noise(rng, 1.6)[..., 0]
    return _tint(base + (other - base) * mix[..., None], weave[..., None])


def skin(rng: np.random.Generator) -> np.ndarray:
    """Skin of any tone."""
    tones = np.array([[0.93, 0.76, 0.66], [0.85, 0.65, 0.52], [0.74, 0.53, 0.40], [0.55, 0.37, 0.27], [0.36, 0.24, 0.18]])
    return _tint(tones[rng.integers(5)] * rng.uniform(0.92, 1.05), 1 + 0.03 * _draw_noise(rng, 1.2))


def leather(rng: np.random.Generator) -> np.ndarray:
    """Leather of shoes."""
    return _tint(random_colour(rng, rng.choice([0.2, 0.7]), 0.05, 0.6), 1 + 0.05 * _draw_noise(rng, 1.0))


def hair(rng: np.random.Generator) -> np.ndarray:
    """Hair with strands."""
    tones = np.array(
        [[0.08, 0.07, 0.06], [0.2, 0.13, 0.09], [0.35, 0.22, 0.12], [0.65, 0.5, 0.28], [0.5, 0.25, 0.12], [0.6, 0.6, 0.6]]
    )
    return _tint(tones[rng.integers(6)], 1 + 0.18 * _draw_noise(rng, 0.9, 1, 4.0))


def facade(rng: np.random.Generator) -> np.ndarray:
    """Window in a wall (one storey, one window axis); repeats over a house front."""
    wall_image = (bricks if rng.random() < 0.35 else plaster)(rng)
    image = wall_image.astype(np.float32)
    w, top, bottom = rng.integers(50, 95), rng.integers(50, 80), rng.integers(180, 215)
    frame = random_colour(rng, 0.3, 0.2, 0.98) * 255
    glass = np.linspace(rng.uniform(60, 190), rng.uniform(20, 90), bottom - top)[:, None, None] * np.array([0.8, 0.95, 1.1])
    c = SIZE // 2
    image[top - 8 : bottom + 10, c - w - 8 : c + w + 8] = frame
    image[top:bottom, c - w : c + w] = glass
    for k in range(1, int(rng.integers(2, 4))):
        at = c - w + 2 * w * k // 3
        image[top:bottom, at - 3 : at + 3] = frame
    if rng.random() < 0.5:
        image[(top + bottom) // 2 - 3 : (top + bottom) // 2 + 3, c - w : c + w] = frame
    if rng.random() < 0.5:
        image[top - 2 : top + int(rng.integers(20, 60)), c - w : c + w] *= rng.uniform(0.4, 1.6)
    image[bottom + 10 : bottom + 18, c - w - 12 : c + w + 12] *= 0.6
    if rng.random() < 0.4:
        image[-8:] *= 0.8
    return np.clip(image, 0, 255).astype(np.uint8)


def leafage(rng: np.random.Generator) -> np.ndarray:
    """Distant tree on a transparent background, RGBA: a crown of leaves on a trunk."""
    v, u = np.meshgrid(np.linspace(0, 1, SIZE), np.linspace(-1, 1, SIZE), indexing="ij")
    tall = rng.uniform(0.55, 0.85)
    kind = rng.integers(3)
    width = (
        (v / tall)
        if kind == 0
        else np.sqrt(np.clip(1 - np.square(2 * v / tall - 1), 0, 1))
        if kind == 1
        else np.sin(np.pi * np.clip(v / tall, 0, 1)) ** 0.5
    )
    crown = (v < tall) * width * rng.uniform(0.6, 0.95) - np.abs(u)
    seed = int(rng.integers(40))
    opaque = crown + 0.18 * noise(seed, 1.0)[..., 0] > 0.1
    base = np.array([rng.uniform(0.15, 0.4), rng.uniform(0.3, 0.5), rng.uniform(0.08, 0.25)])
    image = _tint(base, (0.9 + 0.25 * noise(seed, 0.7) - 0.3 * (v - 0.3)[..., None]))
    trunk = (np.abs(u) < 0.05 + 0.02 * v) & (v > 0.3) & ~opaque
    image[trunk] = np.array([80, 62, 48]) * rng.uniform(0.6, 1.3)
    return np.dstack([image, np.where(opaque | trunk, 255, 0).astype(np.uint8)])


FLOORS: tuple[Callable[[np.random.Generator], np.ndarray], ...] = (planks, planks, tiles, rough, planks, wood)
WALLS: tuple[Callable[[np.random.Generator], np.ndarray], ...] = (*[plaster] * 8, wallpaper, bricks, wood, tiles)


def read_picture(path: Path, rng: np.random.Generator) -> np.ndarray | None:
    """Read a random square crop of a photograph, RGB; None if it cannot be read."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        return None
    height, width = image.shape[:2]
    side = int(min(height, width) * rng.uniform(0.5, 1.0))
    y, x = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
    return np.ascontiguousarray(image[y : y + side, x : x + side, ::-1])


def mirrored_tile(image: np.ndarray) -> np.ndarray:
    """Make an image periodic by appending its mirror images to the right and below."""
    wide = np.concatenate([image, image[:, ::-1]], 1)
    return np.ascontiguousarray(np.concatenate([wide, wide[::-1]], 0))


def gradient_sky(rng: np.random.Generator) -> np.ndarray:
    """Procedural sky [64, 128, 3], linear: clear, hazy or cloudy, brighter at the horizon, dim below it."""
    up = np.cos((np.arange(64) + 0.5) / 64 * np.pi)[:, None, None]
    clear = rng.random() < 0.6
    zenith = np.array([0.25, 0.45, 0.95]) * rng.uniform(0.6, 1.3) if clear else np.full(3, rng.uniform(0.5, 1.1))
    horizon = np.array([0.8, 0.95, 1.15]) * rng.uniform(0.7, 1.2) if clear else np.full(3, rng.uniform(0.6, 1.1))
    sky = horizon + (zenith - horizon) * np.clip(up, 0, 1) ** rng.uniform(0.4, 0.8)
    clouds = cv2.resize(_draw_noise(rng, 1.5)[..., 0], (128, 64))[..., None]
    cover = rng.uniform(0, 0.7)
    sky = sky + (1.2 - sky) * np.clip(clouds * 0.5 + cover - 0.3, 0, 1) * np.clip(up * 6, 0, 1)
    return np.where(up < 0, 0.3 * horizon, sky).astype(np.float32) * np.ones((1, 128, 1), np.float32)
