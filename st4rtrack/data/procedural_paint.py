"""Appearance of the procedural world: surface textures and colours, light, sky, and camera effects."""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from st4rtrack.data.augment import through_jpeg
from st4rtrack.data.procedural_camera import CameraPath
from st4rtrack.data.procedural_config import ProceduralConfig, Sampler
from st4rtrack.data.procedural_texture import FIRST_CLEAN, NUM_KINDS, NUM_TEXTURES, REGULAR_KINDS

SKY_FACE = 3
"""Face of part 0 that holds the sky; the ground uses face 2, so this face is free outdoors."""
SUN_M = 60.0


@dataclass(frozen=True)
class Light:
    """Lamp, or sun far away."""

    position: torch.Tensor  # [B, 3] in the world
    ambient: torch.Tensor  # [B, 3]
    diffuse: torch.Tensor  # [B, 3]
    haze: torch.Tensor  # [B, 4]: colour, 1 / metres


@dataclass(frozen=True)
class Optics:
    """Camera effects over a clip; [B] except `gain`."""

    gain: torch.Tensor  # [B, F, 3]
    gamma: torch.Tensor
    blur: torch.Tensor
    noise: torch.Tensor
    shutter: torch.Tensor  # share of the time between frames
    defocus: torch.Tensor  # integer, passes of a filter
    jpeg: torch.Tensor  # integer, quality; 0 for none


def _textures(sampler: Sampler, parts: int, own: torch.Tensor, regular: torch.Tensor) -> torch.Tensor:
    """Texture numbers [B, P, 6]: one per face where `own` [B, P], else one per part; `regular` parts get grain-free textures."""
    shared = sampler.integer(NUM_TEXTURES, parts, 1).expand(-1, -1, 6)
    single = sampler.integer(NUM_TEXTURES, parts, 6)
    texture = torch.where(own[..., None], single, shared)
    rounds = (NUM_TEXTURES - FIRST_CLEAN) // NUM_KINDS
    clean = FIRST_CLEAN + NUM_KINDS * sampler.integer(rounds, parts, 1)
    clean = clean + torch.tensor(REGULAR_KINDS)[sampler.integer(len(REGULAR_KINDS), parts, 1)]
    return torch.where(regular[..., None], clean, texture)


def _colours(sampler: Sampler, parts: int, own: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Colours as matrices on the texture channels [B, P, 9, 6] and offsets [B, P, 3, 6]; a quarter of the parts nearly plain."""
    backdrop = torch.arange(parts) == 0
    # Dark and light ends of a ramp, and two differences in hue; walls are paler and flatter than objects.
    strength = torch.where(backdrop, 0.7, 1.0) * torch.where(sampler.chance(0.25, parts), sampler.uniform(0.03, 0.25, parts), 1.0)
    strength = strength * torch.where(sampler.chance(0.12, 1), 0.3, 1.0)
    base = sampler.uniform(0.02, 0.55, parts, 1, 6) + sampler.uniform(-0.15, 0.25, parts, 3, 6)
    ramp = sampler.uniform(0.25, 0.9, parts, 1, 1, 6) * sampler.sign(parts, 1, 1, 6)
    weights = torch.softmax(sampler.normal(1.0, parts, 1, 3, 6), 3)
    mix = (ramp * weights + sampler.normal(0.22, parts, 3, 3, 6)) * strength[..., None, None, None]
    base = torch.where(ramp[:, :, 0] < 0, base + 0.45, base)
    # The sides of an object mostly have similar colours.
    alike = (~own).expand(-1, parts)[..., None, None]
    base = torch.where(alike, base[..., :1] + 0.15 * (base - base[..., :1]), base)
    mix = torch.where(alike[..., None], mix[..., :1], mix).reshape(-1, parts, 9, 6)
    # Mostly muted colours: one saturation per scene and per part.
    saturation = (sampler.uniform(0.4, 1.0, 1) * sampler.uniform(0.4, 1.0, parts))[..., None, None]
    muted = saturation * torch.eye(3, dtype=base.dtype) + (1 - saturation) / 3
    return (muted @ mix.reshape(-1, parts, 3, 18)).reshape(-1, parts, 9, 6), muted @ base


def sample_faces(sampler: Sampler, parts: int, outdoors: torch.Tensor) -> torch.Tensor:
    """Sample the paint of the six faces of each part, [B, 19, P * 6]; outdoors [B] bool.

    Rows: 2x2 matrix from metres on the face to texture tiles (0-3), offset in tiles (4-5), texture number (6), and
    the colour as a 3x3 matrix on the texture channels (7-15) with an offset (16-18).
    """
    backdrop = torch.arange(parts) == 0
    regular = sampler.chance(0.2, parts)
    own = backdrop | sampler.chance(0.2, parts)
    tile_m = torch.where(backdrop, sampler.log_uniform(1.2, 4.0, parts), sampler.log_uniform(0.35, 1.6, parts))
    tile_m = tile_m * torch.where(regular, 0.6, 1.0)
    tile_m = tile_m[..., None] * torch.where(backdrop[:, None], sampler.uniform(0.7, 1.4, parts, 6), 1.0)
    angle = sampler.chance(0.4, parts, 6) * sampler.uniform(0, 2 * math.pi, parts, 6)
    frame = torch.stack([torch.cos(angle), torch.sin(angle), -torch.sin(angle), torch.cos(angle)], 2) / tile_m[:, :, None]
    offset = sampler.uniform(0, 1, parts, 2, 6)
    texture = _textures(sampler, parts, own, regular)[:, :, None].double()
    mix, base = _colours(sampler, parts, own)
    rows = torch.cat([frame, offset, texture, mix, base], 2)
    sky = _sky(sampler)
    rows[:, 0, :, SKY_FACE] = torch.where(outdoors[:, None], sky, rows[:, 0, :, SKY_FACE])
    return rows.transpose(1, 2).reshape(-1, 19, parts * 6)


def _sky(sampler: Sampler) -> torch.Tensor:
    """Paint row [B, 19] of the sky: white clouds on blue or two greys, from the cloud textures (every `NUM_KINDS`-th)."""
    tile = sampler.log_uniform(2.5, 9.0)
    zero = torch.zeros_like(tile)
    frame = torch.stack([1 / tile, zero, zero, 1 / tile], -1)
    texture = (sampler.integer(NUM_TEXTURES // NUM_KINDS) * NUM_KINDS)[:, None].double()
    clear = torch.tensor([0.28, 0.5, 0.85], dtype=torch.float64) * sampler.uniform(0.6, 1.0, 1)
    base = torch.where(sampler.chance(0.3, 1), sampler.uniform(0.45, 0.8, 1).expand(-1, 3), clear)
    cloud = (0.9 - base) * sampler.uniform(0.0, 1.1, 1)
    mix = torch.stack([cloud, zero[:, None].expand(-1, 3), zero[:, None].expand(-1, 3)], 2).reshape(-1, 9)
    return torch.cat([frame, sampler.uniform(0, 1, 2), texture, mix, base], 1)


def sample_light(sampler: Sampler, path: CameraPath, outdoors: torch.Tensor) -> Light:
    """Sample a lamp above the scene, or directional light: the sun outdoors, a far window in a third of the rooms."""
    lamp = path.target + torch.stack([sampler.normal(1.5), -sampler.uniform(1.8, 7.0), sampler.normal(1.5)], 1)
    azimuth, height = sampler.uniform(0, 2 * math.pi), sampler.uniform(0.35, 1.4)
    sun = torch.stack([torch.cos(height) * torch.cos(azimuth), -torch.sin(height), torch.cos(height) * torch.sin(azimuth)], 1)
    far = outdoors | sampler.chance(0.33)
    ambient = sampler.uniform(0.35, 0.75, 1) * (1 + sampler.normal(0.05, 3))
    diffuse = sampler.uniform(0.4, 1.0, 1) * (1 + sampler.normal(0.06, 3))
    colour = sampler.uniform(0.6, 0.9, 1) * torch.tensor([0.95, 1.0, 1.06], dtype=torch.float64)
    haze = torch.cat([colour, outdoors[:, None] / sampler.log_uniform(40.0, 600.0, 1)], 1)
    return Light(torch.where(far[:, None], path.target + SUN_M * sun, lamp), ambient, diffuse, haze)


def sample_optics(sampler: Sampler, time: torch.Tensor, config: ProceduralConfig) -> Optics:
    """Sample exposure jitter, drift in a third of the clips, defocus and motion blur in some, JPEG in a share of the clips."""
    frames = time.shape[1]
    wander = sampler.normal(0.06, frames, 1) + sampler.normal(0.01, frames, 3)
    drift = sampler.normal(0.5, 1) * sampler.chance(0.33, 1) * (time - 0.5)
    jpeg = sampler.chance(config.jpeg) * (30 + sampler.integer(66))
    return Optics(
        gain=torch.exp(config.exposure * (wander + drift[..., None])),
        gamma=torch.exp(sampler.normal(0.15)),
        blur=sampler.uniform(0.0, 0.2) * min(config.blur, 1.0),
        noise=sampler.uniform(0.0, 0.025) * config.noise,
        shutter=sampler.uniform(0.1, 0.7) * sampler.chance(0.25) * config.blur,
        defocus=((1 + sampler.integer(5)) * sampler.chance(0.18) * config.blur).long(),
        jpeg=jpeg,
    )


MOTION_TAPS = 7
LONGEST_BLUR = 0.025  # share of the image width


def develop(colour: torch.Tensor, optics: Optics, flow_px: torch.Tensor, seed: int, first: int) -> torch.Tensor:
    """Convert linear colour [B, F, 3, H, W] to images [B, F, H, W, 3] uint8; flow_px [B, F, 2]: mean image motion between frames.

    The noise of a scene is seeded by its number, `first` + row. JPEG is applied on the CPU only.
    """
    pictures = []
    for row, one in enumerate(colour):
        blurred = _motion_blur(_defocus(one, float(optics.defocus[row])), float(optics.shutter[row]) * flow_px[row])
        blurred = _three_taps(blurred, float(optics.blur[row]))
        tone = _tone(blurred, optics.gain[row].to(one), float(optics.gamma[row]))
        generator = torch.Generator(one.device).manual_seed(_mix(seed, first + row))
        noise = torch.randn(one.shape, generator=generator, device=one.device)
        level = noise.mul_(float(optics.noise[row])).add_(tone).clamp_(0, 1).mul_(255).add_(0.5)
        picture = level.to(torch.uint8).permute(0, 2, 3, 1).contiguous()
        quality = int(optics.jpeg[row])
        if quality and one.device.type == "cpu":
            picture = torch.from_numpy(np.stack([through_jpeg(image, quality) for image in picture.numpy()]))
        pictures.append(picture)
    return torch.stack(pictures)


def _mix(seed: int, number: int) -> int:
    """Combine two numbers into one seed."""
    return int(np.random.SeedSequence([seed % (1 << 64), number, 0x5EED]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _three_taps(colour: torch.Tensor, side: float) -> torch.Tensor:
    """Apply the filter (side, 1 - 2 side, side) to [F, 3, H, W] in both directions."""
    if not side:
        return colour
    across = F.pad(colour, (1, 1, 0, 0), mode="replicate")
    colour = torch.lerp(colour, across[..., :-2] + across[..., 2:] - colour, side)
    down = F.pad(colour, (0, 0, 1, 1), mode="replicate")
    return torch.lerp(colour, down[:, :, :-2] + down[:, :, 2:] - colour, side)


def _defocus(colour: torch.Tensor, passes: float) -> torch.Tensor:
    """Repeat the filter (1/4, 1/2, 1/4): about a Gaussian of deviation sqrt(passes / 2) pixels at an image width of 256."""
    for _ in range(round(passes * (max(colour.shape[2:]) / 256) ** 2)):
        colour = _three_taps(colour, 0.25)
    return colour


def _motion_blur(colour: torch.Tensor, way_px: torch.Tensor) -> torch.Tensor:
    """Average over taps along `way_px` [F, 2], the mean image motion while the shutter is open, centred on the frame time."""
    height, width = colour.shape[2:]
    length = way_px.norm(dim=1, keepdim=True)
    way = way_px * (LONGEST_BLUR * width / length.clamp(min=1e-6)).clamp(max=1.0)
    if float(length.max()) < 0.5:
        return colour
    scale = torch.tensor([2.0 / width, 2.0 / height], device=colour.device)
    identity = torch.eye(2, 3, device=colour.device).expand(len(colour), -1, -1)
    grid = F.affine_grid(identity, list(colour.shape), align_corners=False)
    total = torch.zeros_like(colour)
    for tap in torch.linspace(-0.5, 0.5, MOTION_TAPS).tolist():
        shifted = grid + (tap * way.to(colour) * scale)[:, None, None]
        total += F.grid_sample(colour, shifted, padding_mode="border", align_corners=False)
    return total / MOTION_TAPS


def _tone(colour: torch.Tensor, gain: torch.Tensor, gamma: float) -> torch.Tensor:
    """Tone mapping with imperfect automatic exposure: dark and bright clips remain. gain [F, 3]."""
    exposure = (0.48 / colour.mean().clamp(min=0.02)) ** 0.7
    colour = (colour * (exposure * gain)[:, :, None, None]).clamp_(min=1e-4) ** gamma
    # Soft shoulder instead of clipping: bright walls keep their texture.
    return torch.where(colour > 0.8, 1 - 0.2 * torch.exp(4 - 5 * colour), colour)
