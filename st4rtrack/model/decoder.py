"""Twin decoders: tracking on anchor tokens, reconstruction on frame tokens, with cross-attention (paper Fig. 2)."""

from torch import Tensor, nn

from st4rtrack.model.config import ModelConfig
from st4rtrack.model.encoder import Tokens
from st4rtrack.model.layers import LAYER_NORM_EPS, DecoderBlock, Rope2D


class TwinDecoder(nn.Module):
    """Two interleaved decoders: layer l of each attends to the other's features of layer l - 1, as released."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width, heads = config.decoder_width, config.decoder_heads
        self.head_layers = config.head_layers
        self.embed = nn.Linear(config.encoder_width, width)
        self.tracking_blocks = nn.ModuleList(DecoderBlock(width, heads) for _ in range(config.decoder_depth))
        self.reconstruction_blocks = nn.ModuleList(DecoderBlock(width, heads) for _ in range(config.decoder_depth))
        self.norm = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.rope = Rope2D(width // heads, config.rope_base)

    def forward(self, anchor: Tokens, frame: Tokens) -> tuple[list[Tensor], list[Tensor]]:
        """Compute the features of both branches in the layers that the heads read.

        Args:
            anchor, frame: tokens; the anchor batch may be 1 for many frames, so that anchor-only features are computed once.
        Returns:
            Two lists of tensors [batch, tokens, width], one for each of `ModelConfig.head_layers`; layer 0 has the encoder width,
            and for the anchor its own batch size.
        """
        kept = {0: (anchor.features, frame.features)}
        x, y = self.embed(anchor.features), self.embed(frame.features)
        rope = self.rope(anchor.grid, x.device)
        for layer, blocks in enumerate(zip(self.tracking_blocks, self.reconstruction_blocks, strict=True), start=1):
            x, y = blocks[0](x, y, rope), blocks[1](y, x, rope)
            if layer in self.head_layers:  # free the memory of other layers
                kept[layer] = (x, y)
        kept[len(self.tracking_blocks)] = (self.norm(x), self.norm(y))
        tracking, reconstruction = zip(*(kept[layer] for layer in self.head_layers), strict=True)
        return list(tracking), list(reconstruction)
