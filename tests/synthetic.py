"""A procedural clip with exact truth, and the network replaced by it."""

import numpy as np
import torch

from st4rtrack.data.procedural import ProceduralClip
from st4rtrack.model.config import ModelConfig
from st4rtrack.model.encoder import Tokens
from st4rtrack.model.network import St4RTrack
from st4rtrack.types import Pointmap, TwoPointmaps


class TruthNetwork(St4RTrack):
    """Answers with the truth of a clip, whose frames it knows by their pixels."""

    def __init__(self, clip: ProceduralClip) -> None:
        tiny = ModelConfig(
            encoder_width=4, encoder_depth=1, encoder_heads=1, decoder_width=4, decoder_depth=1, decoder_heads=1, head="conv"
        )
        super().__init__(tiny)
        self.clip = clip
        self.name = "truth"
        self.decoded = 0
        self.encoded = 0

    def encode(self, images: torch.Tensor) -> Tokens:
        rgb = ((images.movedim(1, -1) + 1) * 127.5).round().to(torch.uint8).numpy()
        index = [int(np.flatnonzero((self.clip.rgb == one).all(axis=(1, 2, 3)))[0]) for one in rgb]
        self.encoded += len(index)
        return Tokens(torch.tensor(index), (1, 1))

    def decode(self, anchor_tokens: Tokens, frame_tokens: Tokens, hints: object = None) -> TwoPointmaps:
        index = frame_tokens.features.numpy()
        self.decoded += len(index)
        maps = [
            torch.from_numpy(points[index]).float()
            for points in (self.clip.tracking_points_world, self.clip.reconstruction_points_world)
        ]
        return TwoPointmaps(*[Pointmap(m, torch.full(m.shape[:-1], 2.0)) for m in maps])

    def decode_reconstruction(self, anchor_tokens: Tokens, frame_tokens: Tokens, hints: object = None) -> Pointmap:
        return self.decode(anchor_tokens, frame_tokens).reconstruction
