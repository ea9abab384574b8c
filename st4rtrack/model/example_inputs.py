"""Plausible inputs of the network that need no video: smooth images, and hints of a camera that moves a little."""

import torch
from torch import Tensor, nn

from st4rtrack.model.hints import Hints, assemble_hints


def example_images(shape: tuple[int, int, int, int], generator: torch.Generator) -> list[Tensor]:
    """Two smooth image batches [batch, 3, height, width] in [-1, 1]."""
    return [_smooth(shape, generator).clamp(-1, 1) for _ in range(2)]


def example_hints(images: list[Tensor], generator: torch.Generator) -> Hints:
    """Hints of two image batches [batch, 3, height, width], with smooth flow and depth."""
    batch, _, height, width = images[0].shape
    flow = [4 * _smooth((batch, 2, height, width), generator).permute(0, 2, 3, 1) for _ in range(2)]
    depth = [1.5 + 0.5 * _smooth((batch, 1, height, width), generator)[:, 0].clamp(-1, 1) for _ in range(2)]
    camera = torch.eye(4).repeat(batch, 1, 1)
    camera[:, :3, 3] = 0.1 * torch.randn((batch, 3), generator=generator)
    return assemble_hints(
        *images,
        forward_flow=flow[0],
        backward_flow=flow[1],
        anchor_depth=depth[0],
        frame_depth=depth[1],
        anchor_from_frame=camera,
        focal_px=torch.full((batch,), 0.9 * max(height, width)),
    )


def _smooth(shape: tuple[int, int, int, int], generator: torch.Generator) -> Tensor:
    coarse = torch.randn((*shape[:2], 4, 4), generator=generator)
    return nn.functional.interpolate(coarse, size=shape[2:], mode="bicubic", align_corners=False)
