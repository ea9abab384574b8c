"""Attention over time inside the decoders: an experiment around the pairwise network, which stays as it is.

After each block of both decoders, the tokens of one patch attend to those of the same patch in the other frames of a window, all
frames paired with one anchor. What a block has found for a frame can so be weighed against what it has found for its neighbours.
The output projection starts at zero, so a network that is given time starts exactly as the pairwise one.
"""

import itertools

from torch import Tensor, nn

from st4rtrack.model.encoder import Tokens
from st4rtrack.model.hints import Hints, still_hints
from st4rtrack.model.layers import LAYER_NORM_EPS, DecoderBlock, Rope2D, SelfAttention
from st4rtrack.model.network import St4RTrack, confidence, points_on_rays
from st4rtrack.types import Pointmap, TwoPointmaps

TIME_BASE = 100.0


class TimeAttention(nn.Module):
    """Self-attention of each token over the frames of a window, added to it."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.attention = SelfAttention(width, heads)
        # in a grid of one column, half of a head's channels turn with the row, here the frame; the others know nothing of time
        self.rope = Rope2D(width // heads, TIME_BASE)
        nn.init.zeros_(self.attention.out.weight)
        nn.init.zeros_(self.attention.out.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Tokens [frames, tokens, width], frames in order; a frame alone has nobody to attend to and is left as it is."""
        if len(x) == 1:
            return x
        over_time = self.norm(x).transpose(0, 1)
        return x + self.attention(over_time, self.rope((len(x), 1), x.device)).transpose(0, 1)


class TimedBlock(nn.Module):
    """A block of the pairwise decoder, then attention over time. The batch is one window."""

    def __init__(self, block: DecoderBlock, width: int, heads: int) -> None:
        super().__init__()
        self.block = block
        self.time = TimeAttention(width, heads)

    def forward(self, x: Tensor, other: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
        return self.time(self.block(x, other, rope))


def add_time(model: St4RTrack) -> list[nn.Parameter]:
    """Gives both decoders of a network attention over time, in place; until it learns, its output is what it was.

    Returns:
        The parameters that are new.
    """
    width, heads = model.config.decoder_width, model.config.decoder_heads
    decoder = model.decoder
    for blocks in (decoder.tracking_blocks, decoder.reconstruction_blocks):
        for layer, block in enumerate(blocks):
            assert isinstance(block, DecoderBlock)
            blocks[layer] = TimedBlock(block, width, heads)
    timed = itertools.chain(decoder.tracking_blocks, decoder.reconstruction_blocks)
    return [parameter for block in timed if isinstance(block, TimedBlock) for parameter in block.time.parameters()]


def decode_window(
    model: St4RTrack, anchor: Tokens, frames: Tokens, hints: Hints, own: Pointmap | None = None
) -> tuple[TwoPointmaps, Pointmap]:
    """Pointmaps of a window of frames against one anchor, and the anchor's own content.

    Args:
        model: with hints; with or without time.
        anchor: tokens of one image.
        frames: tokens of [frames] images, in order.
        hints: of the pairs.
        own: the anchor's content [1, height, width, 3], where an earlier window of the same anchor has found it.
    """
    if own is None:
        own = _anchor_content(model, anchor, still_hints(_first(hints)))
    return model.decode_with_anchor(anchor, frames, hints, own)


def _anchor_content(model: St4RTrack, anchor: Tokens, still: Hints) -> Pointmap:
    """The anchor with itself, once for all frames; it is one moment, so time has no part in it."""
    features, _ = model.decoder(anchor, anchor, still.anchor_maps, still.frame_maps)
    raw = model.tracking_head(features, anchor.grid, still.anchor_maps)
    return Pointmap(points_on_rays(raw, still.anchor_log_depth, still.rays), confidence(raw[:, 3]))


def _first(hints: Hints) -> Hints:
    return Hints(**{name: value[:1] for name, value in vars(hints).items()})
