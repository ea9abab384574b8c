"""St4RTrack network: from an anchor and a frame image to two pointmaps in the anchor camera frame at the frame time.

Shared encoder, twin decoders, two heads (paper section 3.1, Fig. 2). Released weights are trained for the formulas of
`released_points`; a network with hints predicts residual corrections of base geometry instead (`points_on_base`). A network with
the head "monocular" has no decoders: its pointmaps are that base geometry with monocular depth (`monocular_pairs.py`).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from st4rtrack.model.config import ModelConfig
from st4rtrack.model.decoder import TwinDecoder
from st4rtrack.model.encoder import PyramidEncoder, Tokens, make_encoder
from st4rtrack.model.heads import ConvHead, DptHead
from st4rtrack.model.hints import Hints, estimate_hints, sample_by_flow, still_hints
from st4rtrack.model.hub_model import HubModel
from st4rtrack.model.matching import MatchingHead
from st4rtrack.model.monocular import MonocularHead, MonocularNetwork
from st4rtrack.model.monocular_pairs import MIN_DEPTH, anchor_pointmap, pair_pointmaps
from st4rtrack.timing import timed
from st4rtrack.types import MonocularDepth, Pointmap, TwoPointmaps

HINT_OUTPUT_CHANNELS = 10
"""Raw channels of a network with hints, see `points_on_rays` and `points_on_base`; channel 3 is the confidence. Channels 0, 1,
7 and 8 were ray offsets and are unused, so that every point projects to its pixel."""


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
            channels = HINT_OUTPUT_CHANNELS if config.hints else 4
            self.tracking_head = head(config, channels)
            self.reconstruction_head = head(config, channels)
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
        """Predict monocular depth, focal length and depth error of encoded images.

        Raises:
            ValueError: the network has no monocular head.
        """
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
        if hints is not None:
            return self.decode_with_anchor(anchor_tokens, frame_tokens, hints)[0]
        raw_tracking, raw_reconstruction = self._raw(anchor_tokens, frame_tokens, None)
        return TwoPointmaps(
            Pointmap(released_points(raw_tracking), confidence(raw_tracking[:, 3])),
            Pointmap(released_points(raw_reconstruction), confidence(raw_reconstruction[:, 3])),
        )

    @timed("decoder", settles=True)
    def decode_reconstruction(self, anchor_tokens: Tokens, frame_tokens: Tokens, hints: Hints | None = None) -> Pointmap:
        """Predict only the reconstruction of `decode`, without the tracking head."""
        self._require_pair(anchor_tokens, frame_tokens, hints)
        if self.config.head == "monocular":
            return self.decode(anchor_tokens, frame_tokens, hints).reconstruction
        frame_maps = None if hints is None else hints.frame_maps
        _, features = self.decoder(anchor_tokens, frame_tokens, None if hints is None else hints.anchor_maps, frame_maps)
        raw = self.reconstruction_head(features, anchor_tokens.grid, frame_maps, frame_tokens.levels)
        return Pointmap(released_points(raw) if hints is None else reconstruction_on_rays(raw, hints)[1], confidence(raw[:, 3]))

    @timed("decoder", settles=True)
    def decode_with_anchor(
        self,
        anchor_tokens: Tokens,
        frame_tokens: Tokens,
        hints: Hints,
        anchor_points: Pointmap | None = None,
        *,
        keep_known: bool = True,
    ) -> tuple[TwoPointmaps, Pointmap]:
        """Predict the pointmaps with hints, and the anchor content at the anchor time, from which tracking starts.

        Args:
            anchor_points: that anchor content, [1 or batch, height, width, 3], from an earlier call, as all frames of an anchor
                share it. If `None`, it is decoded from the pair (anchor, anchor).
            keep_known: without decoders, replace monocular depth by known depth where there is some; `False` for training.
        """
        if self.config.head == "monocular":
            depths = [] if anchor_points is not None else [self.monocular(anchor_tokens)]
            depths.append(self.monocular(frame_tokens))
            with torch.autocast(depths[0].log_depth.device.type, enabled=False):
                anchor_points = anchor_points or anchor_pointmap(depths[0], hints, keep_known=keep_known)
                return pair_pointmaps(depths[-1], hints, anchor_points, keep_known=keep_known), anchor_points
        if anchor_points is None:
            still = still_hints(hints)
            frames = anchor_tokens.expand(still.frame_maps.shape[0])
            features, _ = self.decoder(anchor_tokens, frames, still.anchor_maps, still.frame_maps)
            raw_still = self.tracking_head(features, anchor_tokens.grid, still.anchor_maps, anchor_tokens.levels)
            anchor_points = Pointmap(points_on_rays(raw_still, still.anchor_log_depth, still.rays), confidence(raw_still[:, 3]))
        raw_tracking, raw_reconstruction = self._raw(anchor_tokens, frame_tokens, hints)
        with torch.autocast(raw_tracking.device.type, enabled=False):  # geometry stays in float32 when training in bfloat16
            tracking, reconstruction = points_on_base(raw_tracking, raw_reconstruction, anchor_points.points_world, hints)
        maps = TwoPointmaps(
            Pointmap(tracking, confidence(raw_tracking[:, 3])), Pointmap(reconstruction, confidence(raw_reconstruction[:, 3]))
        )
        return maps, anchor_points

    def _require_pair(self, anchor_tokens: Tokens, frame_tokens: Tokens, hints: Hints | None) -> None:
        if anchor_tokens.grid != frame_tokens.grid:
            raise ValueError(f"anchor and frame differ in size: {anchor_tokens.grid} and {frame_tokens.grid} patches")
        if self.config.hints and hints is None:
            raise ValueError("this network was trained with hints: pass model.hints(anchor_images, frame_images)")

    def _raw(self, anchor_tokens: Tokens, frame_tokens: Tokens, hints: Hints | None) -> tuple[Tensor, Tensor]:
        """Compute the raw channels [batch, channels, height, width] of both heads."""
        anchor_maps, frame_maps = (None, None) if hints is None else (hints.anchor_maps, hints.frame_maps)
        tracking, reconstruction = self.decoder(anchor_tokens, frame_tokens, anchor_maps, frame_maps)
        return (
            self.tracking_head(tracking, anchor_tokens.grid, anchor_maps, anchor_tokens.levels),
            self.reconstruction_head(reconstruction, anchor_tokens.grid, frame_maps, frame_tokens.levels),
        )


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


def points_on_base(
    raw_tracking: Tensor, raw_reconstruction: Tensor, anchor_points: Tensor, hints: Hints
) -> tuple[Tensor, Tensor]:
    """Points [batch, height, width, 3] of both branches as residual corrections of the base geometry.

    Reconstruction: see `reconstruction_on_rays`.
    Tracking: static content stays at `anchor_points`, so that all frames share one anchor depth. Where the flow gate is open, a
    point lies on the ray of frame j at the flow target: either at the ray point nearest to its anchor position (no motion along
    the ray), or at the depth of frame j there. Raw channels: flow gate (5), gate of the depth of frame j (6), log depth along the
    ray (9).
    """
    in_frame, reconstruction = reconstruction_on_rays(raw_reconstruction, hints)
    rotation, translation = hints.anchor_from_frame[:, :3, :3], hints.anchor_from_frame[:, None, None, :3, 3]
    followed = sample_by_flow(in_frame.permute(0, 3, 1, 2), hints.forward_flow).permute(0, 2, 3, 1)
    depth = followed[..., 2:].clamp(min=MIN_DEPTH)
    ray = torch.einsum("bij,bhwj->bhwi", rotation, F.pad(followed[..., :2] / depth, (0, 1), value=1.0))
    nearest = ((anchor_points - translation) * ray).sum(-1, keepdim=True) / ray.square().sum(-1, keepdim=True)
    nearest = nearest.clamp(min=MIN_DEPTH)
    in_depth, further = torch.sigmoid(raw_tracking[:, 6])[..., None], raw_tracking[:, 9, ..., None].clamp(-2, 2)
    on_ray = translation + ray * nearest * (depth / nearest) ** in_depth * further.exp()
    # the forward-backward check only initialises the gate: long flow chains rarely have a zero cycle error
    gate = torch.sigmoid(raw_tracking[:, 5] + 4 * hints.consistency - 2)[..., None]
    return anchor_points + gate * (on_ray - anchor_points), reconstruction


def reconstruction_on_rays(raw: Tensor, hints: Hints) -> tuple[Tensor, Tensor]:
    """Points [batch, height, width, 3] of a frame in its camera and in the anchor camera, each on the ray of its pixel."""
    in_frame = points_on_rays(raw, hints.frame_log_depth, hints.rays)
    rotation, translation = hints.anchor_from_frame[:, :3, :3], hints.anchor_from_frame[:, None, None, :3, 3]
    return in_frame, torch.einsum("bij,bhwj->bhwi", rotation, in_frame) + translation


def points_on_rays(raw: Tensor, known_log_depth: Tensor, rays: Tensor) -> Tensor:
    """Points [batch, height, width, 3] on `rays`, in the coordinates of their camera.

    Raw channels: log depth (2), gate of the known depth (4).
    """
    log_depth = raw[:, 2] + torch.sigmoid(raw[:, 4]) * known_log_depth
    return rays * log_depth.clamp(-6, 6).exp()[..., None]
