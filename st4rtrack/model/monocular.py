"""Monocular head: depth, focal length and predicted depth error of single images, from the encoder's feature pyramid.

Predicts log depth, up to scale. For sharp object edges, the last layer predicts the four log depths of each cell of 2 x 2 pixels
from features at half the image resolution.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from st4rtrack.model.config import ModelConfig
from st4rtrack.model.efficientnet import LEVEL_CHANNELS
from st4rtrack.model.encoder import PyramidEncoder
from st4rtrack.model.layers import ResidualUnit
from st4rtrack.model.matching import MatchingHead
from st4rtrack.types import MonocularDepth

HEAD_WIDTH = 32
MAX_LOG_DEPTH = 6.0
"""Soft bound of |log depth|, so that far surfaces still have a gradient."""
INITIAL_LOG_ERROR = -1.5
INITIAL_FOCAL = 0.85
"""Initial focal length over the long side, 61 degrees field of view along it."""


class MonocularHead(nn.Module):
    """Monocular depth head on `Tokens.levels`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.pyramid_width
        self.reduce = nn.Conv2d(width, HEAD_WIDTH, 3, padding=1)
        self.skip = nn.Conv2d(LEVEL_CHANNELS[0], HEAD_WIDTH, 1)
        self.unit = ResidualUnit(HEAD_WIDTH)
        self.out = nn.Conv2d(HEAD_WIDTH, 5, 3, padding=1)
        self.focal = nn.Sequential(nn.Linear(3 * width, width), nn.ReLU(), nn.Linear(width, 2))

    def forward(self, levels: tuple[Tensor, ...]) -> MonocularDepth:
        """Predict at image resolution, float32, from feature maps at strides 2, 4, 8, 16, 32."""
        half = levels[0].shape[2:]
        x = F.interpolate(self.reduce(levels[1]), half, mode="bilinear", align_corners=False) + self.skip(levels[0])
        raw = self.out(F.relu(self.unit(x))).float()
        log_depth = MAX_LOG_DEPTH * torch.tanh(F.pixel_shuffle(raw[:, :4], 2)[:, 0] / MAX_LOG_DEPTH)
        log_error = F.interpolate(raw[:, 4:], scale_factor=2, mode="bilinear", align_corners=False)[:, 0]
        coarse = levels[-1].float()
        pooled = [coarse.mean((2, 3)), coarse.amax((2, 3)), levels[2].float().mean((2, 3))]
        focal = self.focal(torch.cat(pooled, dim=1).to(self.reduce.weight.dtype)).float()
        return MonocularDepth(log_depth, log_error.clamp(-6, 2), focal[:, 0] + math.log(INITIAL_FOCAL), focal[:, 1].clamp(-5, 2))


class MonocularNetwork(nn.Module):
    """Encoder, monocular head and, if configured, matching head, with the parameter names of the whole network.

    Attributes:
        name, weights_hash: as in `St4RTrack`.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.name, self.weights_hash = "untrained", ""
        self.encoder = PyramidEncoder(config)
        self.monocular_head = MonocularHead(config)
        self.matching_head = MatchingHead() if config.matching else None

    def forward(self, images: Tensor) -> MonocularDepth:
        """Predict depth of images, see `encode`."""
        return self.depth(self.encode(images))

    def encode(self, images: Tensor) -> tuple[Tensor, ...]:
        """Backbone maps, strides 2 to 32, of images [batch, 3, height, width] in [-1, 1].

        Raises:
            ValueError: a side is not a multiple of `config.size_multiple`.
        """
        multiple = self.config.size_multiple
        if images.ndim != 4 or images.shape[2] % multiple or images.shape[3] % multiple:
            raise ValueError(
                f"images must be [batch, 3, height, width] with sides multiples of {multiple}, got {list(images.shape)}"
            )
        return self.encoder.backbone(images)

    def depth(self, maps: tuple[Tensor, ...]) -> MonocularDepth:
        """Predict depth from backbone maps."""
        return self.monocular_head(tuple(self.encoder.pyramid.top_down(maps)))


def new_monocular(config: ModelConfig, seed: int) -> MonocularNetwork:
    """Create a randomly initialised network that predicts near-constant depth; load pretrained weights into `encoder`."""
    torch.manual_seed(seed)
    network = MonocularNetwork(config)
    for module in network.encoder.pyramid.backbone.modules():
        if isinstance(module, nn.Conv2d):  # without normalisation, smaller weights would make activations vanish
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            assert module.bias is not None
            nn.init.zeros_(module.bias)
    head = network.monocular_head
    for layer in (head.out, head.focal[-1]):
        assert isinstance(layer, nn.Conv2d | nn.Linear) and layer.bias is not None
        nn.init.normal_(layer.weight, std=0.01)
        nn.init.zeros_(layer.bias)
    assert head.out.bias is not None
    nn.init.constant_(head.out.bias[4:], INITIAL_LOG_ERROR)
    return network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
