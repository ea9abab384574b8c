"""Forward pass over a micro-batch: each image is encoded once, then decoded in all its pairs."""

import math
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from st4rtrack.model.config import ModelConfig
from st4rtrack.model.encoder import PyramidEncoder
from st4rtrack.model.hints import Hints
from st4rtrack.model.layers import DecoderBlock, EncoderBlock
from st4rtrack.model.network import St4RTrack
from st4rtrack.train.config import TrainConfig
from st4rtrack.train.examples import Examples
from st4rtrack.types import Pointmap, TwoPointmaps

_FAR_AWAY = 1e30


@dataclass
class PairPrediction:
    """Pointmaps of both branches, and with hints the anchor content at the anchor time, from which tracking starts."""

    maps: TwoPointmaps
    anchor: Pointmap | None = None


class PairNetwork(nn.Module):
    """Module to be wrapped by DDP or FSDP, called once per micro-batch; takes and returns tensors, as these wrappers need."""

    def __init__(self, model: St4RTrack) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, images: Tensor, anchor_index: Tensor, frame_index: Tensor, hints: Hints | None = None
    ) -> list[tuple[Tensor, Tensor]]:
        """Predict (points [pairs, height, width, 3], confidence [pairs, height, width]), float32, of each output.

        Outputs: tracking, reconstruction, and with hints the anchor content at the anchor time.
        """
        tokens = self.model.encode(images)
        anchor, frame = (tokens.map(lambda x, index=index: x[index]) for index in (anchor_index, frame_index))
        if hints is None:
            maps, own = self.model.decode(anchor, frame), None
        else:
            maps, own = self.model.decode_with_anchor(anchor, frame, hints)
        found = [maps.tracking, maps.reconstruction, *([] if own is None else [own])]
        return [(pointmap.points_world, cast(Tensor, pointmap.confidence)) for pointmap in found]


def predict(network: nn.Module, examples: Examples, precision: str) -> PairPrediction:
    """Predict the pairs of a micro-batch at the pixels of its ground truth.

    Args:
        network: a `PairNetwork`, distributed or not.
        examples: micro-batch on the network's device.
        precision: "bfloat16" or "float32", precision of matrix products.
    """
    with torch.autocast(examples.images.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        found = network(examples.images, examples.anchor_index, examples.frame_index, examples.hints)
    stride = examples.stride
    maps = [Pointmap(points[:, ::stride, ::stride], confidence[:, ::stride, ::stride]) for points, confidence in found]
    return PairPrediction(TwoPointmaps(maps[0], maps[1]), maps[2] if len(maps) > 2 else None)


def finite_points(pointmap: Pointmap) -> np.ndarray:
    """Predicted points in float64; non-finite values become very large, so that metrics count them as misses."""
    return np.nan_to_num(pointmap.points_world.double().cpu().numpy(), nan=_FAR_AWAY, posinf=_FAR_AWAY, neginf=-_FAR_AWAY)


def prepare(model: St4RTrack, config: TrainConfig, *, compile: bool) -> PairNetwork:
    """Prepare a network for training: float32 weights, frozen parts, optional compilation.

    Args:
        model: network with initial weights, on its device.
        config: `frozen` selects the frozen parts.
        compile: compile the blocks with `torch.compile`; names and values of the weights do not change.
    """
    network = PairNetwork(model.float())
    if config.frozen == "encoder":
        encoder = model.encoder
        frozen = [encoder.pyramid] if isinstance(encoder, PyramidEncoder) else [encoder.patch_embed, encoder.blocks]
        for module in frozen:
            module.requires_grad_(False)
    if compile:
        for module in network.modules():
            if isinstance(module, (EncoderBlock, DecoderBlock)):
                module.compile()
    return network


def new_model(config: ModelConfig, seed: int) -> St4RTrack:
    """Create a network with Xavier initialisation and heads that start near zero.

    With hints it starts as its base geometry; without, all points start one unit in front of the anchor, so that scale is
    defined.
    """
    torch.manual_seed(seed)
    model = St4RTrack(config)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    for head in (model.tracking_head, model.reconstruction_head):
        nn.init.normal_(head.out.weight, std=0.01)
        if head.out.bias is not None:
            nn.init.zeros_(head.out.bias)
            if not config.hints:
                nn.init.constant_(head.out.bias[2], math.log(2))  # z, see `released_points`
    return model
