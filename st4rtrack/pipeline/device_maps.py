"""Maps on the device of the network, for per-pixel work in PyTorch: [..., height, width] float32, components first.

MPS has no float64, so values become float32 here, and nothing below makes a wider tensor.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

SAMPLED_PIXELS = 12_000
"""Approximate number of pixels of which a median over a frame is computed."""


def to_device(values: np.ndarray, device: torch.device | str) -> Tensor:
    """Tensor on a device; floating-point values become float32."""
    values = np.asarray(values)
    return torch.from_numpy(values.astype(np.float32) if values.dtype.kind == "f" else values).to(device)


def vector_maps(vectors: np.ndarray, device: torch.device | str) -> Tensor:
    """Vectors [height, width, components] as contiguous maps [components, height, width]."""
    return to_device(vectors, device).permute(2, 0, 1).contiguous()


def vectors_of(maps: Tensor) -> np.ndarray:
    """Maps [components, height, width] as vectors [height, width, components] in host memory."""
    return maps.permute(1, 2, 0).contiguous().cpu().numpy()


def box_mean(maps: Tensor, size: int) -> Tensor:
    """Means of maps [components, height, width] over the square of an odd size around each pixel; images are mirrored at their borders."""
    for axis in (-1, -2):
        reach = min(size // 2, maps.shape[axis] - 1)
        margin = (reach, reach, 0, 0) if axis == -1 else (0, 0, reach, reach)
        padded = F.pad(maps[None], margin, mode="reflect")[0]
        total = padded.narrow(axis, 0, maps.shape[axis]).clone()
        for offset in range(1, 2 * reach + 1):
            total += padded.narrow(axis, offset, maps.shape[axis])
        maps = total.div_(2 * reach + 1)
    return maps


def median_of_few(samples: Sequence[Tensor]) -> Tensor:
    """Median of a few maps, pixel by pixel, by a sorting network."""
    ordered = list(samples)
    count = len(ordered)
    for start in range(count):
        for k in range(start % 2, count - 1, 2):
            ordered[k], ordered[k + 1] = torch.minimum(ordered[k], ordered[k + 1]), torch.maximum(ordered[k], ordered[k + 1])
    return (ordered[(count - 1) // 2] + ordered[count // 2]) / 2 if count % 2 == 0 else ordered[count // 2]


def median_filter(values: Tensor, size: int) -> Tensor:
    """Medians of the columns of medians of the rows of the square around each pixel [height, width]; the border is repeated."""
    reach = size // 2
    for axis, margin in ((1, (reach, reach, 0, 0)), (0, (0, 0, reach, reach))):
        padded = F.pad(values[None, None], margin, mode="replicate")[0, 0]
        values = median_of_few([padded.narrow(axis, offset, values.shape[axis]) for offset in range(size)])
    return values


def sampled_median(values: Tensor, chosen: Tensor) -> Tensor | None:
    """Median [...] of the chosen pixels of maps [..., height, width], on a grid of pixels; `None` if none is chosen."""
    step = max(1, int((chosen.numel() / SAMPLED_PIXELS) ** 0.5))
    few = chosen[::step, ::step]
    if not few.any():
        return None
    return values[..., ::step, ::step][..., few].median(dim=-1).values


def sample_bilinear(maps: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Values [components, height, width] of maps at pixels (u, v) [height, width]; the border value is repeated."""
    height, width = maps.shape[-2:]
    grid = torch.stack([u * (2 / width) - 1, v * (2 / height) - 1], dim=-1)
    return F.grid_sample(maps[None], grid[None], mode="bilinear", padding_mode="border", align_corners=False)[0]
