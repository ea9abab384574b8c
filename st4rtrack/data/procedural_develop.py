"""From radiance to pictures: defocus and motion blur, exposure, tone curve, noise, JPEG."""

import cv2
import numpy as np
import torch
import torch.nn.functional as F

from st4rtrack.data.procedural_paint import Optics

MOTION_TAPS = 7
LONGEST_BLUR = 0.025  # of the width


def develop(colour: torch.Tensor, optics: Optics, flow_px: torch.Tensor, seed: int, first: int) -> torch.Tensor:
    """Linear colour [B, F, 3, H, W] to [B, F, H, W, 3] uint8; flow_px [B, F, 2] mean motion of the picture between frames.

    Scene by scene, each with the noise of its own number `first` + row. JPEG is done on the CPU only.
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
        pictures.append(_jpeg(picture, quality) if quality and one.device.type == "cpu" else picture)
    return torch.stack(pictures)


def _mix(seed: int, number: int) -> int:
    """One seed out of two numbers."""
    return int(np.random.SeedSequence([seed % (1 << 64), number, 0x5EED]).generate_state(1, np.uint64)[0] >> np.uint64(1))


def _three_taps(colour: torch.Tensor, side: float) -> torch.Tensor:
    """[F, 3, H, W] through the filter (side, 1 - 2 side, side) in both directions."""
    if not side:
        return colour
    across = F.pad(colour, (1, 1, 0, 0), mode="replicate")
    colour = torch.lerp(colour, across[..., :-2] + across[..., 2:] - colour, side)
    down = F.pad(colour, (0, 0, 1, 1), mode="replicate")
    return torch.lerp(colour, down[:, :, :-2] + down[:, :, 2:] - colour, side)


def _defocus(colour: torch.Tensor, passes: float) -> torch.Tensor:
    """Passes of (1/4, 1/2, 1/4): nearly a Gaussian of standard deviation sqrt(passes / 2) pixels in a picture 256 pixels wide."""
    for _ in range(round(passes * (max(colour.shape[2:]) / 256) ** 2)):
        colour = _three_taps(colour, 0.25)
    return colour


def _motion_blur(colour: torch.Tensor, way_px: torch.Tensor) -> torch.Tensor:
    """Mean over taps along `way_px` [F, 2], the picture's mean motion while the shutter is open, centred on the frame's time."""
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
    """Automatic exposure as a camera has it, but not perfect: dark and bright clips remain. gain [F, 3]."""
    exposure = (0.48 / colour.mean().clamp(min=0.02)) ** 0.7
    colour = (colour * (exposure * gain)[:, :, None, None]).clamp_(min=1e-4) ** gamma
    # A soft shoulder instead of clipping: bright walls keep their texture.
    return torch.where(colour > 0.8, 1 - 0.2 * torch.exp(4 - 5 * colour), colour)


def _jpeg(pictures: torch.Tensor, quality: int) -> torch.Tensor:
    """[F, H, W, 3] uint8 compressed and read again."""
    read = []
    for picture in pictures.numpy():
        data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
        assert decoded is not None, "what was encoded can be read"
        read.append(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB))
    return torch.from_numpy(np.stack(read))
