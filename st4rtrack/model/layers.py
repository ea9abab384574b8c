"""Transformer layers with 2D rotary position embedding as in DUSt3R; pre-norm, no dropout.

Symbols: tokens [batch, tokens, width]; a token's position is its integer patch row and column.
"""

import math
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

LAYER_NORM_EPS = 1e-6


class Rope2D(nn.Module):
    """2D rotary position embedding: the first half of a head's channels rotates with the row, the second with the column."""

    def __init__(self, head_width: int, base: float) -> None:
        super().__init__()
        self.head_width = head_width
        self.base = base

    def forward(self, grid: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
        """Compute cosines and sines [tokens, head_width] of a grid (rows, columns), row-major, float32."""
        return _rope_tables(grid, self.head_width, self.base, device)


@lru_cache(maxsize=32)
def _rope_tables(grid: tuple[int, int], head_width: int, base: float, device: torch.device) -> tuple[Tensor, Tensor]:
    with torch.inference_mode(False):  # cached tables must be usable in training too
        half = head_width // 2
        frequency = base ** (-torch.arange(0, half, 2, dtype=torch.float32, device=device) / half)
        row, column = torch.meshgrid(*(torch.arange(n, device=device) for n in grid), indexing="ij")
        angle = torch.stack([row.reshape(-1), column.reshape(-1)], dim=1)[:, :, None] * frequency  # [tokens, 2, half / 2]
        angle = torch.cat([angle, angle], dim=-1).flatten(1)
        return angle.cos(), angle.sin()


def rotate(x: Tensor, tables: tuple[Tensor, Tensor]) -> Tensor:
    """Rotate queries or keys [batch, heads, tokens, head_width]; channel k pairs with k + head_width / 4 in each half."""
    cos, sin = (table.to(x.dtype) for table in tables)
    a, b, c, d = x.chunk(4, dim=-1)
    return x * cos + torch.cat([-b, a, -d, c], dim=-1) * sin


def attend(query: Tensor, key: Tensor, value: Tensor, *, fused: bool) -> Tensor:
    """Softmax attention of [batch, heads, tokens, head_width].

    `fused` uses PyTorch's kernel (inference, GPUs); otherwise two batched matrix products, whose backward pass on a CPU is
    about twice as fast at a few hundred tokens. Results are equal up to rounding.
    """
    if fused:
        return F.scaled_dot_product_attention(query, key, value)
    weights = (query * query.shape[-1] ** -0.5) @ key.transpose(-1, -2)
    return weights.softmax(dim=-1) @ value


def _split_heads(x: Tensor, heads: int) -> Tensor:
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _use_fused(module: nn.Module, x: Tensor) -> bool:
    return not (module.training and x.device.type == "cpu")


class PatchEmbed(nn.Module):
    """Linear projection of non-overlapping square patches, as a matrix product instead of a strided convolution.

    `nn.Conv2d` gives wrong bfloat16 results for such kernels on CPUs with AMX (oneDNN 3.12: 8 to 24 input channels, 8x8 and
    16x16). Names, shapes and initial values of the parameters are those of the convolution.

    Args:
        channels, width: number of input and output channels.
        patch_size: side of a patch in pixels.
    """

    def __init__(self, channels: int, width: int, patch_size: int) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.weight = nn.Parameter(torch.empty(width, channels, patch_size, patch_size))
        self.bias = nn.Parameter(torch.empty(width))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        bound = (channels * patch_size**2) ** -0.5
        nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, maps: Tensor) -> Tensor:
        """Embed maps [batch, channels, height, width] as [batch, height / patch_size, width / patch_size, width]."""
        size = self.patch_size
        patches = maps.to(self.weight.dtype).unflatten(3, (-1, size)).unflatten(2, (-1, size))
        # patch row before channel is the fastest of the measured layouts, see docs/portability.md
        patches = patches.permute(0, 2, 4, 3, 1, 5).flatten(3)
        return F.linear(patches, self.weight.transpose(1, 2).flatten(1), self.bias)


class SelfAttention(nn.Module):
    """Multi-head self-attention within one image."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
        query, key, value = (_split_heads(part, self.heads) for part in self.qkv(x).chunk(3, dim=-1))
        mixed = attend(rotate(query, rope), rotate(key, rope), value, fused=_use_fused(self, x))
        return self.out(mixed.transpose(1, 2).flatten(2))


class CrossAttention(nn.Module):
    """Multi-head cross-attention from the tokens of one image to those of the other."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, other: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
        batch = max(x.shape[0], other.shape[0])  # a single image is expanded only here
        query, key, value = (
            part.expand(batch, -1, -1, -1)
            for part in (
                rotate(_split_heads(self.query(x), self.heads), rope),
                rotate(_split_heads(self.key(other), self.heads), rope),
                _split_heads(self.value(other), self.heads),
            )
        )
        mixed = attend(query, key, value, fused=_use_fused(self, x))
        return self.out(mixed.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """MLP of two linear layers with exact GELU and hidden width 4 x width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class EncoderBlock(nn.Module):
    """Encoder block: self-attention and MLP."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm_self = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.self_attention = SelfAttention(width, heads)
        self.norm_mlp = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.mlp = Mlp(width)

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
        x = x + self.self_attention(self.norm_self(x), rope)
        return x + self.mlp(self.norm_mlp(x))


class DecoderBlock(nn.Module):
    """Decoder block: self-attention, cross-attention to the other image, MLP."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm_self = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.self_attention = SelfAttention(width, heads)
        self.norm_cross = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.norm_other = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.cross_attention = CrossAttention(width, heads)
        self.norm_mlp = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.mlp = Mlp(width)

    def forward(self, x: Tensor, other: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
        x = x + self.self_attention(self.norm_self(x), rope)
        x = x + self.cross_attention(self.norm_cross(x), self.norm_other(other), rope)
        return x + self.mlp(self.norm_mlp(x))


class ResidualUnit(nn.Module):
    """Residual unit of two 3x3 convolutions."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.relu(self.conv1(F.relu(x))))
