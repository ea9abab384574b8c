"""Network variant for tracing and operation counting, without cached tensors."""

import torch
from torch import Tensor

from st4rtrack.model import layers
from st4rtrack.model.config import ModelConfig
from st4rtrack.model.decoder import TwinDecoder
from st4rtrack.model.encoder import Encoder
from st4rtrack.model.layers import Rope2D
from st4rtrack.model.network import St4RTrack


class UncachedRope2D(Rope2D):
    """Rotary tables computed in the graph, so that they adapt to dynamic sizes."""

    def forward(self, grid: tuple[int, int], device: torch.device) -> tuple[Tensor, Tensor]:
        return layers._rope_tables.__wrapped__(grid, self.head_width, self.base, device)


def traceable_model(config: ModelConfig, weights: dict[str, Tensor]) -> St4RTrack:
    """Create an inference network that computes its rotary tables in every call.

    Args:
        config: architecture.
        weights: weights of `model.state_dict()`; they are shared, not copied.
    """
    with torch.device("meta"):
        model = St4RTrack(config)
    model.load_state_dict(weights, assign=True)
    for part in model.children():
        if isinstance(part, Encoder | TwinDecoder):
            part.rope = UncachedRope2D(part.rope.head_width, part.rope.base)
    return model.eval()


def weight_shapes(config: ModelConfig) -> dict[str, torch.Size]:
    """Shapes of the weights of a configuration, without allocating them."""
    with torch.device("meta"):
        return {name: value.shape for name, value in St4RTrack(config).state_dict().items()}
