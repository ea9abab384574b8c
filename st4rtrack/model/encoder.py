"""Image to tokens: the ViT shared by both images."""

from dataclasses import dataclass

from torch import Tensor, nn

from st4rtrack.model.config import ModelConfig
from st4rtrack.model.layers import LAYER_NORM_EPS, EncoderBlock, PatchEmbed, Rope2D


@dataclass
class Tokens:
    """An encoded image: `features` [batch, rows * columns, width], row-major, of a `grid` (rows, columns) of patches."""

    features: Tensor
    grid: tuple[int, int]

    def expand(self, batch: int) -> "Tokens":
        """One image's tokens as a batch, without a copy; a batch of that size as it is."""
        return Tokens(self.features.expand(batch, -1, -1), self.grid)


class Encoder(nn.Module):
    """Patch embedding, blocks, norm. Any orientation: rows and columns are the image's own."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.encoder_width
        self.patch_embed = PatchEmbed(3, width, config.patch_size)
        self.blocks = nn.ModuleList(EncoderBlock(width, config.encoder_heads) for _ in range(config.encoder_depth))
        self.norm = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.rope = Rope2D(width // config.encoder_heads, config.rope_base)

    def forward(self, images: Tensor) -> Tokens:
        """Tokens of images [batch, 3, height, width] in [-1, 1]."""
        patches = self.patch_embed(images)
        grid = (patches.shape[1], patches.shape[2])
        x = patches.flatten(1, 2)
        rope = self.rope(grid, x.device)
        for block in self.blocks:
            x = block(x, rope)
        return Tokens(self.norm(x), grid)
