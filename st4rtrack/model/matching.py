"""Matching head: where the points of an anchor image lie in another image, also after large motion.

Two weight-sharing decoders with cross-attention between the images (as in Fig. 2 of the paper, at stride 16) give dense
descriptors at stride 4. The similarity of an anchor descriptor with those of the other image is a likelihood of its position there.
Optical flow is more exact between neighbouring frames, but is lost on small and fast objects; see `hints/lifting.py`.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from st4rtrack.model.efficientnet import LEVEL_CHANNELS
from st4rtrack.model.layers import LAYER_NORM_EPS, DecoderBlock, ResidualUnit, Rope2D

WIDTH, HEADS, DEPTH = 192, 6, 3
CHANNELS = 64
"""Channels of the descriptors and of the layers that upsample to them."""
CELL = 4
"""Side of a descriptor's cell, in pixels."""
INITIAL_SHARPNESS = 12.0
ROPE_BASE = 100.0


class MatchingHead(nn.Module):
    """Dense descriptors of image pairs from the maps of the convolutional backbone (`LEVEL_CHANNELS`, strides 2 to 32)."""

    def __init__(self) -> None:
        super().__init__()
        fine, quarter, eighth, stride16, stride32 = LEVEL_CHANNELS
        self.embed = nn.Linear(stride16 + stride32, WIDTH)
        self.blocks = nn.ModuleList(DecoderBlock(WIDTH, HEADS) for _ in range(DEPTH))
        self.norm = nn.LayerNorm(WIDTH, eps=LAYER_NORM_EPS)
        self.rope = Rope2D(WIDTH // HEADS, ROPE_BASE)
        self.reduce = nn.Linear(WIDTH, CHANNELS)
        self.lateral8 = nn.Conv2d(eighth, CHANNELS, 1)
        self.lateral4 = nn.Conv2d(quarter + 4 * fine, CHANNELS, 1)
        self.unit8, self.unit4 = ResidualUnit(CHANNELS), ResidualUnit(CHANNELS)
        self.out = nn.Conv2d(CHANNELS, CHANNELS, 1)
        self.log_sharpness = nn.Parameter(torch.full((), math.log(INITIAL_SHARPNESS)))

    def forward(self, anchor: tuple[Tensor, ...], frame: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Compute unit descriptors [batch, CHANNELS, height / 4, width / 4] of both images of each pair.

        Args:
            anchor, frame: backbone maps of [batch] images at strides 2, 4, 8, 16, 32.
        """
        batch, _, *grid = anchor[3].shape
        rope = self.rope((grid[0], grid[1]), anchor[3].device)
        maps = tuple(torch.cat(pair) for pair in zip(anchor, frame, strict=True))  # one batch: the weights are shared
        coarse = F.interpolate(maps[4], tuple(grid), mode="bilinear", align_corners=False)
        tokens = self.embed(torch.cat([maps[3], coarse], dim=1).flatten(2).transpose(1, 2))
        for block in self.blocks:
            tokens = block(tokens, tokens.roll(batch, dims=0), rope)
        descriptors = self._descriptors(tokens, maps, grid)
        return descriptors[:batch], descriptors[batch:]

    def log_likelihood(self, anchor: Tensor, frame: Tensor, pixels: Tensor) -> Tensor:
        """Log probability [batch, points, cells]: normalised `logits`."""
        return self.logits(anchor, frame, pixels).log_softmax(-1)

    def logits(self, anchor: Tensor, frame: Tensor, pixels: Tensor) -> Tensor:
        """Unnormalised log probability [batch, points, cells] of the cells of the frame, row-major, for anchor pixels.

        Args:
            anchor, frame: descriptors of both images.
            pixels: [batch, points, 2] pixels of the anchor, in the size of the images.
        """
        height, width = anchor.shape[2:]
        normalized = pixels / pixels.new_tensor([width * CELL / 2, height * CELL / 2]) - 1
        anchor, frame = anchor.float(), frame.float()
        sampled = F.grid_sample(anchor, normalized[:, :, None], mode="bilinear", align_corners=False)[..., 0]
        query = F.normalize(sampled.transpose(1, 2), dim=-1)
        return self.log_sharpness.exp() * query @ frame.flatten(2)

    def _descriptors(self, tokens: Tensor, maps: tuple[Tensor, ...], grid: Sequence[int]) -> Tensor:
        x = self.reduce(self.norm(tokens)).transpose(1, 2).unflatten(2, tuple(grid))
        quarter = torch.cat([maps[1], F.pixel_unshuffle(maps[0], 2)], dim=1)
        for lateral, unit in ((self.lateral8(maps[2]), self.unit8), (self.lateral4(quarter), self.unit4)):
            x = unit(F.interpolate(x, lateral.shape[2:], mode="bilinear", align_corners=False) + lateral)
        return F.normalize(self.out(x), dim=1)
