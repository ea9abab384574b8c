"""Image encoders shared by both images: a ViT, or a convolutional backbone with a feature pyramid."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from st4rtrack.model.config import ModelConfig
from st4rtrack.model.efficientnet import LEVEL_CHANNELS, EfficientNetLite0
from st4rtrack.model.layers import LAYER_NORM_EPS, EncoderBlock, PatchEmbed, ResidualUnit, Rope2D


@dataclass
class Tokens:
    """Encoded images, reused by every pair of an image and by the dense heads.

    Attributes:
        features: [batch, rows * columns, width], row-major, input of the decoders.
        grid: (rows, columns) of tokens.
        levels: feature maps [batch, channels, height / stride, width / stride] at strides 2, 4, 8, 16, 32, finest first, for
            dense heads; empty for a ViT.
    """

    features: Tensor
    grid: tuple[int, int]
    levels: tuple[Tensor, ...] = ()

    def expand(self, batch: int) -> "Tokens":
        """Expand the tokens of one image to a batch without copying; a batch of that size is unchanged."""
        return self.map(lambda x: x.expand(batch, *(-1,) * (x.ndim - 1)))

    def map(self, change: Callable[[Tensor], Tensor]) -> "Tokens":
        """Apply a function to all tensors, such as indexing along the batch."""
        return Tokens(change(self.features), self.grid, tuple(change(level) for level in self.levels))


class Encoder(nn.Module):
    """ViT encoder: patch embedding, blocks, norm, for images of any orientation."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.encoder_width
        self.patch_embed = PatchEmbed(3, width, config.patch_size)
        self.blocks = nn.ModuleList(EncoderBlock(width, config.encoder_heads) for _ in range(config.encoder_depth))
        self.norm = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.rope = Rope2D(width // config.encoder_heads, config.rope_base)

    def forward(self, images: Tensor) -> Tokens:
        """Encode images [batch, 3, height, width] in [-1, 1]."""
        patches = self.patch_embed(images)
        grid = (patches.shape[1], patches.shape[2])
        x = patches.flatten(1, 2)
        rope = self.rope(grid, x.device)
        for block in self.blocks:
            x = block(x, rope)
        return Tokens(self.norm(x), grid)


class FeaturePyramid(nn.Module):
    """EfficientNet-Lite0 with a top-down pathway, which adds the context of coarser maps to finer ones.

    Source: Lin et al., "Feature Pyramid Networks", 2017; the mean features of the image are added at the coarsest level.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.backbone = EfficientNetLite0()
        self.context = nn.Linear(LEVEL_CHANNELS[-1], width)
        self.lateral = nn.ModuleList(nn.Conv2d(channels, width, 1) for channels in LEVEL_CHANNELS[1:])
        self.units = nn.ModuleList(ResidualUnit(width) for _ in LEVEL_CHANNELS[1:])

    def forward(self, images: Tensor) -> list[Tensor]:
        """Compute maps at strides 2 (backbone), 4, 8, 16, 32 (`width` channels) of images [batch, 3, height, width]."""
        return self.top_down(self.backbone(images))

    def top_down(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Compute the same from the maps of the backbone, which the matching head reads, too."""
        fine, *coarser = maps
        context = self.context(coarser[-1].mean((2, 3)))[:, :, None, None]
        levels: list[Tensor] = []
        for number in reversed(range(len(coarser))):
            lateral = self.lateral[number](coarser[number])
            above = F.interpolate(levels[0], lateral.shape[2:], mode="bilinear", align_corners=False) if levels else context
            levels.insert(0, self.units[number](lateral + above))
        return [fine, *levels]


class PyramidEncoder(nn.Module):
    """Feature pyramid encoder; tokens are its maps at strides 16 and 32, concatenated, projected and normalised."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.pyramid = FeaturePyramid(config.pyramid_width)
        self.project = nn.Linear(2 * config.pyramid_width, config.encoder_width)
        self.norm = nn.LayerNorm(config.encoder_width, eps=LAYER_NORM_EPS)

    def forward(self, images: Tensor) -> Tokens:
        """Encode images [batch, 3, height, width] in [-1, 1], sides multiples of 16."""
        levels = self.levels(images)
        stride16, stride32 = levels[3:]
        grid = (stride16.shape[2], stride16.shape[3])
        wide = torch.cat([stride16, F.interpolate(stride32, grid, mode="bilinear", align_corners=False)], dim=1)
        return Tokens(self.norm(self.project(wide.flatten(2).transpose(1, 2))), grid, levels)

    def levels(self, images: Tensor) -> tuple[Tensor, ...]:
        """Compute only `Tokens.levels`, the input of the monocular head."""
        images = images.to(self.norm.weight.dtype).contiguous(memory_format=torch.channels_last)
        return tuple(self.pyramid(images))


def make_encoder(config: ModelConfig) -> Encoder | PyramidEncoder:
    """Create the encoder of a configuration."""
    return PyramidEncoder(config) if config.encoder == "efficientnet" else Encoder(config)
