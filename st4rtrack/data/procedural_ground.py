"""Uneven ground: height fields that are sums of smooth waves, and their ray intersection.

`waves` [..., 4, K] holds amplitude (metres), two wave numbers (radians per metre along x and z) and phase of K waves. The ground
is at y = sum of amplitude * sin(k . xz + phase), with y pointing down.
"""

import math
from collections.abc import Iterator, Sequence

import torch

from st4rtrack.data.procedural_config import Sampler

NUM_WAVES = 3
MARCH_STEPS = 20
BISECTIONS, SECANTS = 3, 4


def sample_waves(sampler: Sampler, terrain: torch.Tensor, lowest_eye_m: torch.Tensor) -> torch.Tensor:
    """Sample waves [B, 4, K] whose sum stays well below the camera everywhere; zero where `terrain` [B] is false."""
    length = sampler.log_uniform(3.5, 16.0, NUM_WAVES)
    angle = sampler.uniform(0, 2 * math.pi, NUM_WAVES)
    number = 2 * math.pi / length
    amplitude = sampler.uniform(0.05, 0.35, NUM_WAVES) / number
    limit = 0.55 * lowest_eye_m[:, None] / amplitude.sum(1, keepdim=True)
    amplitude = amplitude * limit.clamp(max=1.0) * terrain[:, None]
    phase = sampler.uniform(0, 2 * math.pi, NUM_WAVES)
    return torch.stack([amplitude, number * torch.cos(angle), number * torch.sin(angle), phase], 1)


def columns_of(waves: torch.Tensor) -> list[torch.Tensor]:
    """Unpack waves [V, 4, K] into 4 K columns [V, 1]: all amplitudes, all wave numbers along x, all along z, all phases."""
    return list(waves.flatten(1)[..., None].unbind(1))


def _waves_at(columns: Sequence[torch.Tensor], x: torch.Tensor, z: torch.Tensor) -> Iterator[tuple[torch.Tensor, ...]]:
    """For each wave: amplitude, two wave numbers, and phase angle at x, z."""
    count = len(columns) // 4
    for k in range(count):
        amplitude, along_x, along_z, phase = columns[k::count]
        yield amplitude, along_x, along_z, along_x * x + along_z * z + phase


def ground_y(columns: Sequence[torch.Tensor], x: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
    """y of the ground at x, z (any shape that broadcasts with the columns)."""
    return torch.stack([amplitude * torch.sin(angle) for amplitude, _, _, angle in _waves_at(columns, x, z)]).sum(0)


def ground_slope(columns: Sequence[torch.Tensor], x: torch.Tensor, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Derivatives of `ground_y` with respect to x and z."""
    by_x, by_z = torch.zeros_like(x), torch.zeros_like(x)
    for amplitude, along_x, along_z, angle in _waves_at(columns, x, z):
        slope = amplitude * torch.cos(angle)
        by_x, by_z = by_x + along_x * slope, by_z + along_z * slope
    return by_x, by_z


def meet_ground(
    x: torch.Tensor,
    y: torch.Tensor,
    z: torch.Tensor,
    dx: torch.Tensor,
    dy: torch.Tensor,
    dz: torch.Tensor,
    *columns: torch.Tensor,
) -> torch.Tensor:
    """Ray parameter where rays from (x, y, z) along (dx, dy, dz) first meet the ground: [1, ...].

    The origin is above all waves. The ground lies between the planes y = -A and y = A (A is the sum of amplitudes). A descending
    ray (dy > 0) always has a root between them; for other rays the result is meaningless. The root is bracketed by steps of equal
    ratio (a few per cent; a crest crossed for less than that is missed, under a pixel wide), then refined by bisection and by a
    secant method to 1e-4 of the distance.
    """
    reach = sum(amplitude.abs() for amplitude in columns[: len(columns) // 4])
    inverse = 1.0 / dy.clamp(min=1e-5)
    low, end = (-reach - y) * inverse, (reach - y) * inverse
    ratio = (end / low.clamp(min=1e-6)) ** (1.0 / MARCH_STEPS)

    def clearance(t: torch.Tensor) -> torch.Tensor:
        return ground_y(columns, x + dx * t, z + dz * t) - (y + dy * t)

    high, t, found = end, low, torch.zeros_like(low, dtype=torch.bool)
    low_value, high_value = clearance(low), torch.full_like(low, -1.0)
    for _ in range(MARCH_STEPS):
        t = t * ratio
        value = clearance(t)
        below = value <= 0
        first, free = below & ~found, ~(below | found)
        high, high_value = torch.where(first, t, high), torch.where(first, value, high_value)
        low, low_value = torch.where(free, t, low), torch.where(free, value, low_value)
        found = found | below
    kept_high = kept_low = torch.zeros_like(found)
    for step in range(BISECTIONS + SECANTS):
        share = (low_value / (low_value - high_value).clamp(min=1e-12)).clamp(0, 1) if step >= BISECTIONS else 0.5
        t = low + (high - low) * share
        value = clearance(t)
        below = value <= 0
        # Illinois method: halve the value of an end that is retained twice, so that both ends converge.
        low_value = torch.where(below, torch.where(kept_low, 0.5 * low_value, low_value), value)
        high_value = torch.where(below, value, torch.where(kept_high, 0.5 * high_value, high_value))
        high, low = torch.where(below, t, high), torch.where(below, low, t)
        kept_low, kept_high = below, ~below
    return t[None]
