"""St4RTrack network: from an anchor and a frame image to two pointmaps in the anchor camera frame at the frame time.

Shared encoder, twin decoders, two heads (paper section 3.1, Fig. 2). A network with the head "monocular" has no decoders: its
pointmaps are classical two-view geometry (`hints.py`) with monocular depth (`monocular_pairs.py`).
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from st4rtrack.model.config import ModelConfig
from st4rtrack.model.encoder import PyramidEncoder, Tokens, make_encoder
from st4rtrack.model.heads import ConvHead, DptHead
from st4rtrack.model.hints import Hints, estimate_hints
from st4rtrack.model.hub_model import HubModel
from st4rtrack.model.layers import LAYER_NORM_EPS, DecoderBlock, Rope2D
from st4rtrack.model.matching import MatchingHead
from st4rtrack.model.monocular import MonocularHead, MonocularNetwork
from st4rtrack.model.monocular_pairs import anchor_pointmap, pair_pointmaps
from st4rtrack.timing import timed
from st4rtrack.types import MonocularDepth, Pointmap, TwoPointmaps


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


class St4RTrack(HubModel, nn.Module):
    """St4RTrack network. Computes in the type of its weights up to the last head layer; points and confidence are float32.

    Attributes:
        config: architecture.
        name: name of the weights, for reports.
        weights_hash: hash of the loaded weights, "" if none were loaded.
        decoder, tracking_head, reconstruction_head: absent with the head "monocular".
        monocular_head: `None` without `config.monocular`.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.name = "untrained"
        self.weights_hash = ""
        self.encoder = make_encoder(config)
        if config.head != "monocular":
            self.decoder = TwinDecoder(config)
            head = DptHead if config.head == "dpt" else ConvHead
            self.tracking_head = head(config)
            self.reconstruction_head = head(config)
        self.monocular_head = MonocularHead(config) if config.monocular else None
        self.matching_head = MatchingHead() if config.matching else None

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """Floating-point type of the weights."""
        return next(self.parameters()).dtype

    def forward(self, anchor_images: Tensor, frame_images: Tensor) -> TwoPointmaps:
        """Predict the pointmaps of image pairs.

        Args:
            anchor_images, frame_images: [batch, 3, height, width] in [-1, 1], sides multiples of the patch size, any orientation.
        Returns:
            `TwoPointmaps` of float32 tensors, `points_world` [batch, height, width, 3], `confidence` [batch, height, width].
        Raises:
            ValueError: shapes differ, or a side is not a multiple of the patch size.
        """
        if anchor_images.shape != frame_images.shape:
            raise ValueError(f"image batches differ in shape: {list(anchor_images.shape)} and {list(frame_images.shape)}")
        hints = self.hints(anchor_images, frame_images)
        return self.decode(self.encode(anchor_images), self.encode(frame_images), hints)

    @timed("encoder", settles=True)
    def encode(self, images: Tensor) -> Tokens:
        """Encode images [batch, 3, height, width] in [-1, 1]; the tokens are reused in every pair of an image."""
        patch = self.config.size_multiple
        if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] % patch or images.shape[3] % patch or not images.numel():
            raise ValueError(
                f"images must be [batch, 3, height, width] with sides multiples of {patch}, got {list(images.shape)}"
            )
        return self.encoder(images)

    def monocular(self, tokens: Tokens) -> MonocularDepth:
        """Predict monocular depth, focal length and depth error of encoded images."""
        if self.monocular_head is None:
            raise ValueError("this network has no monocular head; its configuration needs monocular=True")
        return self.monocular_head(tokens.levels)

    def monocular_network(self) -> MonocularNetwork:
        """Encoder and monocular head as a network that shares their weights.

        Raises:
            ValueError: the network has no monocular head.
        """
        if self.monocular_head is None or not isinstance(self.encoder, PyramidEncoder):
            raise ValueError("this network has no monocular head; its configuration needs monocular=True")
        with torch.device("meta"):
            network = MonocularNetwork(self.config)
        network.encoder, network.monocular_head = self.encoder, self.monocular_head
        network.matching_head = self.matching_head
        network.name, network.weights_hash = self.name, self.weights_hash
        return network.eval()

    def hints(self, anchor_images: Tensor, frame_images: Tensor) -> Hints | None:
        """Estimate hints from images [batch, 3, height, width]; `None` for a network without hints."""
        if not self.config.hints:
            return None
        return estimate_hints(anchor_images.expand_as(frame_images), frame_images)

    @timed("decoder", settles=True)
    def decode(self, anchor_tokens: Tokens, frame_tokens: Tokens, hints: Hints | None = None) -> TwoPointmaps:
        """Predict the pointmaps of image pairs from tokens.

        Args:
            anchor_tokens: tokens of one image (for all frames), or of one per frame.
            frame_tokens: tokens of [batch] images.
            hints: `model.hints(...)` of the same images; required by a network with hints.
        Returns:
            As `forward`.
        Raises:
            ValueError: hints are missing, or the grids differ.
        """
        self._require_pair(anchor_tokens, frame_tokens, hints)
        if self.config.head == "monocular":
            assert hints is not None
            depths = self.monocular(anchor_tokens), self.monocular(frame_tokens)
            with torch.autocast(self.device.type, enabled=False):
                return pair_pointmaps(depths[1], hints, anchor_pointmap(depths[0], hints))
        tracking, reconstruction = self.decoder(anchor_tokens, frame_tokens)
        raw_tracking = self.tracking_head(tracking, anchor_tokens.grid)
        return TwoPointmaps(
            Pointmap(released_points(raw_tracking), confidence(raw_tracking[:, 3])),
            self._reconstruction(reconstruction, anchor_tokens.grid),
        )

    @timed("decoder", settles=True)
    def decode_reconstruction(self, anchor_tokens: Tokens, frame_tokens: Tokens, hints: Hints | None = None) -> Pointmap:
        """Predict only the reconstruction of `decode`, without the tracking head."""
        self._require_pair(anchor_tokens, frame_tokens, hints)
        if self.config.head == "monocular":
            return self.decode(anchor_tokens, frame_tokens, hints).reconstruction
        return self._reconstruction(self.decoder(anchor_tokens, frame_tokens)[1], anchor_tokens.grid)

    def _require_pair(self, anchor_tokens: Tokens, frame_tokens: Tokens, hints: Hints | None) -> None:
        if anchor_tokens.grid != frame_tokens.grid:
            raise ValueError(f"anchor and frame differ in size: {anchor_tokens.grid} and {frame_tokens.grid} patches")
        if self.config.hints and hints is None:
            raise ValueError("this network needs hints: pass model.hints(anchor_images, frame_images)")

    def _reconstruction(self, features: list[Tensor], grid: tuple[int, int]) -> Pointmap:
        raw = self.reconstruction_head(features, grid)
        return Pointmap(released_points(raw), confidence(raw[:, 3]))


def network_of(config: ModelConfig, weights: Mapping[str, Tensor] | None = None) -> St4RTrack:
    """Network for inference that uses the tensors of `weights` (a `state_dict()`) in place; `None`: weights without memory."""
    with torch.device("meta"):
        model = St4RTrack(config)
    if weights is not None:
        model.load_state_dict(weights, assign=True)
    return model.eval()


def released_points(raw: Tensor) -> Tensor:
    """Points [batch, height, width, 3] from raw channels [batch, 4, height, width] as in the release.

    The direction is that of the raw vector, the distance is exp(norm) - 1.
    """
    xyz = raw[:, :3].permute(0, 2, 3, 1)
    distance = xyz.norm(dim=-1, keepdim=True)
    return xyz / distance.clamp(min=1e-8) * torch.expm1(distance)


def confidence(raw: Tensor) -> Tensor:
    """Confidence [batch, height, width] > 1 from its raw channel, 1 + exp(raw)."""
    return 1 + raw.exp()
