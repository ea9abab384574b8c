"""Forward pass over a micro-batch: each image is encoded once, then decoded in all its pairs."""

import math
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from st4rtrack.model.config import ModelConfig
from st4rtrack.model.encoder import PyramidEncoder
from st4rtrack.model.layers import DecoderBlock, EncoderBlock
from st4rtrack.model.monocular import new_monocular
from st4rtrack.model.network import St4RTrack
from st4rtrack.train.config import TrainConfig
from st4rtrack.train.examples import Examples
from st4rtrack.types import Pointmap, TwoPointmaps

_FAR_AWAY = 1e30


class PairNetwork(nn.Module):
    """Module to be wrapped by DDP or FSDP, called once per micro-batch; takes and returns tensors, as these wrappers need."""

    def __init__(self, model: St4RTrack) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor, anchor_index: Tensor, frame_index: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Points [pairs, height, width, 3] and confidence [pairs, height, width], float32, of tracking and reconstruction."""
        tokens = self.model.encode(images)
        anchor, frame = (tokens.map(lambda x, index=index: x[index]) for index in (anchor_index, frame_index))
        maps = self.model.decode(anchor, frame)
        return [(pointmap.points_world, cast(Tensor, pointmap.confidence)) for pointmap in (maps.tracking, maps.reconstruction)]


def predict(network: nn.Module, examples: Examples, precision: str) -> TwoPointmaps:
    """Predict the pairs of a micro-batch on the network's device, with matrix products in `precision` ("bfloat16", "float32")."""
    with torch.autocast(examples.images.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        tracking, reconstruction = network(examples.images, examples.anchor_index, examples.frame_index)
    return TwoPointmaps(Pointmap(*tracking), Pointmap(*reconstruction))


def finite_points(pointmap: Pointmap) -> np.ndarray:
    """Predicted points in float64; non-finite values become very large, so that metrics count them as misses."""
    return np.nan_to_num(pointmap.points_world.double().cpu().numpy(), nan=_FAR_AWAY, posinf=_FAR_AWAY, neginf=-_FAR_AWAY)


def prepare(model: St4RTrack, config: TrainConfig, *, compile: bool) -> PairNetwork:
    """Prepare a network for training: float32 weights, frozen parts (`config.frozen`).

    `compile` compiles the blocks with `torch.compile`; names and values of the weights do not change.
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

    All points start one unit in front of the anchor, so that scale is defined.
    """
    torch.manual_seed(seed)
    model = St4RTrack(config)
    if config.head == "monocular":
        model.load_state_dict(new_monocular(config, seed).state_dict())
        return model
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias)
    for head in (model.tracking_head, model.reconstruction_head):
        nn.init.normal_(head.out.weight, std=0.01)
        if head.out.bias is not None:
            nn.init.zeros_(head.out.bias)
            nn.init.constant_(head.out.bias[2], math.log(2))  # z, see `released_points`
    return model
