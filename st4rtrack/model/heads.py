"""Dense heads from tokens to raw channels per pixel, float32; `network.py` defines their meaning."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from st4rtrack.model.config import ModelConfig
from st4rtrack.model.layers import ResidualUnit

DPT_WIDTHS = (96, 192, 384, 768)
DPT_FUSION_WIDTH = 256
CONV_WIDTH = 32
CONV_STRIDE = 4
CHANNELS = 4
"""Raw output: point (3) and confidence."""


class Fusion(nn.Module):
    """Coarse-to-fine fusion step: adds the finer map, refines, doubles the resolution."""

    def __init__(self, width: int, *, has_skip: bool) -> None:
        super().__init__()
        self.skip_unit = ResidualUnit(width) if has_skip else None
        self.out_unit = ResidualUnit(width)
        self.out = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor, skip: Tensor | None = None) -> Tensor:
        if self.skip_unit is not None and skip is not None:
            x = x + self.skip_unit(skip)
        # a 1x1 convolution commutes with interpolation (weights sum to one) and is four times cheaper before it
        return _double(self.out(self.out_unit(x)))


class DptHead(nn.Module):
    """Dense prediction transformer (DPT) head as released: features of four layers, fused from coarse to fine."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        widths_in = (config.encoder_width, *(config.decoder_width,) * 3)
        w0, w1, w2, w3 = DPT_WIDTHS
        self.reassemble = nn.ModuleList(
            [
                nn.Sequential(nn.Conv2d(widths_in[0], w0, 1), nn.ConvTranspose2d(w0, w0, 4, 4)),
                nn.Sequential(nn.Conv2d(widths_in[1], w1, 1), nn.ConvTranspose2d(w1, w1, 2, 2)),
                nn.Sequential(nn.Conv2d(widths_in[2], w2, 1)),
                nn.Sequential(nn.Conv2d(widths_in[3], w3, 1), nn.Conv2d(w3, w3, 3, 2, 1)),
            ]
        )
        self.project = nn.ModuleList(nn.Conv2d(w, DPT_FUSION_WIDTH, 3, padding=1, bias=False) for w in DPT_WIDTHS)
        self.fuse = nn.ModuleList(Fusion(DPT_FUSION_WIDTH, has_skip=level < 3) for level in range(4))
        half = DPT_FUSION_WIDTH // 2
        self.refine1 = nn.Conv2d(DPT_FUSION_WIDTH, half, 3, padding=1)
        self.refine2 = nn.Conv2d(half, half, 3, padding=1)
        self.out = nn.Conv2d(half, CHANNELS, 1)

    def forward(self, features: list[Tensor], grid: tuple[int, int]) -> Tensor:
        """Compute [batch, CHANNELS, height, width] from the features of `ModelConfig.head_layers`.

        The first layer may have batch size 1 for the whole batch (the anchor tokens).
        """
        maps = []
        for layer, reassemble, project in zip(features, self.reassemble, self.project, strict=True):
            tokens = layer.transpose(1, 2).unflatten(2, grid)
            maps.append(project(reassemble(tokens.contiguous(memory_format=torch.channels_last))))
        x = self.fuse[3](maps[3])[..., : maps[2].shape[2], : maps[2].shape[3]]  # for odd grids, doubling is one too large
        for level in (2, 1, 0):
            x = self.fuse[level](x, maps[level])
        x = _double(self.refine1(x))
        return self.out(F.relu(self.refine2(x))).float()


class ConvHead(nn.Module):
    """Light head: unfolds tokens to a quarter of the resolution, and interpolates to full resolution.

    Cheap enough for a small network on a CPU, without the seams of a linear projection per patch.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.unfold = config.patch_size // CONV_STRIDE
        self.tokens = nn.Linear(config.decoder_width, CONV_WIDTH * self.unfold**2)
        self.units = nn.Sequential(ResidualUnit(CONV_WIDTH), ResidualUnit(CONV_WIDTH))
        self.out = nn.Conv2d(CONV_WIDTH, CHANNELS, 1)

    def forward(self, features: list[Tensor], grid: tuple[int, int]) -> Tensor:
        """Compute [batch, CHANNELS, height, width] from the last layer's features."""
        x = F.pixel_shuffle(self.tokens(features[-1]).transpose(1, 2).unflatten(2, grid), self.unfold)
        raw = self.out(self.units(x)).float()
        return F.interpolate(raw, scale_factor=CONV_STRIDE, mode="bilinear", align_corners=False)


def _double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=True)
